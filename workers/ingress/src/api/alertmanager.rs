//! `/api/v2`: the part of Alertmanager's API v2 with which alerts are read and silenced, for amtool and for dashboards that know Alertmanager.

#![expect(unused_qualifications, reason = "utoipa spells out the traits of parameter types")]

use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Json, Response};
use keelson_schemas::alerting::{Alerts, ExpireSilence, Groups, Rules, Silence, Silences};
use schemars::SchemaGenerator;
use utoipa::{IntoParams, IntoResponses};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access;
use crate::alerting::{ask_any, ask_owner};
use crate::alertmanager::shape::{
    self, AlertGroups, AlertmanagerStatus, GettableAlerts, GettableSilence, GettableSilences,
    PostableSilence, PostedSilence, Receivers,
};
use crate::alertmanager::{AlertFilter, BadMatcher, SilenceFilter};
use crate::app::App;
use crate::command::{self, Asked};
use crate::path::InPath;
use crate::problem::{Kind, Problem};

const PREFIX: &str = "/api/v2/";
/// How long a client of an API without operations is kept waiting.
const OBEYED_WITHIN: Duration = Duration::from_secs(5);

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(access::read(routes!(v2_status)))
        .routes(access::read(routes!(v2_receivers)))
        .routes(access::read(routes!(v2_alerts)))
        .routes(access::read(routes!(v2_alert_groups)))
        .routes(access::read(routes!(v2_silences)))
        .routes(access::admin(routes!(v2_set_silence)))
        .routes(access::read(routes!(v2_silence)))
        .routes(access::admin(routes!(v2_expire_silence)))
}

/// Adds the types of these routes to the description.
pub(super) fn describe(generator: &mut SchemaGenerator) {
    generator.subschema_for::<(AlertmanagerStatus, Receivers, GettableAlerts, AlertGroups)>();
    generator.subschema_for::<(GettableSilences, GettableSilence, PostableSilence, PostedSilence)>();
}

/// The query of the lists of alerts, for the description; [`AlertFilter`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
struct AlertQuery {
    /// Whether alerts are listed that are neither silenced nor inhibited; true
    active: Option<bool>,
    /// Whether silenced alerts are listed; true
    silenced: Option<bool>,
    /// Whether inhibited alerts are listed; true
    inhibited: Option<bool>,
    /// Only for receivers whose whole name this regular expression matches.
    receiver: Option<String>,
    /// Only those that this matcher matches (`name=value`, `name!=value`, `name=~regex`, `name!~regex`); may be repeated.
    filter: Option<Vec<String>>,
}

/// The query of the list of silences, for the description; [`SilenceFilter`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
struct SilenceQuery {
    /// Only those that have this matcher; may be repeated.
    filter: Option<Vec<String>>,
}

/// Refusals are as Alertmanager's: a sentence as a JSON string.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its description is used")]
enum Refusals {
    /// A filter, a matcher or a silence that cannot be.
    #[response(status = 400)]
    BadRequest(String),
    /// A valid token is needed.
    #[response(status = 401)]
    Unauthenticated(String),
    /// The token does not allow this.
    #[response(status = 403)]
    Forbidden(String),
    /// There is no such silence.
    #[response(status = 404)]
    NotFound(String),
    /// Too many requests.
    #[response(status = 429)]
    RateLimited(String),
    /// Keelson failed.
    #[response(status = 500)]
    Internal(String),
    /// The alerting worker or the bus does not answer.
    #[response(status = 503)]
    Unavailable(String),
}

/// Alertmanager's API: how Keelson stands, since when, and by which configuration (TOML).
#[utoipa::path(get, path = "/api/v2/status", tag = "alertmanager", responses(
    (status = 200, body = ref("#/components/schemas/AlertmanagerStatus")), Refusals))]
async fn v2_status(State(app): State<App>) -> Result<Json<AlertmanagerStatus>, Problem> {
    let rules: Rules = ask_owner(&app.bus, "rules").await?;
    Ok(Json(shape::status(rules, app.started_at_ms)))
}

/// Alertmanager's API: all receivers.
#[utoipa::path(get, path = "/api/v2/receivers", tag = "alertmanager", responses(
    (status = 200, body = ref("#/components/schemas/Receivers")), Refusals))]
async fn v2_receivers(State(app): State<App>) -> Result<Json<Receivers>, Problem> {
    let rules: Rules = ask_owner(&app.bus, "rules").await?;
    Ok(Json(Receivers::of(&rules.receivers)))
}

/// Alertmanager's API: the alerts that fire.
#[utoipa::path(get, path = "/api/v2/alerts", tag = "alertmanager", params(AlertQuery), responses(
    (status = 200, body = ref("#/components/schemas/GettableAlerts")), Refusals))]
async fn v2_alerts(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<GettableAlerts>, Problem> {
    let filter = AlertFilter::of(query.as_deref().unwrap_or_default())?;
    let alerts: Alerts = ask_owner(&app.bus, "alerts").await?;
    Ok(Json(shape::alerts(&alerts, &filter)))
}

/// Alertmanager's API: the alerts that fire, in the groups in which they are notified.
#[utoipa::path(get, path = "/api/v2/alerts/groups", tag = "alertmanager", params(AlertQuery), responses(
    (status = 200, body = ref("#/components/schemas/AlertGroups")), Refusals))]
async fn v2_alert_groups(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<AlertGroups>, Problem> {
    let filter = AlertFilter::of(query.as_deref().unwrap_or_default())?;
    let (groups, alerts) =
        futures::try_join!(ask_owner::<Groups>(&app.bus, "groups"), ask_owner::<Alerts>(&app.bus, "alerts"))?;
    Ok(Json(shape::groups(&groups, &alerts, &filter)))
}

/// Alertmanager's API: silences that hold, that will, and that ended within the last days.
#[utoipa::path(get, path = "/api/v2/silences", tag = "alertmanager", params(SilenceQuery), responses(
    (status = 200, body = ref("#/components/schemas/GettableSilences")), Refusals))]
async fn v2_silences(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<GettableSilences>, Problem> {
    let filter = SilenceFilter::of(query.as_deref().unwrap_or_default())?;
    let all = all_silences(&app).await?;
    Ok(Json(shape::silences(all, &filter, app.clock.now_ms())))
}

/// Alertmanager's API: makes a silence, or changes the one whose id is given, and waits until that is done.
#[utoipa::path(post, path = "/api/v2/silences", tag = "alertmanager",
    request_body = ref("#/components/schemas/PostableSilence"),
    responses((status = 200, body = ref("#/components/schemas/PostedSilence")), Refusals))]
async fn v2_set_silence(
    State(app): State<App>,
    asked: Asked,
    request: Request,
) -> Result<Json<PostedSilence>, Problem> {
    let posted: PostableSilence = command::body(&app, request).await?;
    let command = posted.into_command(app.clock.now_ms())?;
    if let Some(id) = &command.id {
        find_silence(&app, id).await?;
    }
    let result = command::obeyed(&app, &asked, &command, OBEYED_WITHIN).await?;
    let silence: Silence = serde_json::from_value(result).map_err(|error| {
        Problem::new(Kind::Internal, format!("the silence is set, and what it is cannot be read: {error}"))
    })?;
    Ok(Json(PostedSilence { silence_id: silence.id }))
}

/// Alertmanager's API: one silence.
#[utoipa::path(get, path = "/api/v2/silence/{silenceID}", tag = "alertmanager",
    params(("silenceID" = String, Path, description = "As the list names it")),
    responses((status = 200, body = ref("#/components/schemas/GettableSilence")), Refusals))]
async fn v2_silence(
    State(app): State<App>,
    InPath(id): InPath<String>,
) -> Result<Json<GettableSilence>, Problem> {
    let silence = find_silence(&app, &id).await?;
    Ok(Json(shape::silence(silence, app.clock.now_ms())))
}

/// Alertmanager's API: ends a silence now, and waits until that is done.
#[utoipa::path(delete, path = "/api/v2/silence/{silenceID}", tag = "alertmanager",
    params(("silenceID" = String, Path, description = "As the list names it")),
    responses((status = 200, description = "It has ended"), Refusals))]
async fn v2_expire_silence(
    State(app): State<App>,
    InPath(id): InPath<String>,
    asked: Asked,
) -> Result<StatusCode, Problem> {
    let id = find_silence(&app, &id).await?.id;
    command::obeyed(&app, &asked, &ExpireSilence { id }, OBEYED_WITHIN).await?;
    Ok(StatusCode::OK)
}

async fn all_silences(app: &App) -> Result<Vec<Silence>, Problem> {
    Ok(ask_any::<Silences>(&app.bus, "silences").await?.silences)
}

async fn find_silence(app: &App, id: &str) -> Result<Silence, Problem> {
    let found = all_silences(app).await?.into_iter().find(|silence| silence.id == id);
    found.ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no silence {id:?}")))
}

impl From<BadMatcher> for Problem {
    fn from(bad: BadMatcher) -> Self {
        Self::new(Kind::Rejected, bad.to_string())
    }
}

/// Says every problem under this path, whichever layer it comes from, as Alertmanager says it: a JSON string, since its clients read nothing else;
/// and 400 where Keelson says 422.
pub async fn speak_plainly(request: Request, next: Next) -> Response {
    let is_ours = request.uri().path().starts_with(PREFIX);
    let response = next.run(request).await;
    match response.extensions().get::<Problem>() {
        Some(problem) if is_ours => plain(problem.detail().to_owned(), response),
        _ => response,
    }
}

fn plain(detail: String, response: Response) -> Response {
    let (mut head, _) = response.into_parts();
    if head.status == StatusCode::UNPROCESSABLE_ENTITY {
        head.status = StatusCode::BAD_REQUEST;
    }
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.headers.remove(CONTENT_LENGTH);
    (head, Json(detail)).into_response()
}
