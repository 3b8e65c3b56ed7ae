//! A backup that is deleted: first in the repository, then here. Obeyed twice, it is gone once.

use keelson_kit::failure::Failure;
use keelson_kit::role::Context;
use keelson_schemas::backup::{BackupState, BackupSummary};

use crate::setup::Setup;
use crate::store;

/// Whether a backup may be deleted, among all there are, the newest first. Pure.
///
/// # Errors
/// Why not.
pub fn check(all: &[BackupSummary], id: &str) -> Result<(), String> {
    let newest = all.iter().find(|backup| backup.state == BackupState::Complete);
    match newest {
        Some(newest) if newest.id == id => {
            Err(format!("backup {id} is the newest one that is complete: make another one first"))
        }
        _ => Ok(()),
    }
}

/// Deletes a backup.
///
/// # Errors
/// When it may not be deleted, or could not be.
pub async fn run(ctx: &Context, setup: &Setup, backup: &BackupSummary) -> Result<(), Failure> {
    check(&store::list(&ctx.bus).await?, &backup.id).map_err(Failure::reject)?;
    remove(ctx, setup, backup).await.map_err(|error| Failure::give_up(format!("{error:#}")))
}

async fn remove(ctx: &Context, setup: &Setup, backup: &BackupSummary) -> anyhow::Result<()> {
    let restic = setup.restic()?;
    if !restic.is_new() {
        restic.version().await?;
        restic.tidy().await?;
        let all = restic.snapshots().await?;
        let of_this = all.iter().filter(|snapshot| snapshot.backup() == Some(&backup.id));
        restic.forget(of_this.map(|snapshot| snapshot.id.as_str())).await?;
        restic.prune().await?;
    }
    store::forget(&ctx.bus, restic.folder(), backup).await
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn the_newest_complete_backup_stays() {
        let backup = |id: &str, state| BackupSummary { id: id.into(), state, ..BackupSummary::example() };
        let all = [
            backup("failed", BackupState::Failed),
            backup("newest", BackupState::Complete),
            backup("older", BackupState::Complete),
        ];
        for (id, fine) in [("failed", true), ("newest", false), ("older", true)] {
            assert_eq!(check(&all, id).is_ok(), fine, "{id}");
        }
    }
}
