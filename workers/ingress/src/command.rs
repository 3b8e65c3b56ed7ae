//! A command over HTTP: recorded, published, and answered with its operation. Every route that asks a worker to do something ends here.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request};
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use keelson_kit::operations::{Submission, SubmitError};
use keelson_kit::publish::fresh_id;
use keelson_schemas::id;
use keelson_schemas::message::Command;
use keelson_schemas::operation::{Operation, State};
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::openapi::{self, Content, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses};

use crate::app::App;
use crate::ask;
use crate::auth::Caller;
use crate::decode;
use crate::idempotency::Key;
use crate::problem::{Kind, Problem};

const PREFER: &str = "prefer";
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// Kept back of the deadline, so that a wait ends with the operation and not with a timeout.
const TO_ANSWER: Duration = Duration::from_secs(1);

/// The headers that every command understands.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its description is used")]
pub struct CommandHeaders {
    /// Makes the command the same one when it is sent again. 1 to 255 visible ASCII characters.
    #[param(rename = "Idempotency-Key")]
    idempotency_key: Option<String>,
    /// `wait=N`: answer with the end of the operation if it comes within N seconds.
    #[param(rename = "Prefer")]
    prefer: Option<String>,
}

/// What every command answers; a route adds what is its own.
pub struct CommandAnswers;

impl IntoResponses for CommandAnswers {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let operation = |description| described(description, "application/json", "Operation");
        let problem = |description| described(description, "application/problem+json", "Problem");
        [
            ("200", operation("It has ended, and `Prefer: wait=N` waited for that; `state` says how")),
            ("202", operation("It is accepted; `Location` shows what becomes of it")),
            ("422", problem("What the body or a header says makes no sense; nothing is done")),
            ("503", problem("The bus is away; send the same request again")),
        ]
        .map(|(status, response)| (status.to_owned(), response.into()))
        .into()
    }
}

fn described(description: &str, content_type: &str, schema: &str) -> openapi::Response {
    let content = Content::new(Some(Ref::from_schema_name(schema)));
    ResponseBuilder::new().description(description).content(content_type, content).build()
}

/// How a command was asked for, whatever it is.
#[derive(Debug, Clone)]
pub struct Asked {
    caller: Caller,
    method: String,
    path: String,
    key: Option<Key>,
    wait: Option<u64>,
}

impl Asked {
    /// The operation's id that its Idempotency-Key stands for.
    fn repeatable_id(&self) -> Option<String> {
        let key = self.key.as_ref()?;
        Some(id::operation(&self.caller.principal, &self.method, &self.path, key.as_str()))
    }
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Caller>().cloned();
        Ok(Self {
            caller: caller.ok_or_else(|| Problem::new(Kind::Internal, "nobody asked who is calling"))?,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            key: Key::of(&parts.headers)?,
            wait: preferred_wait(&parts.headers),
        })
    }
}

/// The body of a command in JSON; none is `{}`.
///
/// # Errors
/// What is wrong with it.
pub async fn body<T: DeserializeOwned>(app: &App, request: Request) -> Result<T, Problem> {
    let held = app.budget.read(request).await?;
    let bytes: &[u8] = if held.bytes.is_empty() { b"{}" } else { &held.bytes };
    Ok(decode::json(bytes)?)
}

/// Asks the owner of a command to obey it, and answers 202 with the operation and its `Location`; or 200 with its end, if `Prefer: wait=N`
/// asked for it and it came in time. How it ended is in its `state`.
///
/// First the owner is asked whether the command has a meaning, unless the command is there already: what made sense then need not now that it is done.
///
/// # Errors
/// What [`ask::check`] finds wrong; 422 when the Idempotency-Key was used for another command, 503 when the bus is away.
pub async fn ask<C: Command>(app: &App, asked: &Asked, command: &C) -> Result<Response, Problem> {
    let operation = submit(app, asked, command).await?;
    match asked.wait {
        Some(seconds) => Ok(waited(app, operation, seconds).await),
        None => Ok(accepted(operation)),
    }
}

/// Asks the owner of a command to obey it, and waits for what comes of it: for APIs that are not ours and know no operations.
///
/// # Errors
/// As [`ask`]; 400 when it is rejected, 500 when it fails, 503 when it has not ended within `within`. It may still end after that.
pub async fn obeyed<C: Command>(
    app: &App,
    asked: &Asked,
    command: &C,
    within: Duration,
) -> Result<Value, Problem> {
    let operation = submit(app, asked, command).await?;
    let ended = ended(app, &operation.id, within).await;
    outcome(ended.unwrap_or(operation))
}

fn outcome(operation: Operation) -> Result<Value, Problem> {
    let why = operation.error.unwrap_or_default();
    match operation.state {
        State::Succeeded => Ok(operation.result.unwrap_or_default()),
        State::Rejected => Err(Problem::new(Kind::Rejected, why)),
        State::Failed | State::Unknown => Err(Problem::new(Kind::Internal, why)),
        State::Accepted | State::Running => {
            let detail = format!(
                "it is accepted and not yet done; GET /api/operations/{} shows what becomes of it",
                operation.id
            );
            Err(Problem::new(Kind::NoAnswer, detail))
        }
    }
}

async fn submit<C: Command>(app: &App, asked: &Asked, command: &C) -> Result<Operation, Problem> {
    let principal = &asked.caller.principal;
    let repeatable = asked.repeatable_id();
    if !is_known(app, repeatable.as_deref()).await {
        ask::check(&app.bus, command).await?;
    }
    let id = repeatable.unwrap_or_else(fresh_id);
    let submission = Submission::of(id, command, principal.clone()).map_err(|error| {
        tracing::error!(error = %error, command = C::TYPE, "a command cannot be written");
        Problem::new(Kind::Internal, "the command cannot be written; Keelson's log says more")
    })?;
    Ok(app.bus.operations().submit(&submission).await?)
}

async fn is_known(app: &App, id: Option<&str>) -> bool {
    let Some(id) = id else { return false };
    matches!(app.bus.operations().get(id).await, Ok(Some(_)))
}

fn accepted(operation: Operation) -> Response {
    let location = format!("/api/operations/{}", operation.id);
    (StatusCode::ACCEPTED, [(LOCATION, location)], Json(operation)).into_response()
}

async fn waited(app: &App, operation: Operation, seconds: u64) -> Response {
    let seconds = seconds.min(longest_wait(app).as_secs());
    let mut response = match ended(app, &operation.id, Duration::from_secs(seconds)).await {
        Some(ended) => {
            let mut response = accepted(ended);
            *response.status_mut() = StatusCode::OK;
            response
        }
        // As far as it is by now, if that can be read.
        None => {
            let now = app.bus.operations().get(&operation.id).await;
            accepted(now.ok().flatten().unwrap_or(operation))
        }
    };
    if let Ok(applied) = HeaderValue::from_str(&format!("wait={seconds}")) {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    response
}

/// How an operation ended, if it did in time. A watch that fails or takes too long says nothing of the operation, which was accepted.
async fn ended(app: &App, id: &str, within: Duration) -> Option<Operation> {
    let mut watch = app.bus.operations().watch(id);
    let ended = tokio::time::timeout(within.min(longest_wait(app)), watch.finished()).await;
    ended.ok()?.ok()?.filter(|operation| operation.state.is_final())
}

/// A request is answered by its deadline, whatever it waits for.
fn longest_wait(app: &App) -> Duration {
    app.config.deadline().saturating_sub(TO_ANSWER)
}

/// The seconds of `Prefer: wait=N` (RFC 7240). A preference that is not understood is passed over, as the RFC asks for.
fn preferred_wait(headers: &HeaderMap) -> Option<u64> {
    let preferences = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    preferences.flat_map(|value| value.split([',', ';'])).find_map(|preference| {
        let (name, seconds) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| seconds.trim().trim_matches('"').parse().ok())?
    })
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let said = error.to_string();
        match error {
            SubmitError::OtherBody { .. } => {
                Self::new(Kind::KeyReused, format!("{said}: use a new Idempotency-Key for a new command"))
            }
            SubmitError::TooLarge(_) => Self::new(Kind::TooLarge, said),
            SubmitError::Unavailable(_) => Self::new(
                Kind::BusUnavailable,
                format!("{said}: send the same request again under an Idempotency-Key"),
            ),
            SubmitError::Refused(_) => {
                tracing::error!(error = said, "the bus refused a command");
                Self::new(Kind::Internal, said)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;
    use keelson_schemas::operation::OperationRecord;

    use super::*;

    #[test]
    fn an_api_without_operations_is_told_how_they_ended() {
        let status = |state| {
            let operation = Operation { state, ..OperationRecord::example().operation };
            outcome(operation).map_or_else(|problem| problem.status().as_u16(), |_| 200)
        };
        let cases = [
            (State::Succeeded, 200),
            (State::Rejected, 400),
            (State::Failed, 500),
            (State::Unknown, 500),
            (State::Accepted, 503),
            (State::Running, 503),
        ];
        for (state, expected) in cases {
            assert_eq!(status(state), expected, "{state:?}");
        }
    }

    #[test]
    fn a_wait_is_read_from_among_other_preferences() {
        let cases = [
            (&[][..], None),
            (&["wait=5"], Some(5)),
            (&["respond-async, Wait=10"], Some(10)),
            (&["respond-async", "wait=\"3\""], Some(3)),
            (&["handling=lenient; wait=7"], Some(7)),
            (&["wait=soon"], None),
            (&["wait=-1"], None),
            (&["await=5"], None),
        ];
        for (values, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PREFER, HeaderValue::from_static(value));
            }
            assert_eq!(preferred_wait(&headers), expected, "{values:?}");
        }
    }
}
