//! `/api/monitoring`, the part of the alerting worker: alerts, groups, rules, silences.

use axum::extract::{Request, State};
use axum::response::{Json, Response};
use keelson_schemas::alerting::{Backtest, EndAlert, ExpireSilence, Groups, ReloadRules, Rules, SetSilence};
use schemars::SchemaGenerator;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access;
use crate::alerting::view::{self, AlertPage, SilencePage};
use crate::alerting::{ask_any, ask_owner};
use crate::app::App;
use crate::command::{self, Asked, CommandAnswers, CommandHeaders};
use crate::path::InPath;
use crate::problem::Problem;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(access::admin(routes!(get_alerts)))
        .routes(access::admin(routes!(end_alert)))
        .routes(access::admin(routes!(get_groups)))
        .routes(access::admin(routes!(get_rules)))
        .routes(access::admin(routes!(reload_rules)))
        .routes(access::admin(routes!(backtest)))
        .routes(access::read(routes!(list_silences)))
        .routes(access::admin(routes!(set_silence)))
        .routes(access::admin(routes!(expire_silence)))
}

/// Adds the types of these routes to the description.
pub(super) fn describe(generator: &mut SchemaGenerator) {
    generator.subschema_for::<(AlertPage, Groups, Rules, SilencePage, SetSilence, Backtest)>();
}

/// Alerts that fire, that are pending, and that resolved within the last minutes, with their silences and receivers.
#[utoipa::path(get, path = "/api/monitoring/alerts", tag = "alerting", responses(
    (status = 200, body = ref("#/components/schemas/AlertPage")),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn get_alerts(State(app): State<App>) -> Result<Json<AlertPage>, Problem> {
    ask_owner(&app.bus, "alerts").await.map(view::alerts).map(Json)
}

/// Takes an alert that is pending or fires for over: a way out where nothing will ever be heard again of what it is about. Should its condition hold, it fires again.
#[utoipa::path(delete, path = "/api/monitoring/alerts/{fingerprint}", tag = "alerting",
    params(("fingerprint" = String, Path, description = "As the list has it"), CommandHeaders),
    responses(
        CommandAnswers,
    ))]
async fn end_alert(
    State(app): State<App>,
    InPath(fingerprint): InPath<String>,
    asked: Asked,
) -> Result<Response, Problem> {
    command::ask(&app, &asked, &EndAlert { fingerprint }).await
}

/// The groups in which alerts are notified, and how their deliveries fare.
#[utoipa::path(get, path = "/api/monitoring/alerts/groups", tag = "alerting", responses(
    (status = 200, body = ref("#/components/schemas/Groups")),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn get_groups(State(app): State<App>) -> Result<Json<Groups>, Problem> {
    ask_owner(&app.bus, "groups").await.map(Json)
}

/// The rules that run, and why the last reading of them was refused, if it was.
#[utoipa::path(get, path = "/api/monitoring/rules", tag = "alerting", responses(
    (status = 200, body = ref("#/components/schemas/Rules")),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn get_rules(State(app): State<App>) -> Result<Json<Rules>, Problem> {
    ask_owner(&app.bus, "rules").await.map(Json)
}

/// Reads the rules again, from the configuration and the files it names.
///
/// With any error in them the operation is rejected with all of them, and the rules that run stay.
#[utoipa::path(
    post,
    path = "/api/monitoring/rules/reload",
    tag = "alerting",
    params(CommandHeaders),
    responses(CommandAnswers,)
)]
async fn reload_rules(State(app): State<App>, asked: Asked, request: Request) -> Result<Response, Problem> {
    let ReloadRules {} = command::body(&app, request).await?;
    command::ask(&app, &asked, &ReloadRules {}).await
}

/// Evaluates rules over the past and notifies nobody: what would have fired, when, for how long.
///
/// The operation's result is a BacktestReport.
#[utoipa::path(post, path = "/api/monitoring/rules/backtest", tag = "alerting", params(CommandHeaders),
    request_body = ref("#/components/schemas/Backtest"),
    responses(
        CommandAnswers,
        (status = 400, body = Problem, content_type = "application/problem+json", description = "All that is wrong with the rules"),
    ))]
async fn backtest(State(app): State<App>, asked: Asked, request: Request) -> Result<Response, Problem> {
    let backtest: Backtest = command::body(&app, request).await?;
    command::ask(&app, &asked, &backtest).await
}

/// Silences that hold, that will, and that ended within the last days.
#[utoipa::path(get, path = "/api/monitoring/silences", tag = "alerting", responses(
    (status = 200, body = ref("#/components/schemas/SilencePage")),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn list_silences(State(app): State<App>) -> Result<Json<SilencePage>, Problem> {
    let silences = ask_any(&app.bus, "silences").await?;
    Ok(Json(view::silences(silences, app.clock.now_ms())))
}

/// Makes a silence, or changes the one whose id is given.
///
/// The operation's result is the silence.
#[utoipa::path(post, path = "/api/monitoring/silences", tag = "alerting", params(CommandHeaders),
    request_body = ref("#/components/schemas/SetSilence"),
    responses(
        CommandAnswers,
        (status = 400, body = Problem, content_type = "application/problem+json", description = "No matchers, an end before the start, …"),
    ))]
async fn set_silence(State(app): State<App>, asked: Asked, request: Request) -> Result<Response, Problem> {
    let silence: SetSilence = command::body(&app, request).await?;
    command::ask(&app, &asked, &silence).await
}

/// Ends a silence now.
#[utoipa::path(delete, path = "/api/monitoring/silences/{id}", tag = "alerting",
    params(("id" = String, Path, description = "As the list names it"), CommandHeaders),
    responses(
        CommandAnswers,
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ))]
async fn expire_silence(
    State(app): State<App>,
    InPath(id): InPath<String>,
    asked: Asked,
) -> Result<Response, Problem> {
    let expire = ExpireSilence { id };
    command::ask(&app, &asked, &expire).await
}
