//! A backup without its lists: what is kept on the bus and said of it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::message::Message;

/// What a backup starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackupKind {
    /// Everything is read anew.
    #[default]
    Full,
    /// The oplog since the last backup is added to the dump of the last full one. What it makes is as whole as a full one.
    Incremental,
}

/// What can be backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// The MongoDB deployment at MONGODB_URI.
    Database,
    /// The folders of `[backup] files`.
    Files,
    /// Keelson's environment and keelson.toml, and what `[backup] env_files` names, without secrets.
    Config,
}

impl Component {
    /// All there are.
    pub const ALL: &[Self] = &[Self::Database, Self::Files, Self::Config];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Files => "files",
            Self::Config => "config",
        }
    }
}

/// How much of it there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackupState {
    /// All of it, and it is in the repository.
    Complete,
    /// A part: something could not be read.
    Partial,
    /// Nothing that could be restored.
    Failed,
}

/// A backup: whether it can be restored, what is in it, from when it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupSummary {
    /// Its id; follows from the operation that made it.
    pub id: String,
    /// Complete only if every component is.
    pub state: BackupState,
    /// What it starts from.
    #[serde(rename = "type")]
    pub kind: BackupKind,
    /// Why it is not complete.
    #[serde(default)]
    pub error: Option<String>,
    /// How each component fared.
    pub components: Vec<ComponentReport>,
    /// When it began.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// When it ended.
    #[schemars(with = "String")]
    pub finished_at: Timestamp,
    /// Who asked for it.
    pub requested_by: String,
    /// The operation that made it.
    pub operation: String,
    /// The points in time to which its database can be restored; none without an oplog: then it is whatever was read when.
    #[serde(default)]
    pub window: Option<RestoreWindow>,
    /// What made it.
    pub versions: Versions,
    /// The full backup whose dump it has; its own id when that is its own.
    #[serde(default)]
    pub base: Option<String>,
    /// What is worth knowing beside: why it is a full one although less was asked for.
    #[serde(default)]
    pub note: Option<String>,
    /// Its id in the repository; none while it is not there.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// By how many bytes the repository has grown.
    #[serde(default)]
    pub stored_bytes: u64,
    /// Whether it is kept until it is said otherwise.
    #[serde(default)]
    pub held: bool,
    /// When a restore of it was last rehearsed and all of it came back as it was; none if never.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub verified_at: Option<Timestamp>,
}

/// How a component fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentReport {
    /// Which.
    pub component: Component,
    /// Complete only if nothing of it failed.
    pub state: BackupState,
    /// What failed.
    #[serde(default)]
    pub error: Option<String>,
    /// Files it consists of.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long it took.
    pub duration_ms: u64,
}

/// A place in MongoDB's oplog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct OpTime {
    /// Unix seconds.
    pub seconds: u32,
    /// Counts within the second.
    pub increment: u32,
    /// The election term: the same timestamp in another term is another entry.
    pub term: i64,
}

/// From when to when a database can be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreWindow {
    /// The earliest state: before it, collections were still being read.
    pub from: OpTime,
    /// The latest.
    pub to: OpTime,
}

/// What made a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Versions {
    /// Keelson.
    pub keelson: String,
    /// restic.
    pub restic: String,
    /// The MongoDB server.
    #[serde(default)]
    pub mongodb: Option<String>,
}

impl Message for BackupSummary {
    const TYPE: &'static str = "keelson.backup.summary.v1";

    fn example() -> Self {
        let at = |seconds| OpTime { seconds, increment: 1, term: 3 };
        Self {
            id: "5f0c9a3be1d24786".into(),
            state: BackupState::Partial,
            kind: BackupKind::Full,
            error: Some("database: click.videos: the cursor was lost".into()),
            components: vec![ComponentReport {
                component: Component::Database,
                state: BackupState::Partial,
                error: Some("click.videos: the cursor was lost".into()),
                files: 12,
                bytes: 644_000_000,
                duration_ms: 3_600,
            }],
            started_at: Timestamp::constant(1_764_000_000, 0),
            finished_at: Timestamp::constant(1_764_000_005, 0),
            requested_by: "ops".into(),
            operation: "0af7651916cd43dd8448eb211c80319c".into(),
            window: Some(RestoreWindow { from: at(1_764_000_004), to: at(1_764_000_004) }),
            versions: Versions {
                keelson: "0.1.0".into(),
                restic: "0.14.0".into(),
                mongodb: Some("6.0.5".into()),
            },
            base: Some("5f0c9a3be1d24786".into()),
            note: Some("the oplog does not reach back to the last backup".into()),
            snapshot: Some("c204d44fe33e3b87b58d13406b075e3a43826e496f323ff24a3debbaf65016c6".into()),
            stored_bytes: 120_000_000,
            held: true,
            verified_at: Some(Timestamp::constant(1_764_000_090, 0)),
        }
    }
}
