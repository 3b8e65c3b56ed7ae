//! `/api/microservices`: services registered, watched and called.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{Json, Response};
use keelson_schemas::services::{
    Call, Deregister, FindService, Force, Register, Reset, ServiceStatus, Services, ServicesHealth, Trip,
};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access;
use crate::app::App;
use crate::ask;
use crate::call::{self, ShownReply};
use crate::command::{self, Asked, CommandAnswers, CommandHeaders};
use crate::path::InPath;
use crate::problem::Problem;

const WORKER: &str = "services";

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(access::read(routes!(get_health)))
        .routes(access::read(routes!(get_status)))
        .routes(access::admin(routes!(register)))
        .routes(access::admin(routes!(deregister)))
        .routes(access::read(routes!(get_service)))
        .routes(access::admin(routes!(heartbeat)))
        .routes(access::admin(routes!(call_service)))
        .routes(access::admin(routes!(trip)))
        .routes(access::admin(routes!(reset)))
}

/// Adds the types of these routes to the description.
pub(super) fn describe(generator: &mut SchemaGenerator) {
    generator.subschema_for::<(Services, ServicesHealth, ServiceStatus, Register, Call, ShownReply)>();
    generator.subschema_for::<(TripBody, ResetBody)>();
}

/// The service that a request is about.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
struct ServiceName {
    /// As it is registered
    #[serde(rename = "serviceName")]
    name: String,
}

/// How all services fare, in short.
#[utoipa::path(get, path = "/api/microservices/health", tag = "microservices", responses(
    (status = 200, body = ref("#/components/schemas/ServicesHealth")),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn get_health(State(app): State<App>) -> Result<Json<ServicesHealth>, Problem> {
    ask::any(&app.bus, WORKER, "health", &()).await.map(Json)
}

/// All services: what is registered, what checks found, how breakers stand.
#[utoipa::path(get, path = "/api/microservices/status", tag = "microservices", responses(
    (status = 200, body = ref("#/components/schemas/Services")),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn get_status(State(app): State<App>) -> Result<Json<Services>, Problem> {
    ask::any(&app.bus, WORKER, "list", &()).await.map(Json)
}

/// Registers a service with all its instances. The same again renews its lease; other settings under its name need `replace`.
///
/// The operation's result has the service as it is registered, and whether that is new.
#[utoipa::path(post, path = "/api/microservices/register", tag = "microservices", params(CommandHeaders),
    request_body = ref("#/components/schemas/Register"),
    responses(
        CommandAnswers,
    ))]
async fn register(State(app): State<App>, asked: Asked, request: Request) -> Result<Response, Problem> {
    let register: Register = command::body(&app, request).await?;
    command::ask(&app, &asked, &register).await
}

/// Takes a service out of the registry.
#[utoipa::path(delete, path = "/api/microservices/{serviceName}", tag = "microservices",
    params(ServiceName, CommandHeaders),
    responses(
        CommandAnswers,
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ))]
async fn deregister(
    State(app): State<App>,
    InPath(ServiceName { name }): InPath<ServiceName>,
    asked: Asked,
) -> Result<Response, Problem> {
    let deregister = Deregister { name };
    command::ask(&app, &asked, &deregister).await
}

/// How a service fares: its instances, their uptime over an hour, a day and a month, its breaker and theirs.
#[utoipa::path(get, path = "/api/microservices/{serviceName}/status", tag = "microservices",
    params(ServiceName),
    responses(
        (status = 200, body = ref("#/components/schemas/ServiceStatus")),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    ))]
async fn get_service(
    State(app): State<App>,
    InPath(ServiceName { name }): InPath<ServiceName>,
) -> Result<Json<ServiceStatus>, Problem> {
    ask::any(&app.bus, WORKER, "status", &FindService { name }).await.map(Json)
}

/// Renews the lease of a service.
#[utoipa::path(post, path = "/api/microservices/{serviceName}/heartbeat", tag = "microservices",
    params(ServiceName),
    responses(
        (status = 204, description = "It stays registered for as long again"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Its lease is over: register it again"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    ))]
async fn heartbeat(
    State(app): State<App>,
    InPath(ServiceName { name }): InPath<ServiceName>,
) -> Result<StatusCode, Problem> {
    let () = ask::any(&app.bus, WORKER, "heartbeat", &FindService { name }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Calls a service: one of its instances, and the next one where a second time does no harm.
///
/// 200 has what an instance answered, whatever its status.
#[utoipa::path(post, path = "/api/microservices/{serviceName}/call", tag = "microservices",
    params(ServiceName),
    request_body = ref("#/components/schemas/Call"),
    responses(
        (status = 200, body = ref("#/components/schemas/ShownReply")),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "The service does not allow it"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 502, body = Problem, content_type = "application/problem+json", description = "No instance answered"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Its breaker is open; `Retry-After` says for how long"),
        (status = 504, body = Problem, content_type = "application/problem+json", description = "None answered in time"),
    ))]
async fn call_service(
    State(app): State<App>,
    InPath(ServiceName { name }): InPath<ServiceName>,
    request: Request,
) -> Result<Json<ShownReply>, Problem> {
    call::call(&app, name, request).await.map(Json)
}

/// What is asked for with a trip.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct TripBody {
    /// The URL of one of its instances; none is the service itself.
    instance: Option<String>,
    /// What it is forced to be. open
    to: Force,
    /// Why.
    reason: String,
}

/// What is asked for with a reset.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ResetBody {
    /// The URL of one of its instances; none is the service with all of them.
    instance: Option<String>,
}

/// Forces a breaker open, or closed, everywhere, until it is reset.
#[utoipa::path(post, path = "/api/microservices/{serviceName}/trip", tag = "microservices",
    params(ServiceName, CommandHeaders),
    request_body = ref("#/components/schemas/TripBody"),
    responses(
        CommandAnswers,
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ))]
async fn trip(
    State(app): State<App>,
    InPath(ServiceName { name }): InPath<ServiceName>,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let TripBody { instance, to, reason } = command::body(&app, request).await?;
    let trip = Trip { name, instance, to, reason };
    command::ask(&app, &asked, &trip).await
}

/// Closes a breaker, and leaves it to itself again.
#[utoipa::path(post, path = "/api/microservices/{serviceName}/reset", tag = "microservices",
    params(ServiceName, CommandHeaders),
    request_body = ref("#/components/schemas/ResetBody"),
    responses(
        CommandAnswers,
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ))]
async fn reset(
    State(app): State<App>,
    InPath(ServiceName { name }): InPath<ServiceName>,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let ResetBody { instance } = command::body(&app, request).await?;
    let reset = Reset { name, instance };
    command::ask(&app, &asked, &reset).await
}
