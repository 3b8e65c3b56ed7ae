//! What was gathered becomes a snapshot that is true to its manifest: stored, compared with it, and stored anew where files changed meanwhile.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use keelson_kit::clock::Clock;
use keelson_kit::command::Attempt;
use keelson_schemas::backup::{BackupState, Component, FilesManifest, Manifest};
use tokio::task::spawn_blocking;

use crate::files::{Known, Scan, Seen, Stamp};
use crate::job::report;
use crate::layout;
use crate::mongo::dump::Meter;
use crate::restic::{Restic, ResticError, Stored};
use crate::telling::telling;

/// How often files are looked through while they change.
const TRIES: usize = 4;
/// Once one changes, all that changed so shortly before the backup began are taken for such, too.
const LATELY_MS: u64 = 10_000;

/// What it takes to store a backup.
pub struct Storing<'a> {
    /// The time.
    pub clock: &'a Clock,
    /// The operation behind it.
    pub attempt: &'a Attempt,
    /// Where to.
    pub restic: &'a Restic,
    /// The spool.
    pub root: &'a Path,
    /// Folders of files, by their names.
    pub folders: &'a [(String, PathBuf)],
    /// Where the digests of files are kept for the next time.
    pub known: PathBuf,
}

/// What a file of the manifest has to be in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// It lies in the spool, where nobody else writes.
    Size(u64),
    /// It may change at any time.
    Same(Stamp),
}

impl Storing<'_> {
    /// Stores what the manifest says, and the folders, which it then says.
    pub async fn run(self, manifest: &mut Manifest) -> anyhow::Result<Stored> {
        let (mut moving, mut since_ns) = (BTreeSet::new(), i128::MAX);
        let lately_ms = self.clock.now_ms().saturating_sub(LATELY_MS);
        let components = manifest.backup.components.clone();
        for round in 1..=TRIES {
            let mut seen = Seen::default();
            if !self.folders.is_empty() {
                let began = self.clock.now();
                seen = self.scan(&moving, since_ns).await.context("files")?;
                manifest.files = Some(seen.manifest.clone());
                let duration_ms = u64::try_from((self.clock.now() - began).as_millis()).unwrap_or(u64::MAX);
                let found = report(Component::Files, Ok(FilesManifest::files(&seen.manifest)), duration_ms);
                debug_assert_eq!(found.state, BackupState::Complete);
                manifest.backup.components = components.iter().cloned().chain([found]).collect();
            }
            let stored = self.store(manifest).await?;
            // A file that goes while its folder is read is complained of, too: of folders, the comparison decides.
            if let (true, Some(said)) = (self.folders.is_empty(), &stored.incomplete) {
                return Err(ResticError::Incomplete(said.clone()).into());
            }
            let lost = self.lost(&stored.snapshot_id, expected(manifest, &seen.stamps)).await?;
            let Some(first) = lost.first() else { return Ok(stored) };
            let fixed = lost.iter().find(|path| !seen.stamps.contains_key(*path));
            if let Some(path) = fixed {
                bail!("{path} was not stored as it is");
            }
            if round == TRIES {
                bail!(
                    "files: {first} and {} more changed again and again while they were stored",
                    lost.len() - 1
                );
            }
            tracing::info!(
                files = lost.len(),
                first,
                "files changed while they were stored: they are copied, and stored again"
            );
            moving.extend(lost);
            since_ns = i128::from(lately_ms) * 1_000_000;
        }
        bail!("files: nothing was stored")
    }

    /// Looks through the folders. Digests of files that have not changed are known from before.
    async fn scan(&self, moving: &BTreeSet<String>, moving_since_ns: i128) -> anyhow::Result<Seen> {
        let meter = Meter::default();
        let (root, folders, file) = (self.root.to_owned(), self.folders.to_vec(), self.known.clone());
        let (moving, counting) = (moving.clone(), meter.clone());
        let scanning = spawn_blocking(move || {
            // It is there even if nothing is: what is stored is found again by its paths.
            let copied = root.join(layout::COPIED);
            if moving.is_empty() && copied.exists() {
                std::fs::remove_dir_all(&copied).with_context(|| format!("remove {}", copied.display()))?;
            }
            std::fs::create_dir_all(&copied).with_context(|| format!("make {}", copied.display()))?;
            let mut known = Known::read(&file);
            let scan =
                Scan { known: &mut known, spool: &root, moving: &moving, moving_since_ns, meter: &counting };
            let seen = scan.run(&folders)?;
            known.write(&file)?;
            Ok(seen)
        });
        telling(self.clock, self.attempt, &meter, None, "files", scanning).await.context("it crashed")?
    }

    async fn store(&self, manifest: &Manifest) -> Result<Stored, ResticError> {
        let written = serde_json::to_vec_pretty(manifest).map_err(std::io::Error::from);
        let written = written.and_then(|json| std::fs::write(self.root.join(layout::MANIFEST), json));
        let failed = |error: std::io::Error| ResticError::Failed {
            command: "backup".to_owned(),
            said: format!("write the manifest: {error}"),
        };
        written.map_err(failed)?;
        let meter = Meter::default();
        let (seen, mut last) = (meter.clone(), 0);
        let paths = self.paths(manifest);
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let storing = self.restic.store(self.root, &paths, &manifest.backup.id, move |status| {
            seen.add(status.bytes_done.saturating_sub(last));
            last = last.max(status.bytes_done);
        });
        telling(self.clock, self.attempt, &meter, None, "store", storing).await
    }

    fn paths(&self, manifest: &Manifest) -> Vec<String> {
        let own = [
            manifest.database.is_some().then_some(layout::DUMP),
            manifest.config.is_some().then_some(layout::CONFIG),
            manifest.files.is_some().then_some(layout::COPIED),
            Some(layout::MANIFEST),
        ];
        let folders = self.folders.iter().map(|(_, path)| path.to_string_lossy().into_owned());
        own.into_iter().flatten().map(str::to_owned).chain(folders).collect()
    }

    /// What is in the manifest and not in the snapshot as it should be.
    async fn lost(
        &self,
        snapshot: &str,
        mut expected: HashMap<String, Expected>,
    ) -> anyhow::Result<Vec<String>> {
        let compare = |path: String, stored: Stamp| {
            if expected.get(&path).is_some_and(|expected| expected.is(stored)) {
                expected.remove(&path);
            }
        };
        self.restic.files(snapshot, compare).await?;
        let mut lost: Vec<String> = expected.into_keys().collect();
        lost.sort_unstable();
        Ok(lost)
    }
}

impl Expected {
    fn is(self, stored: Stamp) -> bool {
        match self {
            Self::Size(bytes) => stored.bytes == bytes,
            Self::Same(stamp) => stored == stamp,
        }
    }
}

/// What has to be in the snapshot.
fn expected(manifest: &Manifest, stamps: &HashMap<String, Stamp>) -> HashMap<String, Expected> {
    let of = |path: &str, bytes: u64| {
        stamps.get(path).map_or(Expected::Size(bytes), |stamp| Expected::Same(*stamp))
    };
    let files = manifest.files().map(|file| (file.path.clone(), of(&file.path, file.bytes)));
    files.collect()
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn every_file_of_the_manifest_has_to_be_stored_as_it_was_seen() {
        let manifest = Manifest::example();
        let video = "srv/click/uploads/video/2026/a.mp4";
        let seen = Stamp { bytes: 40_000_000, modified_ns: 1, changed_ns: 2 };
        let expected = expected(&manifest, &[(video.to_owned(), seen)].into());
        // The oplog, the documents and the metadata of one collection, the video, the environment.
        assert_eq!(expected.len(), 5);
        assert!(expected[video].is(seen));
        assert!(!expected[video].is(Stamp { modified_ns: 2, ..seen }), "it was written to since");
        assert!(expected["dump/oplog.bson"].is(Stamp { bytes: 4_096, ..seen }));
        assert!(!expected["dump/oplog.bson"].is(Stamp { bytes: 4_095, ..seen }));
    }
}
