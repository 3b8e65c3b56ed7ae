//! What the worker can be told to do: to back up, to restore, to delete, one thing at a time; to hold a backup, and to make them by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keelson_kit::command::{Attempt, CommandHandler};
use keelson_kit::failure::Failure;
use keelson_kit::publish::Outgoing;
use keelson_kit::role::Context;
use keelson_schemas::alerting::Reading;
use keelson_schemas::backup::{
    Automate, AutomationReport, Backup, BackupState, BackupSummary, DeleteBackup, DrillReport, HoldBackup,
    Restore, RestoreReport, TestBackup,
};
use keelson_schemas::message::Message;
use keelson_schemas::subject;
use tokio::sync::{Mutex, MutexGuard, Notify};
use tracing::info;

use crate::setup::Setup;
use crate::{automate, checks, deleting, drill, job, restoring, signals, store};

/// How long an event is tried to be published. What it tells of is kept before.
const PUBLISHED_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// Obeys `keelson.cmd.backup.backup`. The operation's result is a [`BackupSummary`]; it fails unless the backup is complete.
#[derive(Clone)]
pub struct BackupHandler(pub Desk);

/// Obeys `keelson.cmd.backup.restore`. The operation's result is a [`RestoreReport`].
#[derive(Clone)]
pub struct RestoreHandler(pub Desk);

/// Obeys `keelson.cmd.backup.test`. The operation's result is a [`DrillReport`]; it fails unless all came back as it was.
#[derive(Clone)]
pub struct DrillHandler(pub Desk);

/// Obeys `keelson.cmd.backup.delete`. The operation's result is the [`BackupSummary`] of what is gone.
#[derive(Clone)]
pub struct DeleteHandler(pub Desk);

/// Obeys `keelson.cmd.backup.hold`. The operation's result is the [`BackupSummary`].
#[derive(Clone)]
pub struct HoldHandler(pub Desk);

/// Obeys `keelson.cmd.backup.automate`. The operation's result is an [`AutomationReport`].
#[derive(Clone)]
pub struct AutomateHandler(pub Desk);

/// What all need.
#[derive(Clone)]
pub struct Desk {
    /// Its tasks are those of the one replica that may obey.
    pub ctx: Context,
    /// What is worked with.
    pub setup: Arc<Setup>,
    /// Held by what is being done.
    pub turn: Arc<Mutex<()>>,
    /// Told when another schedule is set.
    pub planned: Arc<Notify>,
}

impl CommandHandler for BackupHandler {
    type Command = Backup;
    type Outcome = BackupSummary;

    async fn run(&self, command: Backup, attempt: &Attempt) -> Result<BackupSummary, Failure> {
        let desk = &self.0;
        checks::backup(&desk.setup, &command).map_err(Failure::reject)?;
        let _turn = desk.turn()?;
        let gap = AtomicBool::new(false);
        let job = job::Job { setup: &desk.setup, clock: &desk.ctx.clock, attempt, command: &command, gap };
        let backup = tokio::select! {
            biased;
            () = desk.ctx.tasks.cancelled() => return Err(Failure::retry("this process hands its work over")),
            backup = job.run() => backup,
        };
        store::keep(&desk.ctx.bus, &backup).await?;
        let fact = if backup.state == BackupState::Complete { "completed" } else { "failed" };
        desk.publish(fact, attempt, &backup).await;
        let gap = job.gap.load(Ordering::Relaxed);
        let readings = signals::ended(&backup, gap, job::now(&desk.ctx.clock));
        desk.tell(readings, &attempt.operation).await;
        match &backup.error {
            Some(error) => Err(Failure::give_up(error)),
            None => {
                info!(backup.id = %backup.id, backup.stored_bytes = backup.stored_bytes, "a backup is complete");
                desk.retain(attempt).await;
                Ok(backup)
            }
        }
    }
}

impl CommandHandler for RestoreHandler {
    type Command = Restore;
    type Outcome = RestoreReport;

    /// A second attempt would find what the first one has restored in its way.
    const REPEATABLE: bool = false;

    async fn run(&self, command: Restore, attempt: &Attempt) -> Result<RestoreReport, Failure> {
        let desk = &self.0;
        let backup = checks::restore(&desk.ctx.bus, &desk.setup, &command).await?;
        let _turn = desk.turn()?;
        let job = restoring::Job {
            setup: &desk.setup,
            clock: &desk.ctx.clock,
            attempt,
            command: &command,
            backup: &backup,
        };
        let report = tokio::select! {
            biased;
            () = desk.ctx.tasks.cancelled() => {
                return Err(Failure::give_up("this process had to end; what was restored until then is in the target"));
            }
            report = job.run() => report?,
        };
        desk.publish("restored", attempt, &report).await;
        Ok(report)
    }
}

impl CommandHandler for DrillHandler {
    type Command = TestBackup;
    type Outcome = DrillReport;

    async fn run(&self, command: TestBackup, attempt: &Attempt) -> Result<DrillReport, Failure> {
        let desk = &self.0;
        let backup = checks::test(&desk.ctx.bus, &desk.setup, &command).await?;
        let _turn = desk.turn()?;
        let job = drill::Job { setup: &desk.setup, clock: &desk.ctx.clock, attempt, backup: &backup };
        let report = tokio::select! {
            biased;
            () = desk.ctx.tasks.cancelled() => return Err(Failure::retry("this process hands its work over")),
            report = job.run() => report,
        };
        store::keep_drill(&desk.ctx.bus, &report).await?;
        desk.publish("drilled", attempt, &report).await;
        desk.tell(signals::drilled(&report, job::now(&desk.ctx.clock)), &attempt.operation).await;
        if report.passed {
            info!(backup.id = %report.backup_id, rto_ms = report.rto_ms, "a restore was rehearsed, and all came back as it was");
            return Ok(report);
        }
        Err(Failure::give_up(drill::failure(&report)))
    }
}

impl CommandHandler for DeleteHandler {
    type Command = DeleteBackup;
    type Outcome = BackupSummary;

    async fn run(&self, command: DeleteBackup, attempt: &Attempt) -> Result<BackupSummary, Failure> {
        let desk = &self.0;
        let backup = checks::delete(&desk.ctx.bus, &command).await?;
        let _turn = desk.turn()?;
        deleting::run(&desk.ctx, &desk.setup, &backup).await?;
        desk.publish("deleted", attempt, &backup).await;
        Ok(backup)
    }
}

impl CommandHandler for HoldHandler {
    type Command = HoldBackup;
    type Outcome = BackupSummary;

    async fn run(&self, command: HoldBackup, _: &Attempt) -> Result<BackupSummary, Failure> {
        let bus = &self.0.ctx.bus;
        let backup = checks::find(bus, &command.backup_id).await?;
        // What deletes has the turn: it deletes nothing between being asked and being held.
        let _turn = self.0.turn.lock().await;
        let Some(backup) = store::find(bus, &backup.id).await? else {
            return Err(Failure::decline(format!("backup {} was deleted meanwhile", backup.id)));
        };
        let backup = BackupSummary { held: command.held, ..backup };
        store::keep(bus, &backup).await?;
        Ok(backup)
    }
}

impl CommandHandler for AutomateHandler {
    type Command = Automate;
    type Outcome = AutomationReport;

    async fn run(&self, command: Automate, _: &Attempt) -> Result<AutomationReport, Failure> {
        let desk = &self.0;
        let schedules = automate::check(&desk.setup, &command).map_err(Failure::decline)?;
        let report = automate::set(&desk.ctx.bus, job::now(&desk.ctx.clock), &command, &schedules).await?;
        desk.planned.notify_one();
        Ok(report)
    }
}

impl Desk {
    /// Deletes what is no longer kept. Whoever does has the turn.
    async fn retain(&self, attempt: &Attempt) {
        match automate::retain(self).await {
            Ok(gone) => {
                for backup in gone {
                    let id = attempt.consequence(&format!("deleted {}", backup.id));
                    self.publish_as("deleted", id, attempt, &backup).await;
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "backups that nothing keeps could not be deleted"
                );
            }
        }
    }

    fn turn(&self) -> Result<MutexGuard<'_, ()>, Failure> {
        let taken = "a backup, a restore or a rehearsal is under way: wait until it has ended (`keelson operations list`)";
        self.turn.try_lock().map_err(|_| Failure::reject(taken))
    }

    /// Says what happened. What is kept in the bucket stands without it.
    async fn publish<M: Message>(&self, fact: &str, attempt: &Attempt, message: &M) {
        self.publish_as(fact, attempt.consequence(fact), attempt, message).await;
    }

    async fn publish_as<M: Message>(&self, fact: &str, id: String, attempt: &Attempt, message: &M) {
        let outgoing = Outgoing::of(subject::evt("backup", fact), id, message);
        if let Err(error) = self.published(outgoing).await {
            tracing::warn!(error, fact, operation.id = %attempt.operation, "an event could not be published");
        }
    }

    /// Tells rules how things stand. `about` tells one message from another.
    pub(crate) async fn tell(&self, readings: Vec<Reading>, about: &str) {
        if readings.is_empty() {
            return;
        }
        if let Err(error) = self.published(signals::message(readings, about)).await {
            tracing::warn!(error, "how backups stand could not be published");
        }
    }

    async fn published<E: ToString>(&self, outgoing: Result<Outgoing, E>) -> Result<(), String> {
        let outgoing = outgoing.map_err(|error| error.to_string())?;
        let published = self.ctx.bus.publish_within(&outgoing, PUBLISHED_WITHIN).await;
        published.map(drop).map_err(|error| error.to_string())
    }
}
