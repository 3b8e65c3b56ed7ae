//! Backups that make themselves: when, of what, and which of them are kept.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BackupKind, Component};
use crate::message::{Command, Message};

/// Says when backups are made by themselves and which are kept. What is left out is as by default. The operation's result is an
/// [`AutomationReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Automate {
    /// When, as cron writes it, seconds first if there are six fields. Daily at 02:00.
    pub schedule: String,
    /// The time zone of it, as the IANA names it. UTC
    pub timezone: String,
    /// What each one starts from. Incremental
    #[serde(rename = "type")]
    pub kind: BackupKind,
    /// What is backed up; empty, everything that is configured.
    pub components: Vec<Component>,
    /// Which are kept; none, all of them: nothing is deleted that nobody said may be.
    pub retention: Option<Retention>,
    /// When a restore of the newest one is rehearsed, where it can be; none, never. Sundays at 04:00
    pub drill_schedule: Option<String>,
    /// Whether any are made or rehearsed.
    pub enabled: bool,
    /// Say only what the retention would do now; nothing is set.
    pub dry_run: bool,
}

/// Which complete backups are kept of those that the schedule made: of each span of time the newest one, for so many spans that have one.
/// Held ones, and the newest one of all, are always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retention {
    /// The newest ones.
    pub keep_last: u32,
    /// Hours.
    pub keep_hourly: u32,
    /// Days.
    pub keep_daily: u32,
    /// Weeks, from Monday.
    pub keep_weekly: u32,
    /// Months.
    pub keep_monthly: u32,
    /// Whether those that somebody asked for are counted and deleted, too.
    pub manual: bool,
}

/// Holds a backup, so that nothing deletes it, or no longer. The operation's result is its [`super::BackupSummary`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HoldBackup {
    /// Which, or `latest`.
    pub backup_id: String,
    /// Whether it is held from now on.
    #[serde(default = "yes")]
    pub held: bool,
}

/// What is set, and what follows from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutomationReport {
    /// What is set.
    pub automation: Automate,
    /// When the next backup is made; none when none is.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub next: Option<Timestamp>,
    /// When a restore is rehearsed next; none when none is.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub next_drill: Option<Timestamp>,
    /// What becomes of each backup there is, the newest first.
    #[serde(default)]
    pub retained: Vec<Retained>,
}

/// What becomes of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retained {
    /// Which.
    pub backup_id: String,
    /// Whether it is kept.
    pub kept: bool,
    /// Why.
    pub reasons: Vec<String>,
}

fn yes() -> bool {
    true
}

impl Default for Automate {
    fn default() -> Self {
        Self {
            schedule: "0 2 * * *".into(),
            timezone: "UTC".into(),
            kind: BackupKind::Incremental,
            components: Vec::new(),
            retention: None,
            drill_schedule: Some("0 4 * * 0".into()),
            enabled: true,
            dry_run: false,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            keep_last: 7,
            keep_hourly: 24,
            keep_daily: 14,
            keep_weekly: 8,
            keep_monthly: 12,
            manual: false,
        }
    }
}

impl Command for Automate {
    const WORKER: &'static str = "backup";
    const VERB: &'static str = "automate";
}

impl Command for HoldBackup {
    const WORKER: &'static str = "backup";
    const VERB: &'static str = "hold";
}

impl Message for Automate {
    const TYPE: &'static str = "keelson.backup.automate.v1";

    fn example() -> Self {
        Self {
            schedule: "*/15 * * * *".into(),
            timezone: "Europe/Berlin".into(),
            components: vec![Component::Database],
            retention: Some(Retention { keep_last: 5, ..Retention::default() }),
            ..Self::default()
        }
    }
}

impl Message for HoldBackup {
    const TYPE: &'static str = "keelson.backup.hold.v1";

    fn example() -> Self {
        Self { backup_id: "5f0c9a3be1d24786".into(), held: true }
    }
}

impl Message for AutomationReport {
    const TYPE: &'static str = "keelson.backup.automation-report.v1";

    fn example() -> Self {
        let retained = Retained {
            backup_id: "5f0c9a3be1d24786".into(),
            kept: true,
            reasons: vec!["the newest of its day".into()],
        };
        Self {
            automation: Automate::example(),
            next: Some(Timestamp::constant(1_764_000_900, 0)),
            next_drill: Some(Timestamp::constant(1_764_475_200, 0)),
            retained: vec![retained],
        }
    }
}
