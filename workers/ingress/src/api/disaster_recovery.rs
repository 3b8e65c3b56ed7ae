//! `/api/disaster-recovery`: backups made, listed, shown, restored, deleted, held, and made by themselves.

use axum::extract::{Request, State};
use axum::response::{Json, Response};
use keelson_schemas::backup::{
    Automate, AutomationReport, Backup, Backups, DeleteBackup, DrillReport, FindBackup, HoldBackup, Manifest,
    Restore, TestBackup,
};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access;
use crate::app::App;
use crate::ask;
use crate::command::{self, Asked, CommandAnswers, CommandHeaders};
use crate::path::InPath;
use crate::problem::Problem;

const WORKER: &str = "backup";

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(access::admin(routes!(back_up)))
        .routes(access::admin(routes!(list_backups)))
        .routes(access::admin(routes!(get_backup)))
        .routes(access::admin(routes!(delete_backup)))
        .routes(access::admin(routes!(hold_backup)))
        .routes(access::admin(routes!(automate)))
        .routes(access::admin(routes!(restore)))
        .routes(access::admin(routes!(rehearse)))
}

/// Adds the types of these routes to the description.
pub(super) fn describe(generator: &mut SchemaGenerator) {
    generator.subschema_for::<(Automate, AutomationReport, Backup, Backups, DrillReport, Hold, Manifest, Restore, TestBackup)>();
}

/// Makes a backup.
///
/// The operation fails unless all of it is in the repository; its result is a BackupSummary. Answers 202 with the operation; or, with
/// `Prefer: wait=N`, 200 with its end if it comes in time.
#[utoipa::path(post, path = "/api/disaster-recovery/backup", tag = "disaster recovery", params(CommandHeaders),
    request_body = ref("#/components/schemas/Backup"),
    responses(
        CommandAnswers,
        (status = 400, body = Problem, content_type = "application/problem+json", description = "What is not configured"),
    ))]
async fn back_up(State(app): State<App>, asked: Asked, request: Request) -> Result<Response, Problem> {
    let backup: Backup = command::body(&app, request).await?;
    command::ask(&app, &asked, &backup).await
}

/// All backups, the newest first: those that are complete, and those that failed with the reason.
#[utoipa::path(get, path = "/api/disaster-recovery/backups", tag = "disaster recovery", responses(
    (status = 200, body = ref("#/components/schemas/Backups")),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
async fn list_backups(State(app): State<App>) -> Result<Json<Backups>, Problem> {
    ask::any(&app.bus, WORKER, "backups", &()).await.map(Json)
}

/// The manifest of a backup: every collection and every file in it.
#[utoipa::path(get, path = "/api/disaster-recovery/backup/{backupId}", tag = "disaster recovery",
    params(("backupId" = String, Path, description = "As the list names it, or `latest`")),
    responses(
        (status = 200, body = ref("#/components/schemas/Manifest")),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    ))]
async fn get_backup(
    State(app): State<App>,
    InPath(backup_id): InPath<String>,
) -> Result<Json<Manifest>, Problem> {
    ask::any(&app.bus, WORKER, "manifest", &FindBackup { backup_id }).await.map(Json)
}

/// Deletes a backup, and what only it has in the repository. The newest one that is complete is not deleted.
///
/// The operation's result is the BackupSummary of what is gone.
#[utoipa::path(delete, path = "/api/disaster-recovery/backup/{backupId}", tag = "disaster recovery",
    params(("backupId" = String, Path, description = "As the list names it"), CommandHeaders),
    responses(
        CommandAnswers,
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ))]
async fn delete_backup(
    State(app): State<App>,
    InPath(backup_id): InPath<String>,
    asked: Asked,
) -> Result<Response, Problem> {
    let delete = DeleteBackup { backup_id };
    command::ask(&app, &asked, &delete).await
}

/// Whether a backup is held.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Hold {
    /// From now on.
    held: bool,
}

/// Holds a backup, so that neither retention nor anybody deletes it, or no longer.
///
/// The operation's result is the BackupSummary.
#[utoipa::path(post, path = "/api/disaster-recovery/backup/{backupId}/hold", tag = "disaster recovery",
    params(("backupId" = String, Path, description = "As the list names it, or `latest`"), CommandHeaders),
    request_body = ref("#/components/schemas/Hold"),
    responses(
        CommandAnswers,
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ))]
async fn hold_backup(
    State(app): State<App>,
    InPath(backup_id): InPath<String>,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let Hold { held } = command::body(&app, request).await?;
    let hold = HoldBackup { backup_id, held };
    command::ask(&app, &asked, &hold).await
}

/// Says when backups are made by themselves, and which are kept; with `dryRun`, only what would be deleted now.
///
/// What is left out is as by default, not as it was. The operation's result is an AutomationReport, which the list of backups has, too.
#[utoipa::path(post, path = "/api/disaster-recovery/automate", tag = "disaster recovery", params(CommandHeaders),
    request_body = ref("#/components/schemas/Automate"),
    responses(
        CommandAnswers,
        (status = 400, body = Problem, content_type = "application/problem+json", description = "What speaks against it"),
    ))]
async fn automate(State(app): State<App>, asked: Asked, request: Request) -> Result<Response, Problem> {
    let automate: Automate = command::body(&app, request).await?;
    command::ask(&app, &asked, &automate).await
}

/// Restores a backup, or some of it, under other names if they are wanted; never over a collection or a file that is there without `drop` and `confirm`.
///
/// The operation's result is a RestoreReport.
#[utoipa::path(post, path = "/api/disaster-recovery/restore", tag = "disaster recovery", params(CommandHeaders),
    request_body = ref("#/components/schemas/Restore"),
    responses(
        CommandAnswers,
        (status = 400, body = Problem, content_type = "application/problem+json", description = "What speaks against it"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ))]
async fn restore(State(app): State<App>, asked: Asked, request: Request) -> Result<Response, Problem> {
    let restore: Restore = command::body(&app, request).await?;
    command::ask(&app, &asked, &restore).await
}

/// Rehearses a restore: into a scratch server and a scratch folder, where all of it is compared with what was backed up.
///
/// The operation fails unless nothing differs; its result is a DrillReport, which the list of backups has, too.
#[utoipa::path(post, path = "/api/disaster-recovery/test", tag = "disaster recovery", params(CommandHeaders),
    request_body = ref("#/components/schemas/TestBackup"),
    responses(
        CommandAnswers,
        (status = 400, body = Problem, content_type = "application/problem+json", description = "What speaks against it"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ))]
async fn rehearse(State(app): State<App>, asked: Asked, request: Request) -> Result<Response, Problem> {
    let test: TestBackup = command::body(&app, request).await?;
    command::ask(&app, &asked, &test).await
}
