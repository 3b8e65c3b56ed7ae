//! Restores that are rehearsed.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Component;
use crate::message::{Command, Message};

/// Rehearses a restore: into a scratch server and a scratch folder, where all of it is compared with what was backed up. The operation's
/// result is a [`DrillReport`]; it fails unless nothing differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TestBackup {
    /// Which, or `latest`.
    pub backup_id: String,
}

/// What came of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillReport {
    /// Of which backup.
    pub backup_id: String,
    /// Whether all of it came back as it was.
    pub passed: bool,
    /// Why it did not come back.
    #[serde(default)]
    pub error: Option<String>,
    /// What came back otherwise than it was, the first of it.
    #[serde(default)]
    pub differences: Vec<String>,
    /// What was rehearsed.
    pub components: Vec<Component>,
    /// When it began.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// When it ended.
    #[schemars(with = "String")]
    pub finished_at: Timestamp,
    /// Who asked for it.
    pub requested_by: String,
    /// How long each step took, in their order.
    pub phases: Vec<Phase>,
    /// What would have been lost, had everything gone when this began: the age of the newest state in the backup.
    pub rpo_ms: u64,
    /// How long it took until everything was back; what was only compared does not count.
    pub rto_ms: u64,
    /// Collections and views.
    pub collections: u64,
    /// Documents, before the oplog.
    pub documents: u64,
    /// Indexes that were built, beside those on `_id`.
    pub indexes: u64,
    /// Entries of the oplog that were replayed.
    pub oplog_entries: u64,
    /// Files of folders and of the configuration.
    pub files: u64,
}

/// A step of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// Whether a restore in earnest takes this time, too.
    pub restoring: bool,
    /// How long it took.
    pub duration_ms: u64,
}

impl Default for TestBackup {
    fn default() -> Self {
        Self { backup_id: "latest".into() }
    }
}

impl Command for TestBackup {
    const WORKER: &'static str = "backup";
    const VERB: &'static str = "test";
}

impl Message for TestBackup {
    const TYPE: &'static str = "keelson.backup.test.v1";

    fn example() -> Self {
        Self { backup_id: "5f0c9a3be1d24786".into() }
    }
}

impl Message for DrillReport {
    const TYPE: &'static str = "keelson.backup.drill-report.v1";

    fn example() -> Self {
        let phase = |name: &str, restoring, duration_ms| Phase { name: name.into(), restoring, duration_ms };
        Self {
            backup_id: "5f0c9a3be1d24786".into(),
            passed: false,
            error: None,
            differences: vec!["click.videos: 1000 documents were backed up, and 999 came back".into()],
            components: vec![Component::Database],
            started_at: Timestamp::constant(1_764_000_060, 0),
            finished_at: Timestamp::constant(1_764_000_090, 0),
            requested_by: "schedule".into(),
            phases: vec![phase("fetch", true, 4_000), phase("compare", false, 2_000)],
            rpo_ms: 56_000,
            rto_ms: 18_000,
            collections: 12,
            documents: 1_500_000,
            indexes: 31,
            oplog_entries: 17,
            files: 2_300,
        }
    }
}
