//! The data directory: who may use it, and the notes that `keelson up` leaves in it for the other commands.
//!
//! One lock guards all of it. The process takes it at start and hands it on to its nats-server, so that the kernel lets go of it only when
//! both are gone: while an orphaned server still writes to the store, nobody opens the store a second time.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// How long the server of a process that was killed may take to follow it.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(10);

/// A data directory, `KEELSON_DATA_DIR`.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// The right to use a data directory. Dropping it gives the right up, unless a nats-server that was given a copy still runs.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Where a running `keelson up` can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// Its HTTP ingress, such as `http://127.0.0.1:8080`.
    pub http: String,
    /// Its bus, such as `nats://127.0.0.1:4222`.
    pub nats: String,
}

impl DataDir {
    /// The directory at the path; nothing is made or opened yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What belongs to the private nats-server: store, configuration, log.
    pub fn nats(&self) -> PathBuf {
        self.path.join("nats")
    }

    /// The token that `keelson up` makes when none is configured.
    pub fn admin_token_file(&self) -> PathBuf {
        self.path.join("admin-token")
    }

    /// Takes the directory for this process, making it where there is none.
    ///
    /// # Errors
    /// When another process has it, with its number; and when it cannot be written.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        fs::create_dir_all(&self.path)
            .with_context(|| format!("cannot make the data directory {}", self.shown()))?;
        let mut file = self.open_lock().with_context(|| format!("cannot write in {}", self.shown()))?;
        let patience = Instant::now() + ORPHAN_PATIENCE;
        while !try_lock(&file)? {
            let holder = holder(&mut file);
            if let Some(pid) = holder.filter(|pid| alive(*pid)) {
                bail!(
                    "the data directory {} is in use by process {pid}: stop that one first, or choose another directory with KEELSON_DATA_DIR",
                    self.shown()
                );
            }
            if Instant::now() > patience {
                bail!(
                    "a nats-server of an earlier run still has {} open: look for it with `pgrep -a nats-server` and stop it",
                    self.shown()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        note_holder(&mut file).with_context(|| format!("cannot write in {}", self.shown()))?;
        Ok(Lock { file })
    }

    /// Tells the other commands where this process can be reached.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn announce(&self, running: &Running) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(running)?;
        fs::write(self.running_file(), text).with_context(|| format!("cannot write in {}", self.shown()))
    }

    /// Takes the announcement back.
    pub fn withdraw(&self) {
        let _ = fs::remove_file(self.running_file());
    }

    /// The process that runs on this directory, if one does.
    pub fn running(&self) -> Option<Running> {
        let running: Running = serde_json::from_slice(&fs::read(self.running_file()).ok()?).ok()?;
        alive(running.pid).then_some(running)
    }

    /// The local admin token, if there is one.
    pub fn admin_token(&self) -> Option<String> {
        let token = fs::read_to_string(self.admin_token_file()).ok()?;
        Some(token.trim().to_owned()).filter(|token| !token.is_empty())
    }

    /// Keeps a token for the local commands, readable by this user alone. A reader sees the whole file or none.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_admin_token(&self, token: &str) -> anyhow::Result<()> {
        let draft = self.path.join("admin-token.draft");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        writeln!(file, "{token}")?;
        file.sync_all()?;
        fs::rename(&draft, self.admin_token_file())?;
        Ok(())
    }

    fn open_lock(&self) -> std::io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path.join("lock"))
    }

    fn running_file(&self) -> PathBuf {
        self.path.join("running.json")
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}

impl Lock {
    /// A copy for a child: the directory stays taken until the child is gone too.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn share(&self) -> std::io::Result<File> {
        self.file.try_clone()
    }
}

fn try_lock(file: &File) -> anyhow::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => {
            Err(error).context("this filesystem cannot lock files, which Keelson needs")
        }
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn note_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Whether the process exists and is no zombie that nobody has waited for yet: that one writes nothing any more.
fn alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The state follows the command's name, which stands in parentheses and may itself hold any character.
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !matches!(rest.trim_start().chars().next(), Some('Z' | 'X')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_taken_once() {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::new(place.path().join("data"));
        let lock = dir.lock().unwrap();
        let refusal = dir.lock().unwrap_err().to_string();
        assert!(refusal.contains(&format!("in use by process {}", std::process::id())), "{refusal}");
        drop(lock);
        dir.lock().unwrap();
    }

    #[test]
    fn a_shared_lock_outlives_its_first_holder() {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::new(place.path());
        let lock = dir.lock().unwrap();
        let share = lock.share().unwrap();
        drop(lock);
        assert!(dir.lock().is_err());
        drop(share);
        dir.lock().unwrap();
    }

    #[test]
    fn the_admin_token_is_private_even_where_a_public_draft_was_left() {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::new(place.path());
        fs::write(place.path().join("admin-token.draft"), "left by a crash").unwrap();
        dir.keep_admin_token("secret").unwrap();
        let mode = fs::metadata(dir.admin_token_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(dir.admin_token().as_deref(), Some("secret"));
    }

    #[test]
    fn an_announcement_of_a_process_that_is_gone_counts_for_nothing() {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::new(place.path());
        let mut running =
            Running { pid: std::process::id(), http: "http://h".into(), nats: "nats://n".into() };
        dir.announce(&running).unwrap();
        assert_eq!(dir.running(), Some(running.clone()));
        running.pid = u32::MAX;
        dir.announce(&running).unwrap();
        assert_eq!(dir.running(), None);
    }
}
