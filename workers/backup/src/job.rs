//! A backup, from the first question to the database until it is one: dump, store, look whether all of it is there, commit.

use std::path::Path;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use keelson_kit::clock::Clock;
use keelson_kit::command::Attempt;
use keelson_schemas::backup::{
    Backup, BackupKind, BackupState, BackupSummary, Component, ComponentReport, DatabaseManifest, Manifest,
    Versions,
};
use keelson_schemas::id;

use crate::base::{self, Base, Decision};
use crate::layout;
use crate::mongo::dump::{Dump, Meter};
use crate::mongo::oplog::{self, ExtendError};
use crate::mongo::{Deployment, Standing};
use crate::restic::{Restic, Stored};
use crate::setup::Setup;
use crate::spool::Spool;
use crate::store;
use crate::telling::telling;

/// One backup.
pub struct Job<'a> {
    /// What it works with.
    pub setup: &'a Setup,
    /// The time.
    pub clock: &'a Clock,
    /// The operation behind it.
    pub attempt: &'a Attempt,
    /// What was asked for.
    pub command: &'a Backup,
}

impl Job<'_> {
    /// The id of the backup that an operation makes, however often it is tried.
    #[must_use]
    pub fn id(attempt: &Attempt) -> String {
        id::derive("backup", &[&attempt.operation])[..16].to_owned()
    }

    /// Makes it; what became of it, with `error` set unless it is complete.
    pub async fn run(&self) -> BackupSummary {
        let started_at = now(self.clock);
        let mut summary = BackupSummary {
            id: Self::id(self.attempt),
            state: BackupState::Failed,
            kind: self.command.kind,
            error: None,
            components: Vec::new(),
            started_at,
            finished_at: started_at,
            requested_by: self.attempt.requested_by.clone(),
            operation: self.attempt.operation.clone(),
            window: None,
            base: None,
            note: None,
            versions: Versions { keelson: env!("CARGO_PKG_VERSION").to_owned(), ..Versions::default() },
            snapshot: None,
            stored_bytes: 0,
        };
        if let Err(error) = self.make(&mut summary).await {
            summary.state = BackupState::Failed;
            summary.error = Some(format!("{error:#}"));
            summary.snapshot = None;
        }
        summary.finished_at = now(self.clock);
        summary
    }

    async fn make(&self, summary: &mut BackupSummary) -> anyhow::Result<()> {
        let restic = self.setup.restic()?;
        summary.versions.restic = restic.version().await?;
        restic.ensure().await?;
        restic.tidy().await?;
        let mut spool = Spool::open(&self.setup.spool()?, "dump")?;
        // What lies there can be added to until it is replaced, whatever happens to this backup.
        spool.keep(true);
        let base = self.database(&mut spool, summary).await?;
        summary.versions.mongodb = Some(base.database.server.clone());
        summary.window = base.database.window();
        summary.base = Some(base.backup.clone());
        let mut manifest = Manifest { backup: summary.clone(), database: Some(base.database.clone()) };
        manifest.backup.state = BackupState::Complete;
        manifest.backup.finished_at = now(self.clock);
        let stored = self.store(&restic, spool.path(), &manifest).await?;
        let snapshot = restic.commit(&stored.snapshot_id, &summary.id).await.context("commit")?;
        base.write(spool.path())?;
        spool.keep(true);
        summary.state = BackupState::Complete;
        summary.snapshot = Some(snapshot);
        summary.stored_bytes = stored.data_added;
        manifest.backup = BackupSummary { finished_at: now(self.clock), ..summary.clone() };
        if let Some(folder) = restic.folder() {
            store::write_beside(folder, &manifest)?;
        }
        Ok(())
    }

    /// The dump in the spool, as new as the database.
    async fn database(&self, spool: &mut Spool, summary: &mut BackupSummary) -> anyhow::Result<Base> {
        let began = self.clock.now();
        let meter = Meter::default();
        let dumped = self.dumped(spool, summary, &meter);
        let dumped = telling(self.clock, self.attempt, &meter, None, "dump", dumped).await;
        let duration_ms = u64::try_from((self.clock.now() - began).as_millis()).unwrap_or(u64::MAX);
        summary.components.push(report(dumped.as_ref().map(|base| &base.database), duration_ms));
        dumped.context("database")
    }

    async fn dumped(
        &self,
        spool: &mut Spool,
        summary: &mut BackupSummary,
        meter: &Meter,
    ) -> anyhow::Result<Base> {
        let source = self.setup.source().await?;
        let standing = source.standing().await?;
        let boot = base::boot();
        let kept = Base::read(spool.path(), &boot);
        let full_every = self.setup.config.full_every.0;
        match base::decide(self.command.kind, kept, &standing, summary.started_at, full_every) {
            Decision::Anew(reason) => summary.note = reason,
            Decision::Extend(base) => match self.extend(&source, &standing, spool, *base).await {
                Ok(base) => return Ok(base),
                Err(ExtendError::Gap(reason)) => {
                    tracing::warn!(backup.id = %summary.id, reason, "the oplog does not go on from the last backup: everything is read anew");
                    summary.note = Some(reason);
                }
                Err(ExtendError::Failed(error)) => return Err(error),
            },
        }
        summary.kind = BackupKind::Full;
        spool.keep(false);
        spool.clear()?;
        let at_once = self.setup.config.collections_at_once;
        let dump = Dump { root: spool.path().to_owned(), at_once, meter: meter.clone() };
        let database = dump.run(&source).await?;
        Ok(Base { boot, backup: summary.id.clone(), made_at: summary.started_at, database })
    }

    async fn extend(
        &self,
        source: &Deployment,
        standing: &Standing,
        spool: &Spool,
        mut base: Base,
    ) -> Result<Base, ExtendError> {
        if let (Some(left), Some(end)) = (&base.database.oplog, standing.committed) {
            let grown = oplog::extend(source, spool.path(), left, end).await?;
            base.database.oplog = Some(grown);
        }
        Ok(base)
    }

    async fn store(&self, restic: &Restic, root: &Path, manifest: &Manifest) -> anyhow::Result<Stored> {
        let json = serde_json::to_vec_pretty(manifest)?;
        std::fs::write(root.join(layout::MANIFEST), &json).context("write the manifest")?;
        let meter = Meter::default();
        let (seen, mut last) = (meter.clone(), 0);
        let paths = [layout::DUMP, layout::MANIFEST];
        let storing = restic.store(root, &paths, &manifest.backup.id, move |status| {
            seen.add(status.bytes_done.saturating_sub(last));
            last = last.max(status.bytes_done);
        });
        let stored = telling(self.clock, self.attempt, &meter, None, "store", storing).await?;
        let expected = expected(manifest, json.len() as u64);
        let found = (stored.total_files_processed, stored.total_bytes_processed);
        ensure!(
            found == expected,
            "{} files with {} bytes were stored, and there are {} with {}",
            found.0,
            found.1,
            expected.0,
            expected.1
        );
        Ok(stored)
    }
}

/// How many files a snapshot has to have, and how many bytes.
fn expected(manifest: &Manifest, json: u64) -> (u64, u64) {
    let files = manifest.database.iter().flat_map(DatabaseManifest::files);
    files.fold((1, json), |(files, bytes), file| (files + 1, bytes + file.bytes))
}

fn report(dumped: Result<&DatabaseManifest, &anyhow::Error>, duration_ms: u64) -> ComponentReport {
    let (state, error) = match dumped {
        Ok(_) => (BackupState::Complete, None),
        Err(error) => (BackupState::Failed, Some(format!("{error:#}"))),
    };
    let files = || dumped.iter().flat_map(|database| database.files());
    ComponentReport {
        component: Component::Database,
        state,
        error,
        files: files().count() as u64,
        bytes: files().map(|file| file.bytes).sum(),
        duration_ms,
    }
}

fn now(clock: &Clock) -> Timestamp {
    i64::try_from(clock.now_ms()).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn every_file_of_the_manifest_has_to_be_stored_and_the_manifest_itself() {
        let manifest = Manifest::example();
        // The oplog, the documents and the metadata of one collection.
        assert_eq!(expected(&manifest, 100), (4, 4_096 + 640_000 + 512 + 100));
    }

    #[test]
    fn what_failed_is_reported_as_failed() {
        let failed = report(Err(&anyhow::anyhow!("the cursor was lost")), 5);
        assert_eq!((failed.state, failed.files), (BackupState::Failed, 0));
        assert_eq!(failed.error.as_deref(), Some("the cursor was lost"));
        let complete = report(Ok(&Manifest::example().database.unwrap()), 5);
        assert_eq!((complete.state, complete.files, complete.bytes), (BackupState::Complete, 3, 644_608));
    }
}
