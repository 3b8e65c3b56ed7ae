//! `POST /api/telemetry`: samples in Keelson's own rows.

use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::Json;
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access;
use crate::app::App;
use crate::auth::Caller;
use crate::idempotency::Key;
use crate::problem::{Kind, Problem};
use crate::store::{self, Part};
use crate::telemetry::{self, Body, Encoding, FilesystemRow, HostRow};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    #[derive(OpenApi)]
    #[openapi(components(schemas(HostRow, FilesystemRow)))]
    struct Schemas;
    OpenApiRouter::with_openapi(Schemas::openapi()).routes(access::telemetry(routes!(post_telemetry)))
}

/// What was taken.
#[derive(Debug, Serialize, ToSchema)]
struct Accepted {
    /// How many samples. All of the batch: it is taken whole or refused whole.
    accepted: usize,
}

/// Takes a batch of samples.
///
/// Answers 202 once the batch is stored on the bus; from then on every sample is counted exactly once. With an `Idempotency-Key` the same batch
/// may be sent again within ten minutes (after a timeout, say) and still counts once; without one a second sending counts twice.
/// `Content-Encoding` may be gzip or zstd.
#[utoipa::path(post, path = "/api/telemetry", tag = "telemetry",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    request_body(description = "At most 8 MiB and 20,000 samples", content((Body = "application/json"), (Body = "application/msgpack"))),
    responses(
        (status = 202, body = Accepted, description = "Stored"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "Malformed"),
        (status = 413, body = Problem, content_type = "application/problem+json", description = "Too large"),
        (status = 415, body = Problem, content_type = "application/problem+json", description = "Not JSON, MessagePack, gzip or zstd"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A field is invalid; `field` names it"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "The bus is away or full; nothing was dropped that was accepted"),
    ))]
async fn post_telemetry(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let encoding = encoding(&request)?;
    let key = Key::of(request.headers())?;
    let body = app.budget.read(request).await?;
    let arrived_ms = app.clock.now_ms();
    let (body, batch) = body.digest(move |bytes| telemetry::decode(bytes, encoding, arrived_ms)).await?;
    let batch = batch?;
    let accepted = batch.len();
    let part =
        Part { batch, id: key.map_or_else(store::fresh_id, |key| key.id_of(&caller, "0", &body.bytes)) };
    store::store(&app.bus, part).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { accepted })))
}

fn encoding(request: &Request) -> Result<Encoding, Problem> {
    let value = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match super::media_type(value).as_str() {
        "application/json" => Ok(Encoding::Json),
        "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => {
            Ok(Encoding::MessagePack)
        }
        _ => {
            let detail = format!(
                "Content-Type {value:?} is not read here: send application/json or application/msgpack"
            );
            Err(Problem::new(Kind::UnsupportedMediaType, detail))
        }
    }
}
