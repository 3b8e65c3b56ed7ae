//! A restore, from the repository into a deployment. Everything that can be known before is looked at before anything is changed.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use keelson_kit::clock::Clock;
use keelson_kit::command::Attempt;
use keelson_kit::failure::Failure;
use keelson_schemas::backup::{BackupSummary, DatabaseManifest, Restore, RestoreReport};
use tokio::task::spawn_blocking;

use crate::bson_file::{self, Reader};
use crate::layout;
use crate::mongo::Deployment;
use crate::mongo::dump::Meter;
use crate::mongo::oplog;
use crate::mongo::restore::{self, Restored, Restoring};
use crate::plan;
use crate::selection::Selection;
use crate::setup::Setup;
use crate::spool::Spool;
use crate::store;
use crate::telling::telling;

/// One restore.
pub struct Job<'a> {
    /// What it works with.
    pub setup: &'a Setup,
    /// The time.
    pub clock: &'a Clock,
    /// The operation behind it.
    pub attempt: &'a Attempt,
    /// What was asked for.
    pub command: &'a Restore,
    /// What is restored.
    pub backup: &'a BackupSummary,
}

impl Job<'_> {
    /// Restores.
    ///
    /// # Errors
    /// Rejected while nothing was changed; given up after that.
    pub async fn run(&self) -> Result<RestoreReport, Failure> {
        let began = self.clock.now();
        let rejected = |error: anyhow::Error| Failure::reject(format!("{error:#}"));
        let selection = plan::check(self.command, &self.backup.id)
            .map_err(|errors| Failure::reject(errors.join("; ")))?;
        let target = self.setup.target(self.command.target.as_deref()).await.map_err(rejected)?;
        let (spool, database) = self.fetch().await.map_err(rejected)?;
        let existing = restore::existing(&target).await.map_err(rejected)?;
        let made = made(spool.path(), &database).map_err(rejected)?;
        let plan = plan::plan(&database, &selection, self.command.drop, &existing, &made);
        let plan = plan.map_err(|errors| Failure::reject(errors.join("; ")))?;
        let restored = self.apply(&target, &spool, &selection, &plan, &database).await;
        let (restored, bytes) = restored.map_err(|error| {
            Failure::give_up(format!("{error:#}; what was restored until then is in the target"))
        })?;
        Ok(self.report(&target, restored, bytes, (self.clock.now() - began).as_millis()))
    }

    /// The dump, every file of which is what its manifest says.
    async fn fetch(&self) -> anyhow::Result<(Spool, DatabaseManifest)> {
        let restic = self.setup.restic()?;
        restic.version().await?;
        let manifest = store::manifest(&restic, self.backup).await?;
        let database = manifest.database.context("the backup has no database")?;
        let snapshot = self.backup.snapshot.as_deref().context("the backup is not in the repository")?;
        let spool = Spool::empty(&self.setup.spool()?, "restore")?;
        let (fetching, unknown) = (restic.restore(snapshot, layout::DUMP, spool.path()), Meter::default());
        telling(self.clock, self.attempt, &unknown, None, "fetch", fetching).await?;
        let (root, expected) = (spool.path().to_owned(), database.clone());
        let verifying =
            spawn_blocking(move || expected.files().try_for_each(|file| bson_file::verify(&root, file)));
        let verified = telling(self.clock, self.attempt, &unknown, None, "verify", verifying).await;
        verified.context("verify")??;
        Ok((spool, database))
    }

    async fn apply(
        &self,
        target: &Deployment,
        spool: &Spool,
        selection: &Selection,
        plan: &plan::Plan<'_>,
        database: &DatabaseManifest,
    ) -> anyhow::Result<(Restored, u64)> {
        let meter = Meter::default();
        let total =
            plan.items.iter().filter_map(|item| item.entry.data.as_ref()).map(|data| data.bytes).sum();
        let point = self.command.point_in_time;
        let until = point
            .map(|point| plan::until(point, database.window()))
            .transpose()
            .map_err(anyhow::Error::msg)?;
        let restoring =
            Restoring { deployment: target, root: spool.path(), selection, until, meter: meter.clone() };
        let work = restoring.run(plan, database.oplog.as_ref(), self.command.drop);
        let restored = telling(self.clock, self.attempt, &meter, Some(total), "restore", work).await?;
        Ok((restored, meter.bytes()))
    }

    fn report(
        &self,
        target: &Deployment,
        restored: Restored,
        bytes: u64,
        duration_ms: u128,
    ) -> RestoreReport {
        RestoreReport {
            backup_id: self.backup.id.clone(),
            target: self.command.target.clone().unwrap_or_else(|| target.name.clone()),
            collections: restored.collections,
            documents: restored.documents,
            bytes,
            indexes: restored.indexes,
            oplog_entries: restored.entries,
            restored_to: restored.to,
            duration_ms: u64::try_from(duration_ms).unwrap_or(u64::MAX),
        }
    }
}

/// The collections that the oplog makes: they must not be in the way either.
fn made(root: &Path, database: &DatabaseManifest) -> anyhow::Result<BTreeSet<(String, String)>> {
    let mut made = BTreeSet::new();
    if let Some(oplog) = &database.oplog {
        let mut reader = Reader::open(root, &oplog.file.path)?;
        while let Some(entry) = reader.next_document()? {
            oplog::note_made(&entry, &mut made)?;
        }
    }
    Ok(made)
}
