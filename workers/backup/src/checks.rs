//! Whether a command has a meaning, said before it is accepted, and looked at again when it is obeyed.

use std::sync::Arc;

use jiff::Timestamp;
use keelson_kit::bus::Bus;
use keelson_kit::failure::Failure;
use keelson_kit::kv::KvError;
use keelson_kit::query::{Queries, Refusal};
use keelson_kit::role::Context;
use keelson_schemas::backup::{
    Automate, Backup, BackupState, BackupSummary, Backups, Component, DeleteBackup, FindBackup, HoldBackup,
    Restore, TestBackup,
};

use crate::job::now;
use crate::setup::Setup;
use crate::{automate, deleting, drill, plan, store};

/// Answers what any replica knows.
#[must_use]
pub fn queries(queries: Queries, ctx: &Context, setup: &Arc<Setup>) -> Queries {
    let (for_backup, for_restore, for_list, for_manifest) =
        (Arc::clone(setup), Arc::clone(setup), Arc::clone(setup), Arc::clone(setup));
    let (restoring, deleting, listing, showing) =
        (ctx.bus.clone(), ctx.bus.clone(), ctx.bus.clone(), ctx.bus.clone());
    let (testing, for_test) = (ctx.bus.clone(), Arc::clone(setup));
    let (holding, for_automate, clock) = (ctx.bus.clone(), Arc::clone(setup), ctx.clock.clone());
    queries
        .with("check.backup", move |command: Backup| {
            let checked = backup(&for_backup, &command).map_err(|reason| Refusal::new(400, reason));
            std::future::ready(checked)
        })
        .with("check.restore", move |command: Restore| {
            let (bus, setup) = (restoring.clone(), Arc::clone(&for_restore));
            async move { restore(&bus, &setup, &command).await.map(drop).map_err(refusal) }
        })
        .with("check.delete", move |command: DeleteBackup| {
            let bus = deleting.clone();
            async move { delete(&bus, &command).await.map(drop).map_err(refusal) }
        })
        .with("check.automate", move |command: Automate| {
            let checked = automate::check(&for_automate, &command).map(drop);
            std::future::ready(checked.map_err(|reason| Refusal::new(400, reason)))
        })
        .with("check.test", move |command: TestBackup| {
            let (bus, setup) = (testing.clone(), Arc::clone(&for_test));
            async move { test(&bus, &setup, &command).await.map(drop).map_err(refusal) }
        })
        .with("check.hold", move |command: HoldBackup| {
            let bus = holding.clone();
            async move { find(&bus, &command.backup_id).await.map(drop).map_err(refusal) }
        })
        .with("backups", move |()| {
            let (bus, setup, clock) = (listing.clone(), Arc::clone(&for_list), clock.clone());
            async move {
                let gone = |error: KvError| Refusal::new(503, error.to_string());
                let backups = store::list(&bus).await.map_err(gone)?;
                let plan = automate::plan(&bus).await.map_err(gone)?;
                let automation = match automate::check(&setup, &plan) {
                    Ok(schedules) => {
                        Some(automate::report(&bus, now(&clock), plan, &schedules).await.map_err(gone)?)
                    }
                    Err(_) => None,
                };
                let drill = store::last_drill(&bus).await.map_err(gone)?;
                Ok(Backups { backups, note: backup(&setup, &Backup::default()).err(), automation, drill })
            }
        })
        .with("manifest", move |question: FindBackup| {
            let (bus, setup) = (showing.clone(), Arc::clone(&for_manifest));
            async move {
                let backup = find(&bus, &question.backup_id).await.map_err(refusal)?;
                Ok(store::manifest(&setup.restic()?, &backup).await?)
            }
        })
}

/// Whether a backup can be made.
///
/// # Errors
/// Why not.
pub fn backup(setup: &Setup, command: &Backup) -> Result<(), String> {
    let asked = |component| command.components.contains(&component);
    let folders = setup.folders().map_err(|error| format!("{error:#}"));
    let missing =
        "not configured: set MONGODB_URI (backup.mongodb_uri) to the database that is to be backed up";
    if setup.config.mongodb_uri.is_none() {
        let nothing = command.components.is_empty() && folders.as_ref().is_ok_and(Vec::is_empty);
        if nothing || asked(Component::Database) {
            return Err(missing.to_owned());
        }
    }
    if asked(Component::Files) && folders?.is_empty() {
        return Err("not configured: set backup.files to the folders that are to be backed up".to_owned());
    }
    Ok(())
}

/// The backup that is to be restored, if it can be.
///
/// # Errors
/// Why not.
pub async fn restore(bus: &Bus, setup: &Setup, command: &Restore) -> Result<BackupSummary, Failure> {
    let backup = match command.point_in_time {
        Some(point) if command.backup_id == store::LATEST => reaching(bus, point).await?,
        _ => find(bus, &command.backup_id).await?,
    };
    complete(&backup)?;
    if let Some(point) = command.point_in_time {
        plan::until(point, backup.window).map_err(Failure::reject)?;
    }
    plan::check(command, &backup.id).map_err(|errors| Failure::reject(errors.join("; ")))?;
    let rejected = |error: anyhow::Error| Failure::reject(format!("{error:#}"));
    let components = components(setup, command, &backup).map_err(Failure::reject)?;
    if components.contains(&Component::Database) {
        setup.target(command.target.as_deref()).await.map_err(rejected)?;
    }
    if components != [Component::Database] {
        setup.place(command.target.as_deref()).map_err(rejected)?;
    }
    Ok(backup)
}

/// The backup of which a restore is to be rehearsed, if it can be.
///
/// # Errors
/// Why not.
pub async fn test(bus: &Bus, setup: &Setup, command: &TestBackup) -> Result<BackupSummary, Failure> {
    let backup = find(bus, &command.backup_id).await?;
    complete(&backup)?;
    drill::possible(setup, &backup).map_err(Failure::reject)?;
    Ok(backup)
}

/// The newest backup of `all`, the newest first, if a restore of it can be rehearsed.
#[must_use]
pub fn newest<'a>(setup: &Setup, all: &'a [BackupSummary]) -> Option<&'a BackupSummary> {
    let newest = all.iter().find(|backup| backup.state == BackupState::Complete)?;
    drill::possible(setup, newest).is_ok().then_some(newest)
}

fn complete(backup: &BackupSummary) -> Result<(), Failure> {
    if backup.state == BackupState::Complete {
        return Ok(());
    }
    let why = backup.error.as_deref().unwrap_or("no reason is known");
    Err(Failure::reject(format!("backup {} is not complete: {why}", backup.id)))
}

/// What of a backup is restored.
///
/// # Errors
/// When something is asked for that it does not have.
pub fn components(
    setup: &Setup,
    command: &Restore,
    backup: &BackupSummary,
) -> Result<Vec<Component>, String> {
    let held: Vec<Component> = backup.components.iter().map(|report| report.component).collect();
    let target = command.target.as_deref();
    // A target that is not known is no place either, but is complained of as what it is.
    plan::components(command, &held, setup.place(target).is_ok())
}

/// The backup that is to be deleted, if it may be.
///
/// # Errors
/// Why not.
pub async fn delete(bus: &Bus, command: &DeleteBackup) -> Result<BackupSummary, Failure> {
    if command.backup_id == store::LATEST {
        return Err(Failure::reject("say which backup by its id: the latest one is not deleted"));
    }
    let backup = find(bus, &command.backup_id).await?;
    deleting::check(&store::list(bus).await?, &backup).map_err(Failure::reject)?;
    Ok(backup)
}

/// The newest backup that reaches a moment.
async fn reaching(bus: &Bus, point: Timestamp) -> Result<BackupSummary, Failure> {
    let all = store::list(bus).await?;
    let reaches = |backup: &BackupSummary| {
        backup.state == BackupState::Complete && plan::until(point, backup.window).is_ok()
    };
    let none = || {
        Failure::reject(format!(
            "pointInTime: no backup reaches {point}; `keelson backups list` says from when to when each does"
        ))
    };
    all.into_iter().find(reaches).ok_or_else(none)
}

/// A backup by its id, or `latest`.
///
/// # Errors
/// When there is none.
pub async fn find(bus: &Bus, id: &str) -> Result<BackupSummary, Failure> {
    let found = store::find(bus, id).await?;
    found.ok_or_else(|| {
        Failure::reject(format!("there is no backup {id:?}; `keelson backups list` names all there are"))
    })
}

fn refusal(failure: Failure) -> Refusal {
    let reason = failure.to_string().replace('\n', "; ");
    let status = match failure {
        Failure::Retry { .. } => 503,
        _ if reason.starts_with("there is no backup") => 404,
        _ => 400,
    };
    Refusal::new(status, reason)
}
