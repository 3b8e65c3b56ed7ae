//! A rehearsal: everything in a backup is restored where it harms nobody, and compared with what was backed up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use keelson_kit::clock::Clock;
use keelson_kit::command::Attempt;
use keelson_schemas::backup::{
    BackupSummary, Component, DatabaseManifest, DrillReport, FileEntry, FilesManifest, Manifest, OplogEntry,
    Phase,
};
use nix::sys::statvfs::statvfs;

use crate::bson_file::Reader;
use crate::files;
use crate::job::now;
use crate::layout;
use crate::mongo::compare;
use crate::mongo::dump::Meter;
use crate::mongo::restore::{Restored, Restoring};
use crate::plan::{self, Plan};
use crate::restic::Restic;
use crate::restoring;
use crate::scratch::{self, Scratch};
use crate::selection::Selection;
use crate::setup::Setup;
use crate::spool::Spool;
use crate::store;
use crate::telling::telling;

/// Where it works, in the folder of dumps.
const SPOOL: &str = "drill";
/// The folder of the scratch server in it.
const MONGOD: &str = "mongod";
/// What an empty mongod takes, and what is to be left for everybody else.
const LEFT_FREE: u64 = 1024 * 1024 * 1024;
/// So many differences are told.
const MOST_DIFFERENCES: usize = 100;

/// One rehearsal.
pub struct Job<'a> {
    /// What it works with.
    pub setup: &'a Setup,
    /// The time.
    pub clock: &'a Clock,
    /// The operation behind it.
    pub attempt: &'a Attempt,
    /// What is restored.
    pub backup: &'a BackupSummary,
}

/// Whether a backup can be rehearsed here.
///
/// # Errors
/// Why not.
pub fn possible(setup: &Setup, backup: &BackupSummary) -> Result<(), String> {
    let database = backup.components.iter().any(|report| report.component == Component::Database);
    if database && scratch::program(&setup.config.mongod).is_none() {
        return Err("not configured: install mongod, of the version that is backed up, or say where it is (backup.mongod), so that restores can be rehearsed".to_owned());
    }
    Ok(())
}

/// Ends what a killed worker left of a rehearsal.
pub async fn end_left(setup: &Setup) {
    if let Ok(spool) = setup.spool() {
        scratch::end_left(&spool.join(SPOOL).join(MONGOD)).await;
    }
}

impl Job<'_> {
    /// Rehearses; what came of it, passed only if nothing failed and nothing differs.
    pub async fn run(&self) -> DrillReport {
        let started_at = now(self.clock);
        let mut report = DrillReport {
            backup_id: self.backup.id.clone(),
            passed: false,
            error: None,
            differences: Vec::new(),
            components: self.backup.components.iter().map(|report| report.component).collect(),
            started_at,
            finished_at: started_at,
            requested_by: self.attempt.requested_by.clone(),
            phases: Vec::new(),
            rpo_ms: milliseconds(newest_state(self.backup), started_at),
            rto_ms: 0,
            collections: 0,
            documents: 0,
            indexes: 0,
            oplog_entries: 0,
            files: 0,
        };
        report.error = self.rehearse(&mut report).await.err().map(|error| format!("{error:#}"));
        report.finished_at = now(self.clock);
        judged(report)
    }

    async fn rehearse(&self, report: &mut DrillReport) -> anyhow::Result<()> {
        end_left(self.setup).await;
        let restic = self.setup.restic()?;
        restic.version().await?;
        let spool = Spool::empty(&self.setup.spool()?, SPOOL)?;
        let manifest = self.step(report, "manifest", true, store::manifest(&restic, self.backup)).await?;
        has_room(free(spool.path())?, &manifest)?;
        if let Some(database) = &manifest.database {
            self.database(report, &restic, spool.path(), database).await?;
        }
        if let Some(files) = &manifest.files {
            self.step(report, "files", true, self.files(&restic, spool.path(), files)).await?;
            report.files += files.files().count() as u64;
        }
        if let Some(config) = &manifest.config {
            let files = config.files().cloned().collect();
            self.step(report, "config", true, self.fetch(&restic, spool.path(), &[layout::CONFIG], files))
                .await?;
            report.files += config.files().count() as u64;
        }
        Ok(())
    }

    async fn database(
        &self,
        report: &mut DrillReport,
        restic: &Restic,
        root: &Path,
        database: &DatabaseManifest,
    ) -> anyhow::Result<()> {
        let files = database.files().cloned().collect();
        self.step(report, "fetch", true, self.fetch(restic, root, &[layout::DUMP], files)).await?;
        let program = scratch::program(&self.setup.config.mongod).context("there is no mongod")?;
        let folder = root.join(MONGOD);
        std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        let scratch =
            self.step(report, "start mongod", true, Scratch::start(&program, &folder, self.clock)).await?;
        let rehearsed = self.in_scratch(report, &scratch, root, database).await;
        scratch.end().await;
        rehearsed
    }

    async fn in_scratch(
        &self,
        report: &mut DrillReport,
        scratch: &Scratch,
        root: &Path,
        database: &DatabaseManifest,
    ) -> anyhow::Result<()> {
        let said = |errors: Vec<String>| anyhow::Error::msg(errors.join("; "));
        let selection = Selection::parse(&[], &BTreeMap::new()).map_err(said)?;
        let made = restoring::made(root, database)?;
        let plan = plan::plan(database, &selection, false, &BTreeSet::new(), &made).map_err(said)?;
        let deployment = &scratch.deployment;
        let restoring =
            Restoring { deployment, root, selection: &selection, until: None, meter: Meter::default() };
        let filled = self.step(report, "restore", true, restoring.fill(&plan, false)).await?;
        let differences = self.step(report, "compare", false, documents(&restoring, &plan)).await?;
        report.differences.extend(differences);
        let finishing = restoring.finish(filled, database.oplog.as_ref());
        let (restored, indexes) = self.step(report, "oplog and indexes", true, finishing).await?;
        let structure = async {
            let expected = restoring.expected(&plan)?;
            compare::structure(deployment, &expected, &indexes, &changed(root, database)?).await
        };
        let differences = self.step(report, "validate", false, structure).await?;
        report.differences.extend(differences);
        report.differences.extend(unfinished(&restored, database.oplog.as_ref()));
        report.collections = restored.collections;
        report.documents = restored.documents;
        report.indexes = restored.indexes;
        report.oplog_entries = restored.entries;
        Ok(())
    }

    async fn files(&self, restic: &Restic, root: &Path, manifest: &FilesManifest) -> anyhow::Result<()> {
        let mut parts = Vec::new();
        for folder in &manifest.folders {
            if folder.files.iter().any(|stored| !stored.file.path.starts_with(layout::COPIED)) {
                parts.push(files::in_snapshot(Path::new(&folder.path))?);
            }
        }
        if manifest.files().any(|file| file.path.starts_with(layout::COPIED)) {
            parts.push(layout::COPIED.to_owned());
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.fetch(restic, root, &parts, manifest.files().cloned().collect()).await
    }

    /// Files as they were, or an error.
    async fn fetch(
        &self,
        restic: &Restic,
        root: &Path,
        parts: &[&str],
        files: Vec<FileEntry>,
    ) -> anyhow::Result<()> {
        let snapshot = self.backup.snapshot.as_deref().context("the backup is not in the repository")?;
        for part in parts {
            restic.restore(snapshot, part, root).await?;
        }
        restoring::verified(root.to_owned(), files).await
    }

    async fn step<T>(
        &self,
        report: &mut DrillReport,
        name: &str,
        restoring: bool,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let began = self.clock.now();
        let done = telling(self.clock, self.attempt, &Meter::default(), None, name, work).await;
        let duration_ms = u64::try_from((self.clock.now() - began).as_millis()).unwrap_or(u64::MAX);
        report.phases.push(Phase { name: name.to_owned(), restoring, duration_ms });
        done.with_context(|| name.to_owned())
    }
}

/// What is to be thought of it. Pure.
fn judged(mut report: DrillReport) -> DrillReport {
    report.passed = report.error.is_none() && report.differences.is_empty();
    report.rto_ms = report.phases.iter().filter(|step| step.restoring).map(|step| step.duration_ms).sum();
    report.differences.truncate(MOST_DIFFERENCES);
    report
}

fn free(folder: &Path) -> anyhow::Result<u64> {
    let disk = statvfs(folder).with_context(|| format!("look how much room {} has", folder.display()))?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

/// Whoever rehearses must not fill the disk of whoever works. Pure.
fn has_room(free: u64, manifest: &Manifest) -> anyhow::Result<()> {
    let bytes = |files: &mut dyn Iterator<Item = &FileEntry>| files.map(|file| file.bytes).sum::<u64>();
    // The dump, and the database that is made of it.
    let database = manifest.database.as_ref().map_or(0, |database| bytes(&mut database.files()));
    let needed = bytes(&mut manifest.files()) + database + LEFT_FREE;
    ensure!(free >= needed, "{needed} bytes of room are needed in backup.spool, and there are {free}");
    Ok(())
}

async fn documents(restoring: &Restoring<'_>, plan: &Plan<'_>) -> anyhow::Result<Vec<String>> {
    let mut differences = Vec::new();
    for item in &plan.items {
        differences.extend(compare::documents(restoring.deployment, restoring.root, item.entry).await?);
    }
    Ok(differences)
}

/// What the oplog changes beside documents.
fn changed(root: &Path, database: &DatabaseManifest) -> anyhow::Result<BTreeSet<compare::Name>> {
    let mut changed = BTreeSet::new();
    if let Some(oplog) = &database.oplog {
        let mut reader = Reader::open(root, &oplog.file.path)?;
        while let Some(entry) = reader.next_document()? {
            compare::note_changed(&entry, &mut changed)?;
        }
    }
    Ok(changed)
}

/// What is missing of the oplog. Pure.
fn unfinished(restored: &Restored, oplog: Option<&OplogEntry>) -> Option<String> {
    let oplog = oplog?;
    let whole = restored.entries == oplog.entries && (oplog.entries == 0 || restored.to == Some(oplog.last));
    (!whole).then(|| {
        format!("the oplog: {} entries were backed up, and {} were replayed", oplog.entries, restored.entries)
    })
}

/// The newest state that is in a backup.
fn newest_state(backup: &BackupSummary) -> Timestamp {
    let to = backup.window.and_then(|window| Timestamp::from_second(i64::from(window.to.seconds)).ok());
    to.unwrap_or(backup.started_at)
}

fn milliseconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
}

/// In words, why it did not pass.
#[must_use]
pub fn failure(report: &DrillReport) -> String {
    let said = report.error.iter().chain(&report.differences).map(String::as_str);
    let said: Vec<&str> = said.take(3).collect();
    let told = report.differences.len() + usize::from(report.error.is_some());
    let more = match told.saturating_sub(said.len()) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("backup {} could not be restored as it was: {}{more}", report.backup_id, said.join("; "))
}

#[cfg(test)]
mod tests {
    use keelson_schemas::backup::OpTime;
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn it_passes_only_if_nothing_failed_and_nothing_differs() {
        let (good, failed) =
            (DrillReport { differences: Vec::new(), ..DrillReport::example() }, Some("a".to_owned()));
        assert!(judged(good.clone()).passed);
        assert!(!judged(DrillReport { error: failed, ..good.clone() }).passed);
        let differing = judged(DrillReport { differences: vec!["a".to_owned(); 500], ..good });
        assert_eq!((differing.passed, differing.differences.len()), (false, MOST_DIFFERENCES));
        assert_eq!(differing.rto_ms, 4_000, "what was only compared does not count");
    }

    #[test]
    fn why_it_did_not_pass_is_said_in_words() {
        let mut report = DrillReport { error: Some("fetch: damaged".into()), ..DrillReport::example() };
        report.differences = ["a", "b", "c"].map(str::to_owned).to_vec();
        let said = failure(&report);
        assert_eq!(
            said,
            "backup 5f0c9a3be1d24786 could not be restored as it was: fetch: damaged; a; b; and 1 more"
        );
    }

    #[test]
    fn an_oplog_is_replayed_to_its_end_or_it_is_said() {
        let last = OpTime { seconds: 9, increment: 1, term: 1 };
        let file = FileEntry { path: "dump/oplog.bson".into(), bytes: 1, sha256: String::new() };
        let oplog = OplogEntry { file, first: last, consistent: last, last, entries: 3 };
        let restored = |entries, to| Restored { entries, to, ..Restored::default() };
        assert_eq!(unfinished(&restored(3, Some(last)), Some(&oplog)), None);
        assert!(unfinished(&restored(2, Some(last)), Some(&oplog)).is_some());
        assert!(unfinished(&restored(3, None), Some(&oplog)).is_some());
        assert_eq!(unfinished(&restored(0, None), None), None);
    }

    #[test]
    fn there_has_to_be_room_for_the_dump_the_database_and_the_files() {
        let manifest = Manifest::example();
        let database: u64 = manifest.database.as_ref().unwrap().files().map(|file| file.bytes).sum();
        let all: u64 = manifest.files().map(|file| file.bytes).sum();
        assert!(has_room(all + database + LEFT_FREE, &manifest).is_ok());
        assert!(
            has_room(all + database + LEFT_FREE - 1, &manifest).unwrap_err().to_string().contains("spool")
        );
    }

    #[test]
    fn what_would_be_lost_is_what_came_after_the_newest_state() {
        let backup = BackupSummary::example();
        let to = i64::from(backup.window.unwrap().to.seconds);
        assert_eq!(newest_state(&backup).as_second(), to);
        let without = BackupSummary { window: None, ..backup.clone() };
        assert_eq!(newest_state(&without), backup.started_at);
        assert_eq!(milliseconds(newest_state(&backup), Timestamp::from_second(to + 60).unwrap()), 60_000);
    }
}
