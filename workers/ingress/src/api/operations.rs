//! `/api/operations`: what became of commands.

#![expect(unused_qualifications, reason = "utoipa spells out the traits of parameter types")]

use std::convert::Infallible;

use axum::extract::{Query, State};
use axum::response::Json;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt, stream};
use keelson_kit::kv::KvError;
use keelson_kit::operations::OperationWatch;
use keelson_schemas::operation::{Operation, State as Standing};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access;
use crate::app::App;
use crate::path::InPath;
use crate::problem::{Kind, Problem};

/// Operations in one answer.
const MAX_LIMIT: usize = 1_000;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(access::read(routes!(list_operations)))
        .routes(access::read(routes!(get_operation)))
        .routes(access::read(routes!(watch_operation)))
}

/// Which operations are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only those in this state.
    #[param(value_type = Option<String>, example = "failed")]
    state: Option<Standing>,
    /// At most so many; 1 to 1,000.
    #[serde(default = "default_limit")]
    #[param(default = 50)]
    limit: usize,
}

fn default_limit() -> usize {
    50
}

/// Some operations.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OperationPage")]
pub(super) struct Page {
    /// The one that changed last comes first.
    operations: Vec<Operation>,
}

/// Lists operations, the one that changed last first.
#[utoipa::path(get, path = "/api/operations", tag = "operations", params(Filter), responses(
    (status = 200, body = ref("#/components/schemas/OperationPage")),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn list_operations(
    State(app): State<App>,
    filter: Result<Query<Filter>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(filter) = filter?;
    // The bucket knows no states, so all are read where one is asked for.
    let read = if filter.state.is_some() { usize::MAX } else { filter.limit.min(MAX_LIMIT) };
    let operations = app.bus.operations().list(read).await?;
    let wanted =
        operations.into_iter().filter(|operation| filter.state.is_none_or(|state| operation.state == state));
    Ok(Json(Page { operations: wanted.take(filter.limit.min(MAX_LIMIT)).collect() }))
}

/// One operation.
#[utoipa::path(get, path = "/api/operations/{id}", tag = "operations",
    params(("id" = String, Path, description = "As the Location of a command's answer names it")),
    responses(
        (status = 200, body = ref("#/components/schemas/Operation")),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    ))]
async fn get_operation(
    State(app): State<App>,
    InPath(id): InPath<String>,
) -> Result<Json<Operation>, Problem> {
    found(&app, &id).await.map(Json)
}

/// The states of one operation as they come.
///
/// Server-sent events named `operation`, each with the operation as JSON: the state it is in first, the final state always; then the stream ends.
/// A stream that breaks off may be opened again, and begins with the state the operation is in then.
#[utoipa::path(get, path = "/api/operations/{id}/events", tag = "operations",
    params(("id" = String, Path, description = "As the Location of a command's answer names it")),
    responses(
        (status = 200, description = "Server-sent events", content_type = "text/event-stream", body = String),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    ))]
async fn watch_operation(
    State(app): State<App>,
    InPath(id): InPath<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    found(&app, &id).await?;
    let watch = app.bus.operations().watch(&id);
    let draining = app.tasks.token();
    let events = stream::unfold(watch, next_event).take_until(async move { draining.cancelled().await });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// A watch that fails ends the stream; the client opens it again and misses nothing.
async fn next_event(mut watch: OperationWatch) -> Option<(Result<Event, Infallible>, OperationWatch)> {
    let operation = watch.next().await.ok()??;
    let event = Event::default().event("operation").json_data(&operation).ok()?;
    Some((Ok(event), watch))
}

async fn found(app: &App, id: &str) -> Result<Operation, Problem> {
    let none = || {
        Problem::new(Kind::NotFound, format!("there is no operation {id:?}; GET /api/operations lists them"))
    };
    if !is_id(id) {
        return Err(none());
    }
    app.bus.operations().get(id).await?.ok_or_else(none)
}

/// Ids are 32 hexadecimal digits; what is none must not become a key of the bucket.
fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl From<KvError> for Problem {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Unavailable(_) => Self::new(Kind::BusUnavailable, error.to_string()),
            other => {
                tracing::error!(error = %other, "the bus refused to be read");
                Self::new(Kind::Internal, other.to_string())
            }
        }
    }
}

impl From<axum::extract::rejection::QueryRejection> for Problem {
    fn from(rejection: axum::extract::rejection::QueryRejection) -> Self {
        Self::field("query", rejection.body_text())
    }
}
