//! Who may use a route: enforced where the route is made, and written into its description by the same call.

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::SecurityRequirement;
use utoipa_axum::router::UtoipaMethodRouter;

use super::document;
use crate::app::App;
use crate::auth::{Access, Caller};
use crate::problem::{Kind, Problem};

/// Routes for everyone.
pub fn public(routes: UtoipaMethodRouter<App>) -> UtoipaMethodRouter<App> {
    guarded(Access::Public, routes)
}

/// Routes that need the read scope, or nothing when bound to loopback.
pub fn read(routes: UtoipaMethodRouter<App>) -> UtoipaMethodRouter<App> {
    guarded(Access::Read, routes)
}

/// Routes that need the telemetry scope, or nothing when bound to loopback.
pub fn telemetry(routes: UtoipaMethodRouter<App>) -> UtoipaMethodRouter<App> {
    guarded(Access::Telemetry, routes)
}

/// Routes that need the admin scope, always.
pub fn admin(routes: UtoipaMethodRouter<App>) -> UtoipaMethodRouter<App> {
    guarded(Access::Admin, routes)
}

fn guarded(access: Access, (schemas, mut paths, router): UtoipaMethodRouter<App>) -> UtoipaMethodRouter<App> {
    paths.paths.values_mut().flat_map(operations).for_each(|operation| describe(operation, access));
    let guard = from_fn(move |request: Request, next: Next| check(access, request, next));
    (schemas, paths, router.route_layer(guard))
}

async fn check(access: Access, request: Request, next: Next) -> Response {
    let allowed = match request.extensions().get::<Caller>() {
        Some(caller) => caller.may(access),
        None => Err(Problem::new(Kind::Internal, "nobody asked who is calling")),
    };
    match allowed {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.delete, &mut item.patch].into_iter().flatten()
}

fn describe(operation: &mut Operation, access: Access) {
    let scope = match access {
        Access::Public => None,
        Access::Read => Some("read"),
        Access::Telemetry => Some("telemetry"),
        Access::Admin => Some("admin"),
    };
    let bearer = scope.map(|scope| SecurityRequirement::new("bearer", [scope]));
    // An empty requirement means that none is needed: so it is where HTTP is bound to loopback.
    let none = matches!(access, Access::Read | Access::Telemetry).then(SecurityRequirement::default);
    operation.security = Some(bearer.into_iter().chain(none).collect());
    document::add_problems(operation, access != Access::Public);
}
