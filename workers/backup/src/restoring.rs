//! A restore, from the repository into a deployment. Everything that can be known before is looked at before anything is changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use keelson_kit::clock::Clock;
use keelson_kit::command::Attempt;
use keelson_kit::failure::Failure;
use keelson_schemas::backup::{
    BackupSummary, Component, ConfigManifest, DatabaseManifest, FileEntry, FilesManifest, Manifest, Restore,
    RestoreReport,
};
use tokio::task::spawn_blocking;

use crate::bson_file::{self, Reader};
use crate::checks;
use crate::files::{self, restore::Fetched};
use crate::layout;
use crate::mongo::Deployment;
use crate::mongo::dump::Meter;
use crate::mongo::oplog;
use crate::mongo::restore::{self, Restored, Restoring};
use crate::plan;
use crate::restic::Restic;
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
        let components =
            checks::components(self.setup, self.command, self.backup).map_err(Failure::reject)?;
        let restic = self.setup.restic().map_err(rejected)?;
        let manifest = self.manifest(&restic).await.map_err(rejected)?;
        let spool = self.setup.spool().and_then(|spool| Spool::empty(&spool, "restore")).map_err(rejected)?;
        let files = components.contains(&Component::Files).then_some(manifest.files.as_ref()).flatten();
        let files = self.files(&restic, files).await?;
        let config = components.contains(&Component::Config).then_some(manifest.config.as_ref()).flatten();
        let config = self.config(&restic, spool.path(), config).await.map_err(rejected)?;
        let database = components.contains(&Component::Database).then_some(manifest.database).flatten();
        let mut report = RestoreReport { backup_id: self.backup.id.clone(), ..RestoreReport::default() };
        if let Some(database) = &database {
            self.database(&restic, &spool, database, &mut report).await?;
        }
        let put =
            files.into_iter().try_fold(0, |count, fetched| Ok::<_, anyhow::Error>(count + fetched.put()?));
        let put = put.and_then(|count| Ok(count + config.map_or(Ok(0), |config| config.put())?));
        report.files = put
            .map_err(|error| Failure::give_up(format!("{error:#}; what was restored until then is there")))?;
        report.target = self.command.target.clone().unwrap_or(report.target);
        report.duration_ms = u64::try_from((self.clock.now() - began).as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }

    async fn manifest(&self, restic: &Restic) -> anyhow::Result<Manifest> {
        restic.version().await?;
        store::manifest(restic, self.backup).await
    }

    fn snapshot(&self) -> anyhow::Result<&str> {
        self.backup.snapshot.as_deref().context("the backup is not in the repository")
    }

    /// The files that are not there as they were, fetched to be put in place.
    async fn files(
        &self,
        restic: &Restic,
        manifest: Option<&FilesManifest>,
    ) -> Result<Vec<Fetched>, Failure> {
        let rejected = |error: anyhow::Error| Failure::reject(format!("{error:#}"));
        let Some(manifest) = manifest.cloned() else { return Ok(Vec::new()) };
        let (place, unknown) =
            (self.setup.place(self.command.target.as_deref()).map_err(rejected)?, Meter::default());
        let comparing = spawn_blocking(move || files::restore::missing(&manifest, place.as_deref()));
        let compared = telling(self.clock, self.attempt, &unknown, None, "compare files", comparing).await;
        let missing = compared.context("it crashed").flatten().map_err(rejected)?;
        let in_the_way = missing.iter().flat_map(|missing| &missing.in_the_way).count();
        if let (false, Some(first)) =
            (self.command.drop, missing.iter().find_map(|missing| missing.in_the_way.first()))
        {
            return Err(Failure::reject(format!(
                "{} is there and is different, and {} more: restore elsewhere, or say \"drop\": true and confirm it",
                first.display(),
                in_the_way - 1
            )));
        }
        let mut fetched = Vec::new();
        for (number, missing) in missing.into_iter().enumerate() {
            let id = format!("{}-{number}", self.backup.id);
            let fetching = missing.fetch(restic, self.snapshot().map_err(rejected)?, &id);
            fetched.push(
                telling(self.clock, self.attempt, &unknown, None, "fetch files", fetching)
                    .await
                    .map_err(rejected)?,
            );
        }
        Ok(fetched)
    }

    /// The configuration, fetched to be put where it takes no effect.
    async fn config(
        &self,
        restic: &Restic,
        spool: &Path,
        manifest: Option<&ConfigManifest>,
    ) -> anyhow::Result<Option<Settings>> {
        let Some(manifest) = manifest else { return Ok(None) };
        restic.restore(self.snapshot()?, layout::CONFIG, spool).await?;
        manifest.files().try_for_each(|file| bson_file::verify(spool, file))?;
        let place = self.setup.place(self.command.target.as_deref())?;
        let folder = place.unwrap_or_else(|| self.setup.restored_settings()).join(&self.backup.id);
        let files = manifest.files().map(|file| file.path.clone()).collect();
        Ok(Some(Settings { from: spool.to_owned(), to: folder, files }))
    }

    async fn database(
        &self,
        restic: &Restic,
        spool: &Spool,
        database: &DatabaseManifest,
        report: &mut RestoreReport,
    ) -> Result<(), Failure> {
        let rejected = |error: anyhow::Error| Failure::reject(format!("{error:#}"));
        let selection = plan::check(self.command, &self.backup.id)
            .map_err(|errors| Failure::reject(errors.join("; ")))?;
        let target = self.setup.target(self.command.target.as_deref()).await.map_err(rejected)?;
        self.fetch(restic, spool, database).await.map_err(rejected)?;
        let existing = restore::existing(&target).await.map_err(rejected)?;
        let made = made(spool.path(), database).map_err(rejected)?;
        let plan = plan::plan(database, &selection, self.command.drop, &existing, &made);
        let plan = plan.map_err(|errors| Failure::reject(errors.join("; ")))?;
        let restored = self.apply(&target, spool, &selection, &plan, database).await;
        let (restored, bytes) = restored.map_err(|error| {
            Failure::give_up(format!("{error:#}; what was restored until then is in the target"))
        })?;
        report.target = target.name.clone();
        report.collections = restored.collections;
        report.documents = restored.documents;
        report.bytes = bytes;
        report.indexes = restored.indexes;
        report.oplog_entries = restored.entries;
        report.restored_to = restored.to;
        Ok(())
    }

    /// The dump, every file of which is what its manifest says.
    async fn fetch(&self, restic: &Restic, spool: &Spool, database: &DatabaseManifest) -> anyhow::Result<()> {
        let (fetching, unknown) =
            (restic.restore(self.snapshot()?, layout::DUMP, spool.path()), Meter::default());
        telling(self.clock, self.attempt, &unknown, None, "fetch", fetching).await?;
        let verifying = verified(spool.path().to_owned(), database.files().cloned().collect());
        telling(self.clock, self.attempt, &unknown, None, "verify", verifying).await
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
}

/// Configuration that was fetched.
struct Settings {
    from: PathBuf,
    to: PathBuf,
    files: Vec<String>,
}

impl Settings {
    fn put(self) -> anyhow::Result<u64> {
        for path in &self.files {
            let to = self.to.join(path);
            let folder = to.parent().context("it has no folder")?;
            std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
            std::fs::copy(self.from.join(path), &to).with_context(|| format!("make {}", to.display()))?;
        }
        Ok(self.files.len() as u64)
    }
}

/// Whether files are what the manifest says.
///
/// # Errors
/// Which is not.
pub async fn verified(root: PathBuf, files: Vec<FileEntry>) -> anyhow::Result<()> {
    let verifying = spawn_blocking(move || files.iter().try_for_each(|file| bson_file::verify(&root, file)));
    verifying.await.context("verify")?
}

/// The collections that the oplog makes: they must not be in the way either.
///
/// # Errors
/// When the oplog cannot be read.
pub fn made(root: &Path, database: &DatabaseManifest) -> anyhow::Result<BTreeSet<(String, String)>> {
    let mut made = BTreeSet::new();
    if let Some(oplog) = &database.oplog {
        let mut reader = Reader::open(root, &oplog.file.path)?;
        while let Some(entry) = reader.next_document()? {
            oplog::note_made(&entry, &mut made)?;
        }
    }
    Ok(made)
}
