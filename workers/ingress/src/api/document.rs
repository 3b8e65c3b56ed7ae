//! What the OpenAPI description says of the API as a whole, and of the errors that every route can answer.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation as Route;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access;
use crate::app::App;
use crate::problem::{Kind, Problem};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(access::public(routes!(get_openapi)))
}

/// This description, made from the handlers.
#[utoipa::path(get, path = "/api/openapi.json", tag = "health", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"),
))]
async fn get_openapi() -> impl IntoResponse {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| super::openapi().to_string());
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Keelson", description = "HTTP in; commands, telemetry and queries out."),
    components(schemas(Problem))
)]
struct Head;

/// The description without routes.
pub(super) fn head() -> utoipa::openapi::OpenApi {
    let mut head = Head::openapi();
    head.info.description = Some(introduction());
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token of [[auth.tokens]] with the scopes admin, read or telemetry."))
        .build();
    head.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(bearer));
    head
}

/// The whole description: with the types that cross the bus as well, which describe themselves as JSON Schema (OpenAPI 3.1 uses the same).
pub(super) fn finish(routes: &utoipa::openapi::OpenApi) -> Value {
    let mut document = serde_json::to_value(routes).unwrap_or_default();
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    generator.subschema_for::<keelson_schemas::audit::AuditEntry>();
    generator.subschema_for::<super::operations::Page>();
    generator.subschema_for::<super::dead_letters::Page>();
    super::alerting::describe(&mut generator);
    super::alertmanager::describe(&mut generator);
    super::cdn::describe(&mut generator);
    super::microservices::describe(&mut generator);
    super::disaster_recovery::describe(&mut generator);
    let shared = generator.take_definitions(true);
    if let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        schemas.extend(shared);
    }
    document
}

/// Says what the API is, and lists the problems, which have no other place.
fn introduction() -> String {
    let rows = Kind::ALL
        .map(|kind| format!("| `{}` | {} | {} |\n", kind.urn(), kind.status().as_u16(), kind.title()));
    format!(
        "HTTP in; commands, telemetry and queries out. Errors are RFC 9457 `application/problem+json`:\n\n\
         | type | status | title |\n| --- | --- | --- |\n{}",
        rows.concat()
    )
}

/// Adds the problems that come from the layers rather than from the handler.
pub(super) fn add_problems(operation: &mut Route, needs_caller: bool) {
    let always = [Kind::RateLimited, Kind::DeadlineExceeded, Kind::Internal];
    let guarded = [Kind::Unauthenticated, Kind::Forbidden];
    for kind in always.iter().chain(guarded.iter().filter(|_| needs_caller)) {
        let status = kind.status().as_u16().to_string();
        operation.responses.responses.entry(status).or_insert_with(|| RefOr::T(problem(kind.title())));
    }
}

fn problem(title: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(title).content("application/problem+json", content).build()
}
