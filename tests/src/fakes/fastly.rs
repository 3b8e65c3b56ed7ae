//! Fastly's purging API for one service: www.fastly.com/documentation/reference/api/purging.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};

use super::{Call, Fake, texts};

/// The service that it has.
pub const SERVICE: &str = "SU1Z0isxPaozGVKXdv0eY";
/// The token that it takes.
pub const TOKEN: &str = "a-token-of-fastly";

const MOST_KEYS: usize = 256;
const PURGES_AN_HOUR: usize = 100_000;

/// Starts one.
pub async fn start() -> Fake {
    Fake::serve(|fake| {
        Router::new()
            .route("/service/{service}/purge", post(by_keys))
            .route("/service/{service}/purge/{key}", post(by_key))
            .route("/service/{service}/purge_all", post(all))
            .route("/purge/{*url}", post(by_url))
            .with_state(fake)
    })
    .await
}

async fn by_url(State(fake): State<Fake>, request: Request) -> Response {
    let (path, headers) = (request.uri().path_and_query().expect("a path").to_string(), request.headers());
    let url = path.trim_start_matches("/purge/").to_owned();
    take(&fake, headers, None, "files", vec![url], json!({ "status": "ok", "id": "108-1" }))
}

async fn by_key(
    State(fake): State<Fake>,
    Path((service, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    take(&fake, &headers, Some(&service), "tags", vec![key], json!({ "status": "ok", "id": "108-2" }))
}

async fn by_keys(
    State(fake): State<Fake>,
    Path(service): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let in_header = headers.get("surrogate-key").and_then(|keys| keys.to_str().ok()).unwrap_or_default();
    let mut keys = texts(&body["surrogate_keys"]);
    keys.extend(in_header.split_whitespace().map(str::to_owned));
    let answer = keys.iter().map(|key| (key.clone(), json!("108-3"))).collect();
    if keys.is_empty() || keys.len() > MOST_KEYS {
        let why = format!("{} surrogate keys: 1 to {MOST_KEYS} are taken", keys.len());
        fake.kept().wrong.push(why.clone());
        return super::json(StatusCode::BAD_REQUEST, &json!({ "msg": "Bad request", "detail": why }));
    }
    take(&fake, &headers, Some(&service), "tags", keys, Value::Object(answer))
}

async fn all(State(fake): State<Fake>, Path(service): Path<String>, headers: HeaderMap) -> Response {
    if headers.contains_key("fastly-soft-purge") {
        fake.kept().wrong.push("everything, softly".to_owned());
    }
    take(&fake, &headers, Some(&service), "all", vec!["all".to_owned()], json!({ "status": "ok" }))
}

fn take(
    fake: &Fake,
    headers: &HeaderMap,
    service: Option<&str>,
    kind: &'static str,
    items: Vec<String>,
    answer: Value,
) -> Response {
    if let Some(status) = fake.forced() {
        return super::json(status, &json!({ "msg": "out of order" }));
    }
    if headers.get("fastly-key").is_none_or(|key| key != TOKEN) {
        let said = json!({ "msg": "Provided credentials are missing or invalid" });
        return super::json(StatusCode::UNAUTHORIZED, &said);
    }
    if service.is_some_and(|service| service != SERVICE) {
        let said = json!({ "msg": "Record not found", "detail": "Cannot find service" });
        return super::json(StatusCode::NOT_FOUND, &said);
    }
    let mut kept = fake.kept();
    if !kept.has_room_within(items.len(), PURGES_AN_HOUR, Duration::from_secs(3_600)) {
        kept.wrong.push("too many purges".to_owned());
        return super::json(StatusCode::TOO_MANY_REQUESTS, &json!({ "msg": "Exceeded rate limit" }));
    }
    drop(kept);
    let soft = headers.contains_key("fastly-soft-purge");
    fake.kept().calls.push(Call::now(kind, items, soft));
    super::json(StatusCode::OK, &answer)
}
