//! The folder in which dumps are made and restores are put. One process at a time uses it, and what a killed one left is removed.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A folder of one's own, gone when this is dropped unless it is to be kept.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    keep: bool,
    /// Held for as long as it is used.
    _lock: File,
}

impl Spool {
    /// An empty one for `what` under `root`.
    ///
    /// # Errors
    /// When another process uses it, or it cannot be made.
    pub fn empty(root: &Path, what: &str) -> anyhow::Result<Self> {
        let spool = Self::open(root, what)?;
        spool.clear()?;
        Ok(spool)
    }

    /// The one for `what` under `root`, with what was kept there.
    ///
    /// # Errors
    /// When another process uses it, or it cannot be made.
    pub fn open(root: &Path, what: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(root).with_context(|| format!("make {}", root.display()))?;
        let file = root.join(format!("{what}.lock"));
        let lock = File::create(&file).with_context(|| format!("make {}", file.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another process of Keelson uses {}", root.display()),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", file.display()));
            }
        }
        let folder = root.join(what);
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self { folder, keep: false, _lock: lock })
    }

    /// Removes what is in it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(&self) -> anyhow::Result<()> {
        remove(&self.folder)?;
        std::fs::create_dir(&self.folder).with_context(|| format!("make {}", self.folder.display()))
    }

    /// Whether what is in it stays when this is dropped.
    pub fn keep(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = remove(&self.folder) {
            tracing::warn!(error = format!("{error:#}"), "what is no longer needed could not be removed");
        }
    }
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uses_it_at_a_time_and_nothing_is_left() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("dump/left")).unwrap();
        let spool = Spool::empty(root.path(), "dump").unwrap();
        assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
        assert!(Spool::empty(root.path(), "dump").unwrap_err().to_string().contains("another process"));
        std::fs::write(spool.path().join("a"), "b").unwrap();
        drop(spool);
        assert!(!root.path().join("dump").exists());
        let mut spool = Spool::empty(root.path(), "dump").unwrap();
        std::fs::write(spool.path().join("a"), "b").unwrap();
        spool.keep(true);
        drop(spool);
        let spool = Spool::open(root.path(), "dump").unwrap();
        assert!(spool.path().join("a").exists());
    }
}
