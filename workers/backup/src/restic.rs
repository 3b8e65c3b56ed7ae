//! The repository: the `restic` executable, driven through its JSON output. Encryption, deduplication, locks and packing are its work alone, so that
//! whatever Keelson has stored can be read by `restic` without Keelson.
//!
//! Secrets reach it through its environment, never through its arguments, which every user of the machine can see.

mod output;
mod run;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use keelson_kit::config::Secret;
use semver::Version;

use output::Node;
pub use output::{Snapshot, Status, Stored};

use crate::files::Stamp;

/// The oldest one whose output is known.
const OLDEST: Version = Version::new(0, 14, 0);
/// A file of a snapshot that is read into memory has at most so many bytes: the manifest of a million files.
const MAX_READ_BYTES: usize = 256 * 1024 * 1024;
/// On every snapshot that is a whole backup.
pub const WHOLE: &str = "keelson";
/// On a snapshot until it is known to be whole.
const UNFINISHED: &str = "keelson-unfinished";

/// Where backups are kept, and how it is opened.
#[derive(Clone, Debug)]
pub struct Restic {
    /// The executable.
    pub program: PathBuf,
    /// As RESTIC_REPOSITORY names it.
    pub repository: String,
    /// What it is encrypted with.
    pub password: Password,
    /// Where its indexes are cached; a folder on this machine needs none.
    pub cache: Option<PathBuf>,
    /// What restic is told of this process's environment.
    pub env: Vec<(OsString, OsString)>,
}

/// What a repository is encrypted with.
#[derive(Clone, Debug)]
pub enum Password {
    /// The password itself.
    Text(Secret),
    /// A file that has it.
    File(PathBuf),
}

/// Why restic did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ResticError {
    /// It is not there.
    #[error(
        "not configured: install restic 0.14 or newer (Debian: apt-get install restic), or set backup.restic to where it is ({0})"
    )]
    Missing(String),
    /// It is too old.
    #[error("restic {0} is too old: 0.14 or newer is needed")]
    TooOld(String),
    /// The repository was never made.
    #[error("there is no repository at {0}")]
    NoRepository(String),
    /// The repository is encrypted with another password.
    #[error(
        "the repository's password is another one: set RESTIC_PASSWORD or RESTIC_PASSWORD_FILE to that with which it was made"
    )]
    WrongPassword,
    /// Somebody else uses the repository in a way that excludes us.
    #[error("the repository is locked: {0}")]
    Locked(String),
    /// Files could not be read.
    #[error("not everything could be read: {0}")]
    Incomplete(String),
    /// Anything else, in restic's words.
    #[error("restic {command}: {said}")]
    Failed {
        /// Its subcommand.
        command: String,
        /// What it said.
        said: String,
    },
}

impl Restic {
    /// The executable's version.
    ///
    /// # Errors
    /// When there is none, or it is too old.
    pub async fn version(&self) -> Result<String, ResticError> {
        let said = self.text(&["version"]).await?;
        let version = said.split_whitespace().nth(1).unwrap_or_default().to_owned();
        match Version::parse(&version) {
            Ok(parsed) if parsed >= OLDEST => Ok(version),
            Ok(_) => Err(ResticError::TooOld(version)),
            Err(_) => Err(self.failed("version", &format!("{said:?} has no version in it"))),
        }
    }

    /// Makes sure that there is a repository that can be opened; one that was never made is made.
    ///
    /// # Errors
    /// When it cannot be opened or made.
    pub async fn ensure(&self) -> Result<(), ResticError> {
        match self.text(&["cat", "config"]).await {
            Err(ResticError::NoRepository(_)) if self.may_be_made() => {
                self.text(&["init"]).await?;
                tracing::info!(backup.repository = %self.place(), "a repository for backups was made");
                Ok(())
            }
            opened => opened.map(drop),
        }
    }

    /// Removes locks whose owners are gone, and snapshots that were never finished.
    ///
    /// # Errors
    /// When the repository cannot be changed.
    pub async fn tidy(&self) -> Result<(), ResticError> {
        self.text(&["unlock"]).await?;
        let unfinished = self.snapshots_tagged(UNFINISHED).await?;
        self.forget(unfinished.iter().map(|snapshot| snapshot.id.as_str())).await
    }

    /// Stores files and folders, named from `root`, as a snapshot that is not yet a backup. Says how far it is.
    ///
    /// # Errors
    /// When anything could not be read or stored.
    pub async fn store(
        &self,
        root: &Path,
        paths: &[&str],
        backup: &str,
        seen: impl FnMut(Status),
    ) -> Result<Stored, ResticError> {
        let tag = format!("id={backup}");
        let arguments = [&["backup", "--json", "--tag", UNFINISHED, "--tag", &tag, "--"], paths].concat();
        self.backup(root, &arguments, seen).await
    }

    /// The files of a snapshot, handed over one by one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn files(
        &self,
        snapshot: &str,
        mut take: impl FnMut(String, Stamp),
    ) -> Result<(), ResticError> {
        let line = |line: &str| {
            if let Some((path, stamp)) = serde_json::from_str::<Node>(line).ok().and_then(Node::file) {
                take(path, stamp);
            }
        };
        self.lines(&["ls", "--json", "--", snapshot], line).await
    }

    /// Makes a backup of a snapshot: one step, after which it is one.
    ///
    /// # Errors
    /// When it could not be done.
    pub async fn commit(&self, snapshot: &str, backup: &str) -> Result<String, ResticError> {
        let tags = format!("{WHOLE},id={backup}");
        self.text(&["tag", "--set", &tags, "--", snapshot]).await?;
        let made = self.snapshots_tagged(&tags).await?;
        let newest = made.into_iter().max_by(|a, b| a.time.cmp(&b.time));
        newest
            .map(|snapshot| snapshot.id)
            .ok_or_else(|| self.failed("tag", "the snapshot is not there after it"))
    }

    /// Every backup in the repository.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>, ResticError> {
        self.snapshots_tagged(WHOLE).await
    }

    /// The bytes of one file of a snapshot.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(&self, snapshot: &str, path: &str) -> Result<Vec<u8>, ResticError> {
        self.bytes(&["dump", "--", snapshot, &format!("/{path}")], MAX_READ_BYTES).await
    }

    /// Writes a folder of a snapshot under `target`. What it wrote has to be compared with the manifest.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub async fn restore(&self, snapshot: &str, path: &str, target: &Path) -> Result<(), ResticError> {
        let (include, target) = (format!("/{}", literally(path)), target.to_string_lossy());
        self.text(&["restore", "--include", &include, "--target", &target, "--", snapshot]).await.map(drop)
    }

    /// Removes snapshots. What only they refer to stays until the repository is pruned.
    ///
    /// # Errors
    /// When the repository cannot be changed.
    pub async fn forget<'a>(&self, snapshots: impl Iterator<Item = &'a str>) -> Result<(), ResticError> {
        let snapshots: Vec<&str> = snapshots.collect();
        if snapshots.is_empty() {
            return Ok(());
        }
        self.text(&[&["forget", "--"], snapshots.as_slice()].concat()).await.map(drop)
    }

    /// Removes what no snapshot refers to.
    ///
    /// # Errors
    /// When the repository cannot be changed.
    pub async fn prune(&self) -> Result<(), ResticError> {
        self.text(&["prune"]).await.map(drop)
    }

    /// Where the repository is, when it is a folder on this machine.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        let local = self.repository.strip_prefix("local:").unwrap_or(&self.repository);
        let remote =
            local.split_once(':').is_some_and(|(scheme, _)| scheme.len() > 1 && !scheme.contains('/'));
        (!remote).then(|| Path::new(local))
    }

    /// Where the repository is, without what may be secret.
    #[must_use]
    pub fn place(&self) -> String {
        match (self.folder(), self.repository.rsplit_once('@')) {
            (Some(folder), _) => folder.display().to_string(),
            (None, Some((before, host))) => {
                format!("{}:…@{host}", before.split(':').next().unwrap_or_default())
            }
            (None, None) => self.repository.clone(),
        }
    }

    /// Whether the repository is a folder in which nothing was ever stored.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.folder().is_some_and(|folder| !folder.join("config").exists()) && self.may_be_made()
    }

    /// A folder with anything of a repository in it has lost its config, and is not to be made anew.
    pub(crate) fn may_be_made(&self) -> bool {
        let Some(folder) = self.folder() else { return true };
        !["keys", "data", "snapshots"].iter().any(|part| {
            std::fs::read_dir(folder.join(part)).is_ok_and(|mut entries| entries.next().is_some())
        })
    }

    async fn snapshots_tagged(&self, tags: &str) -> Result<Vec<Snapshot>, ResticError> {
        let bytes = self.bytes(&["snapshots", "--json", "--tag", tags], MAX_READ_BYTES).await?;
        output::snapshots(&bytes).map_err(|error| self.failed("snapshots", &error.to_string()))
    }

    fn failed(&self, command: &str, said: &str) -> ResticError {
        ResticError::Failed { command: command.to_owned(), said: said.to_owned() }
    }
}

/// A path as a pattern that fits nothing else.
fn literally(path: &str) -> String {
    path.chars().flat_map(|c| if r"*?[\".contains(c) { vec!['\\', c] } else { vec![c] }).collect()
}

impl Snapshot {
    /// The id of the backup that it is.
    #[must_use]
    pub fn backup(&self) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix("id="))
    }
}

#[cfg(test)]
mod tests;
