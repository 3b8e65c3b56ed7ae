//! What the backup worker can be told to do.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BackupKind, Component};
use crate::message::{Command, Message};

/// Makes a backup. The operation's result is its [`super::BackupSummary`]; it fails unless the backup is complete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backup {
    /// What it starts from; left out, a full one.
    #[serde(default, rename = "type")]
    pub kind: BackupKind,
    /// What is backed up; left out or empty, everything that is configured.
    #[serde(default)]
    pub components: Vec<Component>,
}

/// Restores a backup. The operation's result is a [`super::RestoreReport`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restore {
    /// Which backup, or `latest`: the newest one that is complete, and that reaches `pointInTime`.
    pub backup_id: String,
    /// What is restored; left out or empty, everything that the backup has and the target has a place for, or only the database when `namespaces`,
    /// `rename` or `pointInTime` is about it. Configuration is never put where it takes effect.
    #[serde(default)]
    pub components: Vec<Component>,
    /// To which moment: everything up to the end of this second. Left out, as far as the backup goes.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub point_in_time: Option<Timestamp>,
    /// The name of the deployment that is restored into, one of `[backup.targets]`; left out, the one at MONGODB_URI.
    #[serde(default)]
    pub target: Option<String>,
    /// Which namespaces: `click.videos`, `click.*`; left out or empty, all, and users and roles with them.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Under which other names: `{"click.*": "rehearsal.*"}`.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    /// Whether collections of the target that are in the way are dropped, and files that differ replaced.
    #[serde(default)]
    pub drop: bool,
    /// The id of the backup once more, when `drop` is set.
    #[serde(default)]
    pub confirm: Option<String>,
}

/// Deletes a backup, and what only it has in the repository. The operation's result is its [`super::BackupSummary`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeleteBackup {
    /// Which.
    pub backup_id: String,
}

impl Command for DeleteBackup {
    const WORKER: &'static str = "backup";
    const VERB: &'static str = "delete";
}

impl Command for Backup {
    const WORKER: &'static str = "backup";
    const VERB: &'static str = "backup";
}

impl Command for Restore {
    const WORKER: &'static str = "backup";
    const VERB: &'static str = "restore";
}

impl Message for Backup {
    const TYPE: &'static str = "keelson.backup.backup.v1";

    fn example() -> Self {
        Self { kind: BackupKind::Full, components: vec![Component::Database] }
    }
}

impl Message for DeleteBackup {
    const TYPE: &'static str = "keelson.backup.delete.v1";

    fn example() -> Self {
        Self { backup_id: "5f0c9a3be1d24786".into() }
    }
}

impl Message for Restore {
    const TYPE: &'static str = "keelson.backup.restore.v1";

    fn example() -> Self {
        Self {
            backup_id: "5f0c9a3be1d24786".into(),
            components: vec![Component::Database],
            point_in_time: Some(Timestamp::constant(1_764_000_030, 0)),
            target: Some("rehearsal".into()),
            namespaces: vec!["click.*".into()],
            rename: [("click.*".to_owned(), "rehearsal.*".to_owned())].into(),
            drop: true,
            confirm: Some("5f0c9a3be1d24786".into()),
        }
    }
}
