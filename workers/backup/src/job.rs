//! A backup, from the first question to the database until it is one: dump, store, look whether all of it is there, commit.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use jiff::Timestamp;
use keelson_kit::clock::Clock;
use keelson_kit::command::Attempt;
use keelson_schemas::backup::{
    Backup, BackupKind, BackupState, BackupSummary, Component, ComponentReport, ConfigManifest, FileEntry,
    Manifest, Versions,
};
use keelson_schemas::id;

use crate::base::{self, Base, Decision};
use crate::mongo::dump::{Dump, Meter};
use crate::mongo::oplog::{self, ExtendError};
use crate::mongo::{Deployment, Standing};
use crate::restic::Restic;
use crate::settings;
use crate::setup::Setup;
use crate::spool::Spool;
use crate::store;
use crate::storing::Storing;
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
    /// Set when the oplog did not go on from the last backup.
    pub gap: AtomicBool,
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
            held: false,
            verified_at: None,
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
        let asked = self.components();
        let mut base = None;
        if asked.contains(&Component::Database) {
            let made = self.database(&mut spool, summary).await?;
            summary.versions.mongodb = Some(made.database.server.clone());
            summary.window = made.database.window();
            summary.base = Some(made.backup.clone());
            base = Some(made);
        } else {
            summary.kind = BackupKind::Full;
        }
        let config = asked.contains(&Component::Config).then(|| self.config(spool.path(), summary));
        let folders = if asked.contains(&Component::Files) { self.setup.folders()? } else { Vec::new() };
        let database = base.as_ref().map(|base| base.database.clone());
        let mut manifest =
            Manifest { backup: summary.clone(), database, files: None, config: config.transpose()? };
        manifest.backup.state = BackupState::Complete;
        manifest.backup.finished_at = now(self.clock);
        let stored = self.storing(&restic, spool.path(), &folders).run(&mut manifest).await?;
        let snapshot = restic.commit(&stored.snapshot_id, &summary.id).await.context("commit")?;
        if let Some(base) = &base {
            base.write(spool.path())?;
        }
        spool.keep(true);
        summary.components = manifest.backup.components.clone();
        summary.state = BackupState::Complete;
        summary.snapshot = Some(snapshot);
        summary.stored_bytes = stored.data_added;
        manifest.backup = BackupSummary { finished_at: now(self.clock), ..summary.clone() };
        if let Some(folder) = restic.folder() {
            store::write_beside(folder, &manifest)?;
        }
        Ok(())
    }

    fn components(&self) -> Vec<Component> {
        if self.command.components.is_empty() {
            self.setup.configured()
        } else {
            self.command.components.clone()
        }
    }

    /// The configuration in the spool, without its secrets.
    fn config(&self, root: &Path, summary: &mut BackupSummary) -> anyhow::Result<ConfigManifest> {
        let began = self.clock.now();
        let collected = self
            .setup
            .settings()
            .and_then(|(sources, sanitiser)| settings::collect(&sources, &sanitiser, root));
        let files = collected.as_ref().map(ConfigManifest::files);
        summary.components.push(report(Component::Config, files, self.since(began)));
        collected.context("config")
    }

    fn storing<'a>(
        &'a self,
        restic: &'a Restic,
        root: &'a Path,
        folders: &'a [(String, PathBuf)],
    ) -> Storing<'a> {
        Storing {
            clock: self.clock,
            attempt: self.attempt,
            restic,
            root,
            folders,
            known: root.with_file_name("files.json"),
        }
    }

    fn since(&self, began: Instant) -> u64 {
        u64::try_from((self.clock.now() - began).as_millis()).unwrap_or(u64::MAX)
    }

    /// The dump in the spool, as new as the database.
    async fn database(&self, spool: &mut Spool, summary: &mut BackupSummary) -> anyhow::Result<Base> {
        let began = self.clock.now();
        let meter = Meter::default();
        let dumped = self.dumped(spool, summary, &meter);
        let dumped = telling(self.clock, self.attempt, &meter, None, "dump", dumped).await;
        let files = dumped.as_ref().map(|base| base.database.files());
        summary.components.push(report(Component::Database, files, self.since(began)));
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
                    self.gap.store(true, Ordering::Relaxed);
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
}

/// How a component fared that consists of these files, or has failed.
pub fn report<'a>(
    component: Component,
    files: Result<impl Iterator<Item = &'a FileEntry>, &anyhow::Error>,
    duration_ms: u64,
) -> ComponentReport {
    let mut report = ComponentReport {
        component,
        state: BackupState::Complete,
        error: None,
        files: 0,
        bytes: 0,
        duration_ms,
    };
    match files {
        Ok(files) => files.for_each(|file| {
            report.files += 1;
            report.bytes += file.bytes;
        }),
        Err(error) => {
            report.state = BackupState::Failed;
            report.error = Some(format!("{error:#}"));
        }
    }
    report
}

/// The time, as messages have it.
pub fn now(clock: &Clock) -> Timestamp {
    i64::try_from(clock.now_ms()).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn what_failed_is_reported_as_failed() {
        let failed = report(
            Component::Files,
            Err::<std::slice::Iter<'_, FileEntry>, _>(&anyhow::anyhow!("the cursor was lost")),
            5,
        );
        assert_eq!((failed.state, failed.files), (BackupState::Failed, 0));
        assert_eq!(failed.error.as_deref(), Some("the cursor was lost"));
        let database = Manifest::example().database.unwrap();
        let complete = report(Component::Database, Ok(database.files()), 5);
        assert_eq!((complete.state, complete.files, complete.bytes), (BackupState::Complete, 3, 644_608));
    }
}
