//! Everything there is to know about a backup: `manifest.json` in its snapshot, and beside a repository that is a folder.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BackupSummary, ConfigManifest, FilesManifest, OpTime, RestoreWindow};
use crate::message::Message;

/// A backup with its lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The backup itself.
    pub backup: BackupSummary,
    /// What there is of the database.
    #[serde(default)]
    pub database: Option<DatabaseManifest>,
    /// What there is of the files.
    #[serde(default)]
    pub files: Option<FilesManifest>,
    /// What there is of the configuration.
    #[serde(default)]
    pub config: Option<ConfigManifest>,
}

/// A dump in mongodump's layout, under `dump/` in the snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseManifest {
    /// What was dumped.
    pub topology: Topology,
    /// The server's version.
    pub server: String,
    /// What makes the dump consistent when it is replayed; none without an oplog.
    #[serde(default)]
    pub oplog: Option<OplogEntry>,
    /// The collections, in the order of their names.
    pub collections: Vec<CollectionEntry>,
}

/// What a deployment is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Topology {
    /// It has an oplog: a dump is made consistent by it.
    ReplicaSet {
        /// Its name.
        name: String,
    },
    /// It has none: each collection is as it was when it was read, and every backup is a full one.
    Standalone,
}

/// A collection in a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectionEntry {
    /// Its database.
    pub database: String,
    /// Its name within the database.
    pub collection: String,
    /// What it is.
    pub kind: CollectionKind,
    /// Its documents, as BSON one after the other; none of a view.
    #[serde(default)]
    pub data: Option<FileEntry>,
    /// Its options and indexes, as canonical extended JSON.
    pub metadata: FileEntry,
    /// How many documents; of a time series, how many buckets.
    pub documents: u64,
    /// MD5 over the documents in the order of the file, hex.
    #[serde(default)]
    pub md5: Option<String>,
}

/// What a collection is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CollectionKind {
    /// Documents.
    #[default]
    Collection,
    /// A query over another one.
    View,
    /// Measurements, kept in buckets.
    Timeseries,
}

/// The oplog in a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OplogEntry {
    /// `dump/oplog.bson`.
    pub file: FileEntry,
    /// The first entry: before the dump began, and before the oldest transaction that was open then.
    pub first: OpTime,
    /// The one from which on the collections agree with each other: the last one of the dump itself.
    pub consistent: OpTime,
    /// The last one.
    pub last: OpTime,
    /// How many.
    pub entries: u64,
}

/// A file in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileEntry {
    /// From the root of the snapshot.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
}

impl Manifest {
    /// Every file of the backup but the manifest itself.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        let database = self.database.iter().flat_map(DatabaseManifest::files);
        let files = self.files.iter().flat_map(FilesManifest::files);
        database.chain(files).chain(self.config.iter().flat_map(ConfigManifest::files))
    }
}

impl DatabaseManifest {
    /// Every file of the dump.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        let oplog = self.oplog.iter().map(|oplog| &oplog.file);
        let collections =
            self.collections.iter().flat_map(|entry| entry.data.iter().chain([&entry.metadata]));
        oplog.chain(collections)
    }

    /// The points in time to which it can be restored.
    #[must_use]
    pub fn window(&self) -> Option<RestoreWindow> {
        self.oplog.as_ref().map(|oplog| RestoreWindow { from: oplog.consistent, to: oplog.last })
    }
}

impl CollectionEntry {
    /// `database.collection`
    #[must_use]
    pub fn namespace(&self) -> String {
        format!("{}.{}", self.database, self.collection)
    }
}

impl Message for Manifest {
    const TYPE: &'static str = "keelson.backup.manifest.v1";

    fn example() -> Self {
        let file = |path: &str, bytes| FileEntry { path: path.into(), bytes, sha256: "0f".repeat(32) };
        let oplog = OplogEntry {
            file: file("dump/oplog.bson", 4_096),
            first: OpTime { seconds: 1_764_000_000, increment: 1, term: 3 },
            consistent: OpTime { seconds: 1_764_000_004, increment: 1, term: 3 },
            last: OpTime { seconds: 1_764_000_064, increment: 1, term: 3 },
            entries: 17,
        };
        let collection = CollectionEntry {
            database: "click".into(),
            collection: "videos/raw".into(),
            kind: CollectionKind::Collection,
            data: Some(file("dump/click/videos%2Fraw.bson", 640_000)),
            metadata: file("dump/click/videos%2Fraw.metadata.json", 512),
            documents: 1_000,
            md5: Some("d41d8cd98f00b204e9800998ecf8427e".into()),
        };
        let database = DatabaseManifest {
            topology: Topology::ReplicaSet { name: "rs0".into() },
            server: "6.0.5".into(),
            oplog: Some(oplog),
            collections: vec![collection],
        };
        Self {
            backup: BackupSummary::example(),
            database: Some(database),
            files: Some(FilesManifest::example()),
            config: Some(ConfigManifest::example()),
        }
    }
}
