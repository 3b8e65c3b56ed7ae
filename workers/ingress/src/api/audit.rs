//! `/api/audit`: what was commanded and what happened. It shows bodies, so it is for admins; it is read off its stream, and no worker is asked.

#![expect(unused_qualifications, reason = "utoipa spells out the traits of parameter types")]

use std::io;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use keelson_kit::audit::{Trail, Wanted};
use keelson_kit::failure::Failure;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access;
use crate::app::App;
use crate::problem::{Kind, Problem};

/// Entries in one answer.
const MAX_LIMIT: usize = 100_000;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(access::admin(routes!(list_entries)))
}

/// Which entries are listed; all of it has to hold.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// At most so many; 1 to 100,000.
    #[serde(default = "default_limit")]
    #[param(default = 100)]
    limit: usize,
    /// Only those with a higher sequence: the last one of this page, for the next.
    #[serde(default)]
    #[param(default = 0)]
    after: u64,
    /// Only those that were stored then or later.
    #[param(value_type = Option<String>)]
    since: Option<Timestamp>,
    /// Only those that were stored before.
    #[param(value_type = Option<String>)]
    until: Option<Timestamp>,
    /// Only those on this subject, perhaps with wildcards.
    subject: Option<String>,
    /// Only the commands that somebody asked for, as tokens name him; `unverified` for what anybody may have published.
    actor: Option<String>,
    /// Only the command of an operation.
    operation: Option<String>,
    /// Only those of a trace.
    trace: Option<String>,
}

fn default_limit() -> usize {
    100
}

/// Lists what was commanded and what happened, the oldest first, one JSON object a line.
#[utoipa::path(get, path = "/api/audit", tag = "audit", params(Filter), responses(
    (status = 200, description = "JSON lines, each as the schema AuditEntry", content_type = "application/x-ndjson", body = ref("#/components/schemas/AuditEntry")),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn list_entries(
    State(app): State<App>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(filter) = filter?;
    let limit = filter.limit.clamp(1, MAX_LIMIT);
    let trail = app.bus.audit(wanted(filter)?).await.map_err(Failure::from)?;
    let draining = app.tasks.token();
    let lines = lines(trail).take(limit).take_until(async move { draining.cancelled().await });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

fn wanted(filter: Filter) -> Result<Wanted, Problem> {
    if let (Some(since), Some(until)) = (filter.since, filter.until)
        && since >= until
    {
        let detail = format!("since: {since} is not before until, {until}");
        return Err(Problem::new(Kind::InvalidField, detail));
    }
    let is_subject = |subject: &String| {
        subject.split('.').all(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))
    };
    if let Some(subject) = filter.subject.as_ref().filter(|subject| !is_subject(subject)) {
        return Err(Problem::new(
            Kind::InvalidField,
            format!("subject: {subject:?} is none, such as keelson.cmd.cdn.*"),
        ));
    }
    Ok(Wanted {
        after: filter.after,
        since_ms: filter.since.map(milliseconds),
        until_ms: filter.until.map(milliseconds),
        subject: filter.subject,
        actor: filter.actor,
        operation: filter.operation,
        trace: filter.trace,
    })
}

fn milliseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or_default()
}

/// An error in the midst breaks the answer off, which who reads it sees.
fn lines(trail: Trail) -> impl Stream<Item = Result<Bytes, io::Error>> {
    stream::try_unfold(trail, |mut trail| async move {
        let Some(entry) = trail.next().await.map_err(io::Error::other)? else { return Ok(None) };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        Ok(Some((Bytes::from(line), trail)))
    })
}
