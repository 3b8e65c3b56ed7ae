//! `POST /v1/traces`: OTLP/HTTP, at the path where every OpenTelemetry SDK sends it.

use std::collections::HashMap;

use axum::extract::{Extension, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::middleware::Next;
use axum::response::Response;
use keelson_schemas::id;
use keelson_schemas::telemetry::Batch;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access;
use crate::app::App;
use crate::auth::Caller;
use crate::otlp::{self, Converted, Encoding, reply};
use crate::problem::{Kind, Problem};
use crate::store::{self, Part};

const PATH: &str = "/v1/traces";
/// Services and their instances in one request. An SDK sends one; a collector in front of many services sends some.
const MAX_PARTS: usize = 1_000;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(access::telemetry(routes!(post_traces)))
}

/// Takes spans from any OpenTelemetry SDK.
///
/// SERVER spans of HTTP count as requests, CLIENT spans of databases as database calls, under old and new semantic-convention names;
/// all others are accepted and not counted. The route is `http.route`, else the template in the span's name, else `__unrouted__`: never the
/// path. A span that cannot be counted is left out and reported in `partial_success`. The same request sent again within ten minutes counts once.
/// Errors are `google.rpc.Status` in the encoding of the request.
#[utoipa::path(post, path = "/v1/traces", tag = "telemetry",
    request_body(description = "ExportTraceServiceRequest of at most 8 MiB; Content-Encoding may be gzip or zstd",
        content((Vec<u8> = "application/x-protobuf"), (Object = "application/json"))),
    responses(
        (status = 200, description = "ExportTraceServiceResponse, stored"),
        (status = 400, description = "google.rpc.Status: malformed"),
        (status = 413, description = "google.rpc.Status: too large"),
        (status = 415, description = "google.rpc.Status: neither protobuf nor JSON"),
        (status = 401, description = "google.rpc.Status: a valid token is needed"),
        (status = 403, description = "google.rpc.Status: the token does not allow this"),
        (status = 429, description = "google.rpc.Status: too much at once; SDKs try again"),
        (status = 500, description = "google.rpc.Status: Keelson failed"),
        (status = 503, description = "google.rpc.Status: the bus is away; SDKs try again"),
    ))]
async fn post_traces(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let encoding = encoding(request.headers()).ok_or_else(|| {
        Problem::new(Kind::UnsupportedMediaType, "send application/x-protobuf or application/json")
    })?;
    let body = app.budget.read(request).await?;
    let now_ms = app.clock.now_ms();
    let (body, converted) = body.digest(move |bytes| convert(bytes, encoding, now_ms)).await?;
    let converted = converted?;
    let parts = parts(converted.batches, &caller, &body.bytes)?;
    store::store_all(&app.bus, parts).await?;
    Ok(reply::taken(encoding, converted.odd, converted.reason.as_deref()))
}

fn convert(body: &[u8], encoding: Encoding, now_ms: u64) -> Result<Converted, Problem> {
    let request = otlp::decode(body, encoding).map_err(|reason| {
        Problem::new(Kind::Malformed, format!("the body is no ExportTraceServiceRequest: {reason}"))
    })?;
    Ok(otlp::convert(&request, now_ms))
}

/// SDKs send no Idempotency-Key; span ids make a body unique, so its hash stands in for one.
fn parts(batches: Vec<Batch>, caller: &Caller, body: &[u8]) -> Result<Vec<Part>, Problem> {
    if batches.len() > MAX_PARTS {
        let detail = format!("a request may have {MAX_PARTS} services and instances: send it in parts");
        return Err(Problem::new(Kind::TooLarge, detail));
    }
    let body = id::body_hash(body);
    let mut seen = HashMap::<(String, String), usize>::new();
    let parts = batches.into_iter().map(|batch| {
        // By name and not by place: which parts there are may differ when the body comes again later.
        let nth = seen.entry((batch.service.clone(), batch.instance.clone())).or_default();
        *nth += 1;
        let named = [&caller.principal, &body, &batch.service, &batch.instance, &nth.to_string()];
        Part { id: id::derive("otlp", &named.map(|part: &String| part.as_str())), batch }
    });
    Ok(parts.collect())
}

fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok())?;
    match super::media_type(value).as_str() {
        "application/x-protobuf" => Some(Encoding::Protobuf),
        "application/json" => Some(Encoding::Json),
        _ => None,
    }
}

/// Says every problem at this path, whichever layer it comes from, as OTLP wants it said.
pub async fn speak_otlp(request: Request, next: Next) -> Response {
    if request.uri().path() != PATH {
        return next.run(request).await;
    }
    let encoding = encoding(request.headers()).unwrap_or(Encoding::Json);
    let response = next.run(request).await;
    match response.extensions().get::<Problem>() {
        Some(problem) => reply::refused(encoding, problem, response.headers().get(RETRY_AFTER)),
        None => response,
    }
}
