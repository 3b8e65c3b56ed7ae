//! `/api/dead-letters`: what could not be processed, why, and trying it again. They show bodies, so all of it is for admins.
//!
//! They are read off their stream and not asked of the steward: when a worker is down is when one wants to see them.

#![expect(unused_qualifications, reason = "utoipa spells out the traits of parameter types")]

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::response::{Json, Response};
use keelson_kit::dead_letter::STREAM;
use keelson_kit::failure::Failure;
use keelson_kit::follow::FollowError;
use keelson_schemas::dead_letter::{Found, Redrive};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access;
use crate::app::App;
use crate::command::{self, Asked, CommandAnswers, CommandHeaders};
use crate::path::InPath;
use crate::problem::{Kind, Problem};

/// Letters in one answer.
const MAX_LIMIT: u64 = 1_000;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(access::admin(routes!(list_dead_letters)))
        .routes(access::admin(routes!(get_dead_letter)))
        .routes(access::admin(routes!(redrive)))
}

/// Which letters are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// At most so many; 1 to 1,000.
    #[serde(default = "default_limit")]
    #[param(default = 50)]
    limit: u64,
    /// Only those with a lower sequence, for the next page.
    before: Option<u64>,
}

fn default_limit() -> u64 {
    50
}

/// Some dead letters.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeadLetterPage")]
pub(super) struct Page {
    /// The newest first.
    letters: Vec<Found>,
}

/// Lists dead letters, the newest first.
#[utoipa::path(get, path = "/api/dead-letters", tag = "dead letters", params(Filter), responses(
    (status = 200, body = ref("#/components/schemas/DeadLetterPage")),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn list_dead_letters(
    State(app): State<App>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(filter) = filter?;
    let limit = filter.limit.min(MAX_LIMIT);
    let last = app.bus.stream_info(STREAM).await.map_err(Failure::from)?.last_sequence;
    let before = filter.before.unwrap_or(u64::MAX).min(last.saturating_add(1));
    let after = before.saturating_sub(limit.saturating_add(1));
    let found = app.bus.dead_letters(after, limit as usize).await?;
    let letters = found.into_iter().rev().filter(|found| found.sequence < before).collect();
    Ok(Json(Page { letters }))
}

/// One dead letter with its headers and body.
#[utoipa::path(get, path = "/api/dead-letters/{sequence}", tag = "dead letters",
    params(("sequence" = u64, Path, description = "As the list numbers it")),
    responses(
        (status = 200, body = ref("#/components/schemas/Found")),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    ))]
async fn get_dead_letter(
    State(app): State<App>,
    InPath(sequence): InPath<u64>,
) -> Result<Json<Found>, Problem> {
    let letter = app.bus.dead_letter(sequence).await?;
    let none = || {
        Problem::new(
            Kind::NotFound,
            format!("there is no dead letter {sequence}; GET /api/dead-letters lists them"),
        )
    };
    Ok(Json(Found { sequence, letter: letter.ok_or_else(none)? }))
}

/// There is nothing to say beside the number.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Publishes a dead letter's message again on its own subject.
#[utoipa::path(post, path = "/api/dead-letters/{sequence}/redrive", tag = "dead letters",
    params(("sequence" = u64, Path, description = "As the list numbers it"), CommandHeaders),
    responses(
        CommandAnswers,
    ))]
async fn redrive(
    State(app): State<App>,
    InPath(sequence): InPath<u64>,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let Nothing {} = command::body(&app, request).await?;
    command::ask(&app, &asked, &Redrive { sequence }).await
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Retry { reason, .. } => Self::new(Kind::BusUnavailable, reason),
            Failure::Reject { reason }
            | Failure::GiveUp { reason }
            | Failure::Decline { reason }
            | Failure::Unknown { reason } => {
                tracing::error!(error = reason, "the bus refused to be read");
                Self::new(Kind::Internal, reason)
            }
        }
    }
}

impl From<FollowError> for Problem {
    fn from(error: FollowError) -> Self {
        Self::new(Kind::BusUnavailable, error.to_string())
    }
}
