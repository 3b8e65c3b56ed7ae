//! The routes. A system's routes are one file and one line in `SYSTEMS`; [`access`] says who may use each.

pub mod access;
mod alerting;
pub mod alertmanager;
mod audit;
mod cdn;
mod dead_letters;
mod disaster_recovery;
mod document;
mod health;
mod microservices;
mod monitoring;
mod operations;
mod telemetry;
pub mod traces;

use axum::Router;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::{layers, problem};

/// Everything that can be asked of Keelson.
const SYSTEMS: &[fn() -> OpenApiRouter<App>] = &[
    alerting::routes,
    alertmanager::routes,
    audit::routes,
    cdn::routes,
    dead_letters::routes,
    disaster_recovery::routes,
    document::routes,
    health::routes,
    microservices::routes,
    monitoring::routes,
    operations::routes,
    telemetry::routes,
    traces::routes,
];

/// All routes with all layers.
pub fn router(app: App) -> Router {
    let (router, _) = routes().split_for_parts();
    layers::around(router.fallback(problem::unknown_route).with_state(app.clone()), &app)
}

/// The OpenAPI 3.1 description of all routes, made from their handlers.
#[must_use]
pub fn openapi() -> Value {
    document::finish(&routes().into_openapi())
}

fn routes() -> OpenApiRouter<App> {
    let empty = OpenApiRouter::with_openapi(document::head());
    SYSTEMS.iter().fold(empty, |all, routes| all.merge(routes()))
}

/// A content type without its parameters, in lower case.
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
