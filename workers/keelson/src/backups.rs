//! `keelson backups`: made, listed, shown, restored, rehearsed, deleted, held, and made by themselves.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use keelson_schemas::backup::{
    Automate, AutomationReport, Backup, BackupKind, BackupState, BackupSummary, Backups, CollectionEntry,
    Component, ConfigSource, DatabaseManifest, DrillReport, Folder, Manifest, OpTime, Phase, Restore,
    RestoreReport, Retained, Retention, TestBackup,
};
use reqwest::Method;
use serde_json::json;

use crate::client::{Client, ClientArgs};
use crate::global::Global;
use crate::output::{Exit, complain, say, say_table, show};
use crate::progress;
use crate::time::{moment, span, timestamp};
use crate::watch;

const PATH: &str = "/api/disaster-recovery";

const EXAMPLES: &str = "\
Examples:
  keelson backups create
  keelson backups create --incremental
  keelson backups create --component files --component config
  keelson backups list
  keelson backups show latest
  keelson backups test
  keelson backups delete 5f0c9a3be1d24786
  keelson backups hold 5f0c9a3be1d24786
  keelson backups automate --schedule '*/15 * * * *' --timezone Europe/Berlin --keep-daily 30
  keelson backups automate --keep-last 3 --dry-run
  keelson backups restore latest --target rehearsal
  keelson backups restore latest --at 2026-01-31T12:00:00Z --target rehearsal
  keelson backups restore 5f0c9a3be1d24786 --only 'click.*' --rename 'click.*=rehearsal.*'
  keelson backups restore 5f0c9a3be1d24786 --only click.videos --drop --confirm 5f0c9a3be1d24786

Without Keelson: `restic restore latest --tag keelson --target out`, then `mongorestore --oplogReplay out/dump`. RESTIC_REPOSITORY is `backups` in the \
data directory and RESTIC_PASSWORD_FILE `backup-password` there, unless they are configured.";

/// `keelson backups`
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// List backups, the newest first, those that failed included
    List(List),
    /// Show what is in a backup
    Show(Show),
    /// Back up now
    Create(Create),
    /// Restore a backup, or some of it
    #[command(after_help = EXAMPLES)]
    Restore(RestoreArgs),
    /// Rehearse a restore where it harms nobody, and compare
    Test(Test),
    /// Delete backups, and what only they have in the repository
    Delete(Delete),
    /// Keep a backup until it is released, whatever retention says
    Hold(Hold),
    /// Say when backups are made by themselves, and which are kept
    Automate(AutomateArgs),
}

/// `keelson backups list`
#[derive(Debug, Args)]
pub struct List {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson backups show`
#[derive(Debug, Args)]
pub struct Show {
    /// Which, as `keelson backups list` names them, or `latest`.
    #[arg(value_name = "ID")]
    id: String,
    /// Print the whole manifest as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson backups create`
#[derive(Debug, Args)]
pub struct Create {
    /// Add the oplog since the last backup instead of reading everything anew.
    #[arg(long)]
    incremental: bool,
    /// Only this: database, files, config [default: everything that is configured]
    #[arg(long = "component", value_name = "NAME", value_parser = component)]
    components: Vec<Component>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson backups restore`
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Which, as `keelson backups list` names them, or `latest`.
    #[arg(value_name = "ID")]
    id: String,
    /// The deployment that is restored into, one of [[backup.targets]] [default: the one at MONGODB_URI]
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// As it was at the end of this second: 2026-01-31T12:00:00Z [default: as far as the backup goes]
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    at: Option<Timestamp>,
    /// Only these namespaces: click.videos, 'click.*'.
    #[arg(long, value_name = "NAMESPACE")]
    only: Vec<String>,
    /// Under another name: 'click.*=rehearsal.*'.
    #[arg(long, value_name = "FROM=TO", value_parser = renaming)]
    rename: Vec<(String, String)>,
    /// Only this: database, files, config [default: everything that there is a place for]
    #[arg(long = "component", value_name = "NAME", value_parser = component)]
    components: Vec<Component>,
    /// Drop collections of the target that are in the way, and replace files that differ.
    #[arg(long, requires = "confirm")]
    drop: bool,
    /// The backup's id once more, with `--drop`.
    #[arg(long, value_name = "ID")]
    confirm: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson backups test`
#[derive(Debug, Args)]
pub struct Test {
    /// Which, as `keelson backups list` names them.
    #[arg(value_name = "ID", default_value = "latest")]
    id: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson backups delete`
#[derive(Debug, Args)]
pub struct Delete {
    /// Which, as `keelson backups list` names them.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson backups hold`
#[derive(Debug, Args)]
pub struct Hold {
    /// Which, as `keelson backups list` names them, or `latest`.
    #[arg(value_name = "ID")]
    id: String,
    /// Hold it no longer.
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson backups automate`. What is not given stays as it is.
#[derive(Debug, Args)]
pub struct AutomateArgs {
    /// When, as cron writes it: '0 2 * * *', '* * * * *'.
    #[arg(long, value_name = "CRON")]
    schedule: Option<String>,
    /// The time zone of the schedule: UTC, Europe/Berlin.
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// What each one starts from: full, incremental.
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: Option<BackupKind>,
    /// Keep the newest so many.
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// Keep the newest of each of so many hours.
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u32>,
    /// Keep the newest of each of so many days.
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// Keep the newest of each of so many weeks.
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// Keep the newest of each of so many months.
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
    /// Delete those that somebody asked for, too, where nothing keeps them.
    #[arg(long, conflicts_with = "keep_all")]
    manual: bool,
    /// Delete none, which is how it is until something else is said.
    #[arg(long, conflicts_with_all = ["keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly"])]
    keep_all: bool,
    /// When a restore is rehearsed, as cron writes it: '0 4 * * 0'.
    #[arg(long, value_name = "CRON", conflicts_with = "no_drills")]
    drill_schedule: Option<String>,
    /// Rehearse none.
    #[arg(long)]
    no_drills: bool,
    /// Make backups by themselves.
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Make none by themselves, and delete none.
    #[arg(long)]
    disable: bool,
    /// Only say which backups would be deleted now.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// When Keelson cannot be reached or refuses, or it fails.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        match self {
            Self::List(list) => list.run(global).await,
            Self::Show(show) => show.run(global).await,
            Self::Create(create) => create.run(global).await,
            Self::Restore(restore) => restore.run(global).await,
            Self::Test(test) => test.run(global).await,
            Self::Delete(delete) => delete.run(global).await,
            Self::Hold(hold) => hold.run(global).await,
            Self::Automate(automate) => automate.run(global).await,
        }
    }
}

impl List {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let page: Backups = Client::new(&self.client, global)?.get(&format!("{PATH}/backups"), &[]).await?;
        show(self.json, &page, tell_all)
    }
}

impl Show {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let manifest: Manifest = Client::new(&self.client, global)?.get(&path_of(&self.id), &[]).await?;
        show(self.json, &manifest, tell_manifest)
    }
}

impl Test {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let command = TestBackup { backup_id: self.id };
        let tested = progress::obeyed(&client, Method::POST, &format!("{PATH}/test"), &command).await?;
        let report: DrillReport = serde_json::from_value(watch::outcome(tested)?)?;
        show(self.json, &report, |report| {
            say(&drilled_words(report));
            say_table(["step", "took", "in earnest"], report.phases.iter().map(phase_row));
        })
    }
}

impl Delete {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        for id in &self.ids {
            let ended = progress::obeyed(&client, Method::DELETE, &path_of(id), &json!({})).await?;
            watch::outcome(ended)?;
            say(&format!("backup {id} is deleted"));
        }
        Ok(Exit::Done)
    }
}

impl Hold {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let path = format!("{}/hold", path_of(&self.id));
        let held = json!({ "held": !self.release });
        let ended = progress::obeyed(&client, Method::POST, &path, &held).await?;
        let backup: BackupSummary = serde_json::from_value(watch::outcome(ended)?)?;
        let held = if backup.held { "held" } else { "no longer held" };
        say(&format!("backup {} is {held}", backup.id));
        Ok(Exit::Done)
    }
}

impl AutomateArgs {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let page: Backups = client.get(&format!("{PATH}/backups"), &[]).await?;
        let automate = self.over(page.automation.map(|report| report.automation).unwrap_or_default());
        let set = progress::obeyed(&client, Method::POST, &format!("{PATH}/automate"), &automate).await?;
        let report: AutomationReport = serde_json::from_value(watch::outcome(set)?)?;
        show(self.json, &report, |report| {
            say(&automation_words(report));
            say_table(["id", "", "because"], report.retained.iter().map(retained_row));
        })
    }

    /// What was given, over what is set.
    fn over(&self, set: Automate) -> Automate {
        Automate {
            schedule: self.schedule.clone().unwrap_or(set.schedule),
            timezone: self.timezone.clone().unwrap_or(set.timezone),
            kind: self.kind.unwrap_or(set.kind),
            components: set.components,
            retention: self.retention(set.retention),
            drill_schedule: self.drill_schedule.clone().or(set.drill_schedule).filter(|_| !self.no_drills),
            enabled: (set.enabled || self.enable) && !self.disable,
            dry_run: self.dry_run,
        }
    }

    /// None until something is said of it.
    fn retention(&self, set: Option<Retention>) -> Option<Retention> {
        let keeps = [self.keep_last, self.keep_hourly, self.keep_daily, self.keep_weekly, self.keep_monthly];
        let said = self.manual || keeps.iter().any(Option::is_some);
        if self.keep_all || (set.is_none() && !said) {
            return None;
        }
        let Retention { keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, manual } =
            set.unwrap_or_default();
        Some(Retention {
            keep_last: self.keep_last.unwrap_or(keep_last),
            keep_hourly: self.keep_hourly.unwrap_or(keep_hourly),
            keep_daily: self.keep_daily.unwrap_or(keep_daily),
            keep_weekly: self.keep_weekly.unwrap_or(keep_weekly),
            keep_monthly: self.keep_monthly.unwrap_or(keep_monthly),
            manual: manual || self.manual,
        })
    }
}

/// The path of a backup; whatever was given stays one segment.
fn path_of(id: &str) -> String {
    let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
    format!("{PATH}/backup/{}", id.replace('+', "%20"))
}

impl Create {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let path = format!("{PATH}/backup");
        let kind = if self.incremental { BackupKind::Incremental } else { BackupKind::Full };
        let command = Backup { kind, components: self.components.clone() };
        let made = progress::obeyed(&client, Method::POST, &path, &command).await?;
        let backup: BackupSummary = serde_json::from_value(watch::outcome(made)?)?;
        show(self.json, &backup, |backup| say(&made_words(backup)))
    }
}

impl RestoreArgs {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let path = format!("{PATH}/restore");
        let restored = progress::obeyed(&client, Method::POST, &path, &self.command()).await?;
        let report: RestoreReport = serde_json::from_value(watch::outcome(restored)?)?;
        show(self.json, &report, |report| say(&restored_words(report)))
    }

    fn command(&self) -> Restore {
        Restore {
            backup_id: self.id.clone(),
            components: self.components.clone(),
            point_in_time: self.at,
            target: self.target.clone(),
            namespaces: self.only.clone(),
            rename: self.rename.iter().cloned().collect::<BTreeMap<_, _>>(),
            drop: self.drop,
            confirm: self.confirm.clone(),
        }
    }
}

fn kind(text: &str) -> Result<BackupKind, String> {
    match text {
        "full" => Ok(BackupKind::Full),
        "incremental" => Ok(BackupKind::Incremental),
        _ => Err("one of full, incremental".to_owned()),
    }
}

fn names() -> Vec<&'static str> {
    Component::ALL.iter().map(|component| component.name()).collect()
}

fn component(text: &str) -> Result<Component, String> {
    let found = Component::ALL.iter().copied().find(|component| component.name() == text);
    found.ok_or_else(|| format!("one of {}", names().join(", ")))
}

fn renaming(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').map(|(from, to)| (from.to_owned(), to.to_owned()));
    split.ok_or_else(|| "write the old name and the new one: 'click.*=rehearsal.*'".to_owned())
}

fn tell_all(page: &Backups) {
    if let Some(note) = &page.note {
        complain(note);
    }
    if let Some(automation) = &page.automation {
        say(&automation_words(automation));
    }
    if let Some(drill) = &page.drill {
        say(&drilled_words(drill));
    }
    if page.backups.is_empty() {
        return say("there are no backups");
    }
    let columns = ["id", "state", "type", "started", "took", "size", "stored", "restores from", "to", "note"];
    say_table(columns, page.backups.iter().map(row));
}

fn automation_words(report: &AutomationReport) -> String {
    let Automate { schedule, timezone, kind, enabled, dry_run, .. } = &report.automation;
    let kind = format!("{kind:?}").to_lowercase();
    let tried = if *dry_run { " (nothing is set)" } else { "" };
    match (enabled, report.next) {
        (true, Some(next)) => {
            format!("{kind} backups are made by themselves at {schedule:?} {timezone}, next at {next}{tried}")
        }
        _ => format!("no backups are made by themselves{tried}"),
    }
}

fn retained_row(retained: &Retained) -> [String; 3] {
    let what = if retained.kept { "kept" } else { "deleted after the next backup" };
    [retained.backup_id.clone(), what.to_owned(), retained.reasons.join("; ")]
}

fn row(backup: &BackupSummary) -> [String; 10] {
    [
        backup.id.clone(),
        format!(
            "{}{}",
            format!("{:?}", backup.state).to_lowercase(),
            match (backup.held, backup.verified_at.is_some()) {
                (true, true) => ", held, verified",
                (true, false) => ", held",
                (false, true) => ", verified",
                (false, false) => "",
            }
        ),
        format!("{:?}", backup.kind).to_lowercase(),
        backup.started_at.to_string(),
        took(backup),
        bytes(size(backup)),
        bytes(backup.stored_bytes),
        backup.window.map(|window| when(window.from)).unwrap_or_default(),
        backup.window.map(|window| when(window.to)).unwrap_or_default(),
        backup.error.clone().or_else(|| backup.note.clone()).unwrap_or_default(),
    ]
}

fn tell_manifest(manifest: &Manifest) {
    let backup = &manifest.backup;
    say(&format!("{} {}", backup.id, format!("{:?}", backup.state).to_lowercase()));
    say(&format!("made {} in {} for {}", backup.started_at, took(backup), backup.requested_by));
    say(&format!("snapshot {}", backup.snapshot.as_deref().unwrap_or("none")));
    if let Some(database) = &manifest.database {
        tell_database(database);
    }
    if let Some(files) = &manifest.files {
        say("");
        say_table(["folder", "files", "size", "links", "passed over"], files.folders.iter().map(folder_row));
    }
    if let Some(config) = &manifest.config {
        say("");
        say_table(["configuration", "kept", "redacted"], config.sources.iter().map(source_row));
    }
}

fn tell_database(database: &DatabaseManifest) {
    let oplog = database.oplog.as_ref().map(|oplog| format!(", {} entries of the oplog", oplog.entries));
    let consistency =
        oplog.unwrap_or_else(|| ", no oplog: each collection as it was when it was read".to_owned());
    say(&format!("MongoDB {}, {} collections{consistency}", database.server, database.collections.len()));
    say("");
    say_table(["namespace", "kind", "documents", "size"], database.collections.iter().map(collection_row));
}

fn folder_row(folder: &Folder) -> [String; 5] {
    let size = folder.files.iter().map(|stored| stored.file.bytes).sum();
    [
        folder.path.clone(),
        folder.files.len().to_string(),
        bytes(size),
        folder.links.len().to_string(),
        folder.passed_over.to_string(),
    ]
}

fn source_row(source: &ConfigSource) -> [String; 3] {
    [source.source.clone(), source.kept.to_string(), source.redacted.len().to_string()]
}

fn collection_row(entry: &CollectionEntry) -> [String; 4] {
    [
        entry.namespace(),
        format!("{:?}", entry.kind).to_lowercase(),
        entry.documents.to_string(),
        bytes(entry.data.as_ref().map_or(0, |data| data.bytes)),
    ]
}

fn made_words(backup: &BackupSummary) -> String {
    debug_assert_eq!(backup.state, BackupState::Complete);
    let note = backup.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    format!(
        "{} backup {} is complete: {} in {}, {} stored{note}",
        format!("{:?}", backup.kind).to_lowercase(),
        backup.id,
        bytes(size(backup)),
        took(backup),
        bytes(backup.stored_bytes)
    )
}

fn restored_words(report: &RestoreReport) -> String {
    let to = report.restored_to.map(|to| format!(", as it was at {}", when(to))).unwrap_or_default();
    let files = if report.files > 0 { format!(", {} files", report.files) } else { String::new() };
    format!(
        "backup {} is restored into {}{to}: {} collections, {} documents, {} indexes{files} in {}",
        report.backup_id,
        if report.target.is_empty() { "where it was" } else { &report.target },
        report.collections,
        report.documents,
        report.indexes,
        span(0, report.duration_ms)
    )
}

fn drilled_words(report: &DrillReport) -> String {
    if report.passed {
        let (rto, rpo) = (span(0, report.rto_ms), span(0, report.rpo_ms));
        return format!(
            "backup {} was restored for a trial at {}, and all came back as it was: in {rto}, {rpo} old",
            report.backup_id, report.started_at
        );
    }
    let said: Vec<&str> = report.error.iter().chain(&report.differences).map(String::as_str).collect();
    format!(
        "backup {} was restored for a trial at {}, and DID NOT COME BACK AS IT WAS: {}",
        report.backup_id,
        report.started_at,
        said.join("; ")
    )
}

fn phase_row(phase: &Phase) -> [String; 3] {
    let earnest = if phase.restoring { "yes" } else { "" };
    [phase.name.clone(), span(0, phase.duration_ms), earnest.to_owned()]
}

fn took(backup: &BackupSummary) -> String {
    let ms = |time: Timestamp| u64::try_from(time.as_millisecond()).unwrap_or(0);
    span(ms(backup.started_at), ms(backup.finished_at))
}

fn size(backup: &BackupSummary) -> u64 {
    backup.components.iter().map(|component| component.bytes).sum()
}

fn when(at: OpTime) -> String {
    timestamp(u64::from(at.seconds) * 1_000).to_string()
}

fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn a_restore_is_told_in_a_line() {
        let words = restored_words(&RestoreReport::example());
        let expected = "backup 5f0c9a3be1d24786 is restored into rehearsal, as it was at 2025-11-24T16:00:04Z: 12 collections, 1500000 documents, 31 indexes, 2300 files in 18s";
        assert_eq!(words, expected);
    }

    #[test]
    fn a_rehearsal_is_told_in_a_line() {
        let failed = DrillReport::example();
        assert!(
            drilled_words(&failed)
                .ends_with("AS IT WAS: click.videos: 1000 documents were backed up, and 999 came back")
        );
        let passed = DrillReport { passed: true, differences: Vec::new(), ..failed };
        let expected = "backup 5f0c9a3be1d24786 was restored for a trial at 2025-11-24T16:01:00Z, and all came back as it was: in 18s, 56s old";
        assert_eq!(drilled_words(&passed), expected);
    }

    #[test]
    fn a_component_is_one_that_there_is() {
        assert_eq!(component("files"), Ok(Component::Files));
        assert_eq!(component("file"), Err("one of database, files, config".to_owned()));
    }

    #[test]
    fn a_renaming_has_two_sides() {
        assert_eq!(renaming("a.*=b.*"), Ok(("a.*".to_owned(), "b.*".to_owned())));
        assert!(renaming("a.*").is_err());
    }
}
