//! `/api/monitoring`: what was counted, for people and for Prometheus.

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Json};
use keelson_schemas::totals::{PartitionSummary, PartitionTotals};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access;
use crate::app::App;
use crate::exposition::{self, Format};
use crate::monitoring::state::State as Standing;
use crate::monitoring::summary::{Summary, summarise};
use crate::monitoring::{ask_all, export};
use crate::problem::{Kind, Problem};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(access::admin(routes!(get_metrics)))
        .routes(access::read(routes!(get_prometheus)))
}

/// Requests, response times, machines and database calls of the last minute, five minutes, hour, and in total.
///
/// What is not known is null. 503 rather than a smaller number when a part of the counts cannot be asked for.
#[utoipa::path(get, path = "/api/monitoring/metrics", tag = "monitoring", responses(
    (status = 200, body = Summary),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn get_metrics(State(app): State<App>) -> Result<Json<Summary>, Problem> {
    let partitions: Vec<PartitionSummary> = ask_all(&app.bus, "summary").await?;
    off_the_runtime(move || Json(summarise(partitions))).await
}

/// The totals for Prometheus: text, OpenMetrics text, or protobuf with native histograms, as `Accept` asks for.
///
/// Counters are cumulative over restarts and takeovers; gauges say how workers and the bus stand, and are left out by who does not answer. 503 rather than a smaller number when a part of the counts cannot be asked for.
#[utoipa::path(get, path = "/api/monitoring/prometheus", tag = "monitoring", responses(
    (status = 200, content((String = "text/plain"), (String = "application/openmetrics-text"), (Vec<u8> = "application/vnd.google.protobuf"))),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn get_prometheus(State(app): State<App>, headers: HeaderMap) -> Result<impl IntoResponse, Problem> {
    let format = Format::accepted_by(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    let (partitions, standing) =
        tokio::join!(ask_all::<PartitionTotals>(&app.bus, "export"), Standing::ask(&app.bus));
    let partitions = partitions?;
    let page = off_the_runtime(move || {
        let mut families = export::families(partitions);
        families.extend(standing.families());
        exposition::encode(&families, format)
    })
    .await?;
    let content_type = HeaderValue::from_static(format.content_type());
    Ok(([(CONTENT_TYPE, content_type), (VARY, HeaderValue::from_static("accept"))], page))
}

/// A page may have hundreds of thousands of lines; making it must not hold up the requests beside it.
async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let panicked = |_| Problem::new(Kind::Internal, "Keelson failed at this page");
    tokio::task::spawn_blocking(work).await.map_err(panicked)
}
