//! CloudFront's invalidations of one distribution, each in progress for a moment: docs.aws.amazon.com/cloudfront/latest/APIReference/API_CreateInvalidation.html.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::{Call, Fake};

/// The distribution that it has.
pub const DISTRIBUTION: &str = "EDFDVBD6EXAMPLE";
/// How long an invalidation is in progress.
const LASTS: Duration = Duration::from_millis(500);
const MOST_PATHS: usize = 3_000;
const MOST_WILDCARDS: usize = 15;

/// By its name at the caller.
type Invalidations = Arc<Mutex<BTreeMap<String, Invalidation>>>;

#[derive(Clone)]
struct Invalidation {
    id: String,
    paths: Vec<String>,
    created: Instant,
}

/// Starts one.
pub async fn start() -> Fake {
    let invalidations = Invalidations::default();
    Fake::serve(|fake| {
        Router::new()
            .route("/2020-05-31/distribution/{id}/invalidation", post(create))
            .route("/2020-05-31/distribution/{id}/invalidation/{invalidation}", get(show))
            .with_state((fake, invalidations))
    })
    .await
}

async fn create(
    State((fake, invalidations)): State<(Fake, Invalidations)>,
    Path(distribution): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    if let Some(status) = fake.forced() {
        return error(status, "ServiceUnavailable", "out of order");
    }
    if !headers.contains_key("authorization") {
        return error(StatusCode::FORBIDDEN, "MissingAuthenticationToken", "Missing Authentication Token");
    }
    if distribution != DISTRIBUTION {
        return error(
            StatusCode::NOT_FOUND,
            "NoSuchDistribution",
            "The specified distribution does not exist.",
        );
    }
    let (reference, paths) = (between(&body, "CallerReference").concat(), between(&body, "Path"));
    let mut invalidations = invalidations.lock().expect("invalidations");
    if let Some(known) = invalidations.get(&reference) {
        if known.paths == paths {
            return (StatusCode::CREATED, known.xml(&reference)).into_response();
        }
        fake.kept().wrong.push(format!("{reference} names something else"));
        return error(StatusCode::BAD_REQUEST, "InvalidationBatchAlreadyExists", "Already exists");
    }
    let in_progress = invalidations.values().filter(|one| one.in_progress()).flat_map(|one| &one.paths);
    let (wildcards, files): (Vec<&String>, Vec<&String>) =
        in_progress.chain(&paths).partition(|path| path.ends_with('*'));
    if files.len() > MOST_PATHS || wildcards.len() > MOST_WILDCARDS {
        let why = format!("{} paths and {} wildcards in progress", files.len(), wildcards.len());
        fake.kept().wrong.push(why);
        return error(StatusCode::BAD_REQUEST, "TooManyInvalidationsInProgress", "Too many");
    }
    fake.kept().calls.push(Call::now("files", paths.clone(), false));
    let created =
        Invalidation { id: format!("I{}", invalidations.len() + 1), paths, created: Instant::now() };
    let answer = created.xml(&reference);
    invalidations.insert(reference, created);
    (StatusCode::CREATED, answer).into_response()
}

async fn show(
    State((_, invalidations)): State<(Fake, Invalidations)>,
    Path((_, id)): Path<(String, String)>,
) -> Response {
    let invalidations = invalidations.lock().expect("invalidations");
    match invalidations.iter().find(|(_, one)| one.id == id) {
        Some((reference, found)) => found.xml(reference).into_response(),
        None => error(StatusCode::NOT_FOUND, "NoSuchInvalidation", "There is none"),
    }
}

impl Invalidation {
    fn in_progress(&self) -> bool {
        self.created.elapsed() < LASTS
    }

    fn xml(&self, reference: &str) -> String {
        let Self { id, paths, .. } = self;
        let status = if self.in_progress() { "InProgress" } else { "Completed" };
        let items: String =
            paths.iter().map(|path| format!("<Path>{}</Path>", path.replace('&', "&amp;"))).collect();
        format!(
            "<?xml version=\"1.0\"?><Invalidation xmlns=\"http://cloudfront.amazonaws.com/doc/2020-05-31/\"><Id>{id}</Id><Status>{status}</Status>\
             <CreateTime>2026-01-01T00:00:00Z</CreateTime><InvalidationBatch><Paths><Quantity>{}</Quantity><Items>{items}</Items></Paths>\
             <CallerReference>{reference}</CallerReference></InvalidationBatch></Invalidation>",
            paths.len()
        )
    }
}

fn between(body: &str, tag: &str) -> Vec<String> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let parts = body.split(&open).skip(1);
    parts.filter_map(|part| Some(part.split_once(&close)?.0.replace("&amp;", "&"))).collect()
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"http://cloudfront.amazonaws.com/doc/2020-05-31/\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    );
    (status, body).into_response()
}
