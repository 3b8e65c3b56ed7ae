//! `/api/cdn`: purges, warm-ups, where assets are read from, and how the providers fare.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::response::{Json, Response};
use keelson_schemas::cdn::{AssetUrl, CdnStatus, FindAssetUrl, Purge, Warm};
use schemars::SchemaGenerator;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access;
use crate::app::App;
use crate::ask;
use crate::cdn::CdnPage;
use crate::command::{self, Asked, CommandAnswers, CommandHeaders};
use crate::problem::{Kind, Problem};

const WORKER: &str = "cdn";

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(access::read(routes!(get_status)))
        .routes(access::admin(routes!(purge)))
        .routes(access::public(routes!(get_url)))
        .routes(access::admin(routes!(warm)))
}

/// Adds the types of these routes to the description.
pub(super) fn describe(generator: &mut SchemaGenerator) {
    generator.subschema_for::<(CdnPage, Purge, Warm, AssetUrl)>();
}

/// Every provider: whether it takes purges, what waits, how long it takes until readers get what is new, and purges of late.
#[utoipa::path(get, path = "/api/cdn/status", tag = "cdn", responses(
    (status = 200, body = ref("#/components/schemas/CdnPage")),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn get_status(State(app): State<App>) -> Result<Json<CdnPage>, Problem> {
    let status: CdnStatus = ask::any(&app.bus, WORKER, "status", &()).await?;
    Ok(Json(status.into()))
}

/// Removes copies at the edge, by URL, tag, prefix, or all of them, and proves it.
///
/// The operation ends when every provider has purged, purged again, and was looked at; it fails when readers may still get something old. Its result
/// is a PurgeReport.
#[utoipa::path(post, path = "/api/cdn/purge", tag = "cdn", params(CommandHeaders),
    request_body = ref("#/components/schemas/Purge"),
    responses(
        CommandAnswers,
    ))]
async fn purge(State(app): State<App>, asked: Asked, request: Request) -> Result<Response, Problem> {
    let purge: Purge = command::body(&app, request).await?;
    command::ask(&app, &asked, &purge).await
}

/// What is asked for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UrlQuery {
    /// A path with its query, percent-encoded: `/videos/42?size=l`.
    path: String,
}

/// Where an asset is read from now: at the CDN, in the local cache while the CDN is down, or else at the origin.
#[utoipa::path(get, path = "/api/cdn/url", tag = "cdn", params(UrlQuery), responses(
    (status = 200, body = ref("#/components/schemas/AssetUrl")),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn get_url(
    State(app): State<App>,
    query: Result<Query<UrlQuery>, QueryRejection>,
) -> Result<Json<AssetUrl>, Problem> {
    let Query(UrlQuery { path }) = query.map_err(|error| {
        Problem::new(Kind::InvalidField, format!("{}: ask with ?path=/a", error.body_text()))
    })?;
    ask::any(&app.bus, WORKER, "url", &FindAssetUrl { path }).await.map(Json)
}

/// Fetches URLs through the edge, after what was purged before, and proves that they are kept there.
///
/// The operation's result is a WarmReport.
#[utoipa::path(post, path = "/api/cdn/cache", tag = "cdn", params(CommandHeaders),
    request_body = ref("#/components/schemas/Warm"),
    responses(
        CommandAnswers,
    ))]
async fn warm(State(app): State<App>, asked: Asked, request: Request) -> Result<Response, Problem> {
    let warm: Warm = command::body(&app, request).await?;
    command::ask(&app, &asked, &warm).await
}
