//! What the backup worker answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AutomationReport, BackupSummary, DrillReport, OpTime};
use crate::message::Message;

/// The answer to `keelson.qry.backup.backups`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backups {
    /// The newest first.
    pub backups: Vec<BackupSummary>,
    /// Why no backup can be made now; none when one can.
    #[serde(default)]
    pub note: Option<String>,
    /// When backups are made by themselves, and which are kept.
    #[serde(default)]
    pub automation: Option<AutomationReport>,
    /// What came of the last rehearsal of a restore.
    #[serde(default)]
    pub drill: Option<DrillReport>,
}

/// The question `keelson.qry.backup.manifest`, answered with the backup's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FindBackup {
    /// Which, or `latest`.
    pub backup_id: String,
}

/// What was restored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreReport {
    /// From which backup.
    pub backup_id: String,
    /// Into which deployment.
    pub target: String,
    /// Collections and views.
    pub collections: u64,
    /// Documents.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Indexes that were built, beside those on `_id`.
    pub indexes: u64,
    /// Entries of the oplog that were replayed.
    pub oplog_entries: u64,
    /// Files of folders and of the configuration that were restored; what was there already is not counted.
    #[serde(default)]
    pub files: u64,
    /// The state that the database is in; none without an oplog.
    #[serde(default)]
    pub restored_to: Option<OpTime>,
    /// How long it took.
    pub duration_ms: u64,
}

impl Message for Backups {
    const TYPE: &'static str = "keelson.backup.backups.v1";

    fn example() -> Self {
        let note = "not configured: set MONGODB_URI".to_owned();
        Self {
            backups: vec![BackupSummary::example()],
            note: Some(note),
            automation: Some(AutomationReport::example()),
            drill: Some(DrillReport::example()),
        }
    }
}

impl Message for FindBackup {
    const TYPE: &'static str = "keelson.backup.find-backup.v1";

    fn example() -> Self {
        Self { backup_id: "5f0c9a3be1d24786".into() }
    }
}

impl Message for RestoreReport {
    const TYPE: &'static str = "keelson.backup.restore-report.v1";

    fn example() -> Self {
        Self {
            backup_id: "5f0c9a3be1d24786".into(),
            target: "rehearsal".into(),
            collections: 12,
            documents: 1_500_000,
            bytes: 644_000_000,
            indexes: 31,
            oplog_entries: 17,
            files: 2_300,
            restored_to: Some(OpTime { seconds: 1_764_000_004, increment: 1, term: 3 }),
            duration_ms: 18_000,
        }
    }
}
