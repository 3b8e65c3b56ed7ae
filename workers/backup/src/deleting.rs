//! A backup that is deleted: first in the repository, then here. Obeyed twice, it is gone once.

use keelson_kit::failure::Failure;
use keelson_kit::role::Context;
use keelson_schemas::backup::BackupSummary;

use crate::retention;
use crate::setup::Setup;
use crate::store;

/// Whether a backup may be deleted, among all there are, the newest first. Pure.
///
/// # Errors
/// Why not.
pub fn check(all: &[BackupSummary], backup: &BackupSummary) -> Result<(), String> {
    match retention::never_deleted(all, backup).first() {
        Some(reason) => Err(format!("backup {} is not deleted: {reason}", backup.id)),
        None => Ok(()),
    }
}

/// Deletes a backup.
///
/// # Errors
/// When it may not be deleted, or could not be.
pub async fn run(ctx: &Context, setup: &Setup, backup: &BackupSummary) -> Result<(), Failure> {
    check(&store::list(&ctx.bus).await?, backup).map_err(Failure::reject)?;
    let removed = remove(ctx, setup, std::slice::from_ref(backup), true).await;
    removed.map_err(|error| Failure::give_up(format!("{error:#}")))
}

/// Removes backups, and at once what only they refer to if the repository is to be pruned.
///
/// # Errors
/// When the repository or the bus cannot be changed.
pub async fn remove(
    ctx: &Context,
    setup: &Setup,
    backups: &[BackupSummary],
    prune: bool,
) -> anyhow::Result<()> {
    let restic = setup.restic()?;
    if !restic.is_new() {
        restic.version().await?;
        restic.tidy().await?;
        let all = restic.snapshots().await?;
        let is_one = |id: Option<&str>| backups.iter().any(|backup| Some(backup.id.as_str()) == id);
        let of_these = all.iter().filter(|snapshot| is_one(snapshot.backup()));
        restic.forget(of_these.map(|snapshot| snapshot.id.as_str())).await?;
        if prune {
            restic.prune().await?;
        }
    }
    for backup in backups {
        store::forget(&ctx.bus, restic.folder(), backup).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use keelson_schemas::backup::BackupState;
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn the_newest_complete_backup_and_what_is_held_stay() {
        let backup = |id: &str, state| {
            let held = id == "held";
            BackupSummary { id: id.into(), state, held, verified_at: None, ..BackupSummary::example() }
        };
        let all = [
            backup("failed", BackupState::Failed),
            backup("newest", BackupState::Complete),
            backup("older", BackupState::Complete),
            backup("held", BackupState::Complete),
        ];
        let fine = all.iter().map(|backup| check(&all, backup).is_ok());
        assert_eq!(fine.collect::<Vec<_>>(), [true, false, true, false]);
    }
}
