//! Folders of files: what is in them, with digests; and whether what was stored is what was digested.
//!
//! Files are stored from where they are, while they may change. What restic has stored is compared with what was seen here, by size and
//! times; a file that differs is copied, and the copy is stored. So the manifest is true of every file, and a large upload that is under way
//! keeps nobody from backing up.

pub mod restore;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::Timestamp;
use keelson_schemas::backup::{FileEntry, FilesManifest, Folder, Link, StoredFile};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::layout;
use crate::mongo::dump::Meter;

/// The most files in all folders together: their list is kept in memory.
const MOST: usize = 1_000_000;
const BUFFER_BYTES: usize = 1024 * 1024;

/// By what is told whether a file is the same as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its size.
    pub bytes: u64,
    /// When its content changed, in nanoseconds.
    pub modified_ns: i128,
    /// When anything about it changed.
    pub changed_ns: i128,
}

/// Digests of files that have not changed since, by their paths; kept beside the spool.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Known(BTreeMap<String, (Stamp, String)>);

/// Where folders are looked through.
pub struct Scan<'a> {
    /// Digests from before; what is new is added.
    pub known: &'a mut Known,
    /// Where copies are put, under `copied/`.
    pub spool: &'a Path,
    /// The paths, within the snapshot, of files that are copied because they change.
    pub moving: &'a BTreeSet<String>,
    /// Files that changed since then are copied, too: what came lately may go soon.
    pub moving_since_ns: i128,
    /// Counts what is read.
    pub meter: &'a Meter,
}

/// What is in folders.
#[derive(Debug, Default)]
pub struct Seen {
    /// For the manifest.
    pub manifest: FilesManifest,
    /// Every file that is stored from where it is, by its path in the snapshot.
    pub stamps: HashMap<String, Stamp>,
}

impl Stamp {
    /// Of a file.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            bytes: metadata.len(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Of what restic says.
    #[must_use]
    pub fn stored(bytes: u64, modified: Timestamp, changed: Timestamp) -> Self {
        Self { bytes, modified_ns: modified.as_nanosecond(), changed_ns: changed.as_nanosecond() }
    }
}

impl Known {
    /// What is kept in a file; nothing if it is of no use.
    #[must_use]
    pub fn read(file: &Path) -> Self {
        fs::read(file).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }

    /// Keeps it for the next time.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let part = file.with_extension("part");
        fs::write(&part, serde_json::to_vec(self)?).with_context(|| format!("write {}", part.display()))?;
        fs::rename(&part, file).with_context(|| format!("write {}", file.display()))
    }

    /// Only what is there still.
    fn keep_only(&mut self, seen: &Seen) {
        self.0.retain(|path, _| seen.stamps.contains_key(path));
    }
}

impl Scan<'_> {
    /// Looks through folders.
    ///
    /// # Errors
    /// When anything in them cannot be read.
    pub fn run(mut self, folders: &[(String, PathBuf)]) -> anyhow::Result<Seen> {
        let mut seen = Seen::default();
        for (name, path) in folders {
            let folder = self.folder(name, path, &mut seen.stamps).with_context(|| name.clone())?;
            seen.manifest.folders.push(folder);
        }
        self.known.keep_only(&seen);
        Ok(seen)
    }

    fn folder(
        &mut self,
        name: &str,
        path: &Path,
        stamps: &mut HashMap<String, Stamp>,
    ) -> anyhow::Result<Folder> {
        let mut folder = Folder { name: name.to_owned(), path: text(path)?, ..Folder::default() };
        let mut open = vec![path.to_owned()];
        while let Some(inner) = open.pop() {
            for entry in fs::read_dir(&inner).with_context(|| format!("read {}", inner.display()))? {
                let whole = entry.with_context(|| format!("read {}", inner.display()))?.path();
                // What is gone since it was listed was deleted, as it may be.
                let Some(metadata) = there(fs::symlink_metadata(&whole), &whole)? else { continue };
                let name = text(whole.strip_prefix(path)?)?;
                if metadata.is_dir() {
                    open.push(whole);
                } else if metadata.is_symlink() {
                    let Some(target) = there(fs::read_link(&whole), &whole)? else { continue };
                    folder.links.push(Link { name, target: text(&target)? });
                } else if metadata.is_file() {
                    let Some(file) = self.file(&whole, stamps)? else { continue };
                    folder.files.push(StoredFile { name, file });
                } else {
                    folder.passed_over += 1;
                }
                if stamps.len() > MOST {
                    bail!("there are more than {MOST} files");
                }
            }
        }
        folder.files.sort_by(|a, b| a.name.cmp(&b.name));
        folder.links.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(folder)
    }

    /// None when it is gone.
    fn file(
        &mut self,
        whole: &Path,
        stamps: &mut HashMap<String, Stamp>,
    ) -> anyhow::Result<Option<FileEntry>> {
        let path = in_snapshot(whole)?;
        if self.moving.contains(&path) {
            return self.copy(whole, &path);
        }
        let Some(mut file) = there(File::open(whole), whole)? else { return Ok(None) };
        let stamp = Stamp::of(&file.metadata()?);
        if stamp.changed_ns >= self.moving_since_ns {
            return self.copy(whole, &path);
        }
        let entry = match self.known.0.get(&path) {
            Some((known, sha256)) if *known == stamp => {
                FileEntry { path: path.clone(), bytes: stamp.bytes, sha256: sha256.clone() }
            }
            _ => {
                let (bytes, sha256) = self.digest(&mut file, None).with_context(|| text_of(whole))?;
                // Whatever the stamp is of, it is not of what was read: the comparison with what is stored will say so.
                let same = bytes == stamp.bytes && Stamp::of(&file.metadata()?) == stamp;
                if !same {
                    return self.copy(whole, &path);
                }
                FileEntry { path: path.clone(), bytes, sha256 }
            }
        };
        self.known.0.insert(path.clone(), (stamp, entry.sha256.clone()));
        stamps.insert(path, stamp);
        Ok(Some(entry))
    }

    fn copy(&self, whole: &Path, path: &str) -> anyhow::Result<Option<FileEntry>> {
        let Some(mut file) = there(File::open(whole), whole)? else { return Ok(None) };
        let copied = format!("{}/{}", layout::COPIED, blake3::hash(path.as_bytes()).to_hex());
        let folder = self.spool.join(layout::COPIED);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let to = self.spool.join(&copied);
        let mut to = File::create(&to).with_context(|| format!("make {}", to.display()))?;
        let (bytes, sha256) = self.digest(&mut file, Some(&mut to)).with_context(|| text_of(whole))?;
        Ok(Some(FileEntry { path: copied, bytes, sha256 }))
    }

    fn digest(&self, file: &mut File, mut copy: Option<&mut File>) -> anyhow::Result<(u64, String)> {
        let (mut sha256, mut buffer, mut bytes) = (Sha256::new(), vec![0; BUFFER_BYTES], 0);
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            sha256.update(&buffer[..read]);
            if let Some(copy) = &mut copy {
                copy.write_all(&buffer[..read])?;
            }
            bytes += read as u64;
            self.meter.add(read as u64);
        }
        Ok((bytes, sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}

/// The path of a file within a snapshot.
///
/// # Errors
/// When it is no UTF-8, which restic could not name.
pub fn in_snapshot(whole: &Path) -> anyhow::Result<String> {
    Ok(text(whole)?.trim_start_matches('/').to_owned())
}

fn there<T>(result: std::io::Result<T>, whole: &Path) -> anyhow::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| text_of(whole)),
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.with_context(|| format!("{} is no UTF-8: rename it", path.display()))
}

fn text_of(whole: &Path) -> String {
    format!("read {}", whole.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(root: &Path, known: &mut Known, moving: &BTreeSet<String>) -> Seen {
        let (spool, meter) = (root.join("spool"), Meter::default());
        let scan = Scan { known, spool: &spool, moving, moving_since_ns: i128::MAX, meter: &meter };
        scan.run(&[("up".to_owned(), root.join("up"))]).unwrap()
    }

    #[test]
    fn all_that_is_in_a_folder_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let up = root.path().join("up");
        fs::create_dir_all(up.join("2026/empty")).unwrap();
        fs::write(up.join("2026/a.mp4"), "video").unwrap();
        std::os::unix::fs::symlink("2026/a.mp4", up.join("newest")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(up.join("socket")).unwrap();
        let mut known = Known::default();
        let seen = scanned(root.path(), &mut known, &BTreeSet::new());
        drop(socket);
        let [folder] = seen.manifest.folders.try_into().unwrap();
        let [file] = folder.files.try_into().unwrap();
        assert_eq!((file.name.as_str(), file.file.bytes, folder.passed_over), ("2026/a.mp4", 5, 1));
        assert_eq!(folder.links, [Link { name: "newest".into(), target: "2026/a.mp4".into() }]);
        assert_eq!(file.file.path, in_snapshot(&up.join("2026/a.mp4")).unwrap());
        crate::bson_file::verify(Path::new("/"), &file.file).unwrap();
        assert_eq!(known.0.len(), 1);
    }

    #[test]
    fn what_has_not_changed_is_not_read_again_and_what_changes_is_copied() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("up/a");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "first").unwrap();
        let path = in_snapshot(&file).unwrap();
        let mut known = Known::default();
        scanned(root.path(), &mut known, &BTreeSet::new());
        known.0.get_mut(&path).unwrap().1 = "from before".to_owned();
        let seen = scanned(root.path(), &mut known, &BTreeSet::new());
        assert_eq!(seen.manifest.files().next().unwrap().sha256, "from before");
        fs::write(&file, "other").unwrap();
        let seen = scanned(root.path(), &mut known, &BTreeSet::new());
        assert_ne!(seen.manifest.files().next().unwrap().sha256, "from before");

        let seen = scanned(root.path(), &mut known, &[path.clone()].into());
        let copy = seen.manifest.files().next().unwrap();
        assert!(copy.path.starts_with("copied/") && !seen.stamps.contains_key(&path), "{copy:?}");
        crate::bson_file::verify(&root.path().join("spool"), copy).unwrap();
    }
}
