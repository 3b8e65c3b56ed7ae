//! What the backup worker is told and says: backups, their manifests, restores.

mod answers;
mod automation;
mod commands;
mod drill;
mod files;
mod manifest;
mod summary;

pub use answers::{Backups, FindBackup, RestoreReport};
pub use automation::{Automate, AutomationReport, HoldBackup, Retained, Retention};
pub use commands::{Backup, DeleteBackup, Restore};
pub use drill::{DrillReport, Phase, TestBackup};
pub use files::{ConfigManifest, ConfigSource, FilesManifest, Folder, Link, Redacted, StoredFile};
pub use manifest::{
    CollectionEntry, CollectionKind, DatabaseManifest, FileEntry, Manifest, OplogEntry, Topology,
};
pub use summary::{
    BackupKind, BackupState, BackupSummary, Component, ComponentReport, OpTime, RestoreWindow, Versions,
};
