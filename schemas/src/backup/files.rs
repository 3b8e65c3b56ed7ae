//! What a backup has beside the database: files, and configuration without its secrets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FileEntry;

/// The files of a backup. In the snapshot they are where they were: under their whole path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilesManifest {
    /// The folders, as they are configured.
    pub folders: Vec<Folder>,
}

/// A folder with all that is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Folder {
    /// As it is configured: `uploads/video`.
    pub name: String,
    /// Where it was.
    pub path: String,
    /// Its files, in the order of their names.
    pub files: Vec<StoredFile>,
    /// Its symbolic links, which are not followed.
    pub links: Vec<Link>,
    /// Sockets, devices and the like, which are not backed up.
    #[serde(default)]
    pub passed_over: u64,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredFile {
    /// From its folder: `2026/01/a.mp4`.
    pub name: String,
    /// Where it is in the snapshot. One that changed while it was backed up is under `copied/` there, as it was at one moment.
    pub file: FileEntry,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// From its folder.
    pub name: String,
    /// What it points at.
    pub target: String,
}

/// The configuration of a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigManifest {
    /// Where it was read.
    pub sources: Vec<ConfigSource>,
}

/// One source of configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigSource {
    /// `environment`, or the path of a file.
    pub source: String,
    /// What is left of it, under `config/` in the snapshot.
    pub file: FileEntry,
    /// How many settings are as they were.
    pub kept: u64,
    /// The others.
    pub redacted: Vec<Redacted>,
}

/// A setting whose value is not in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Redacted {
    /// Its name.
    pub name: String,
    /// Why its value is not told.
    pub reason: String,
    /// The same for the same value, so that a change shows. It is made with a key that is in no backup.
    pub fingerprint: String,
}

impl FilesManifest {
    /// Every file.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        self.folders.iter().flat_map(|folder| folder.files.iter().map(|stored| &stored.file))
    }

    /// One of every kind, for examples.
    pub(super) fn example() -> Self {
        let file = FileEntry {
            path: "srv/click/uploads/video/2026/a.mp4".into(),
            bytes: 40_000_000,
            sha256: "0f".repeat(32),
        };
        let folder = Folder {
            name: "uploads/video".into(),
            path: "/srv/click/uploads/video".into(),
            files: vec![StoredFile { name: "2026/a.mp4".into(), file }],
            links: vec![Link { name: "newest.mp4".into(), target: "2026/a.mp4".into() }],
            passed_over: 1,
        };
        Self { folders: vec![folder] }
    }
}

impl ConfigManifest {
    /// Every file.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        self.sources.iter().map(|source| &source.file)
    }

    /// One of every kind, for examples.
    pub(super) fn example() -> Self {
        let source = ConfigSource {
            source: "environment".into(),
            file: FileEntry { path: "config/environment.env".into(), bytes: 800, sha256: "0f".repeat(32) },
            kept: 12,
            redacted: vec![Redacted {
                name: "FASTLY_API_TOKEN".into(),
                reason: "its name says that it is a secret".into(),
                fingerprint: "5f0c9a3be1d24786".into(),
            }],
        };
        Self { sources: vec![source] }
    }
}
