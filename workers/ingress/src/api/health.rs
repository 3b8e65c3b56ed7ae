//! Whether the process lives, and whether it can take work.

use axum::extract::State;
use axum::response::Json;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access;
use crate::app::App;
use crate::problem::{Kind, Problem};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(access::public(routes!(healthz))).routes(access::public(routes!(readyz)))
}

/// How the process is.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    /// `ok`
    status: &'static str,
}

/// Whether the process lives.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = Health)))]
async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether the process can take work: the bus is connected and the process is not draining.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, body = Health),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn readyz(State(app): State<App>) -> Result<Json<Health>, Problem> {
    if app.tasks.is_cancelled() {
        return Err(Problem::new(
            Kind::BusUnavailable,
            "the process is draining: send requests to another one",
        ));
    }
    if !app.bus.is_connected() {
        return Err(Problem::new(Kind::BusUnavailable, "the bus is not connected"));
    }
    Ok(Json(Health { status: "ok" }))
}
