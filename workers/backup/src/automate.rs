//! Backups that make themselves: one replica looks when one is due and asks for it, as anybody could; what is no longer kept is deleted after each.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use keelson_kit::bus::Bus;
use keelson_kit::kv::KvError;
use keelson_kit::operations::Submission;
use keelson_schemas::backup::{Automate, AutomationReport, Backup, BackupSummary, TestBackup};
use keelson_schemas::id;
use keelson_schemas::message::Command;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::checks;
use crate::commands::Desk;
use crate::deleting;
use crate::retention;
use crate::schedule::{REQUESTED_BY, Schedule};
use crate::setup::Setup;
use crate::signals;
use crate::store;

/// What is set.
const PLAN: &str = "automation.plan";
/// How far it was obeyed.
const STATE: &str = "automation.state";
/// How often is looked whether something is due, at least.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often, while something else is done.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How often rules are told how backups stand.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// What nobody refers to is removed from the repository at most so often: it reads the whole index.
const PRUNE_EVERY_S: i64 = 24 * 3600;

/// How far the schedule was obeyed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct State {
    /// Up to when everything that was due was asked for.
    #[serde(default)]
    until: Option<Timestamp>,
    /// Up to when every rehearsal that was due was asked for.
    #[serde(default)]
    drilled: Option<Timestamp>,
    /// Since when the schedule holds.
    #[serde(default)]
    since: Option<Timestamp>,
    /// When the repository was pruned.
    #[serde(default)]
    pruned: Option<Timestamp>,
}

impl State {
    /// What is not known of it begins now: what was due before anybody was there is nobody's.
    fn begun(self, now: Timestamp) -> Self {
        Self {
            until: self.until.or(Some(now)),
            drilled: self.drilled.or(Some(now)),
            since: self.since.or(Some(now)),
            ..self
        }
    }
}

/// When everything is due.
#[derive(Debug, Clone)]
pub struct Schedules {
    /// Backups.
    pub backups: Schedule,
    /// Rehearsals, if there are any.
    pub drills: Option<Schedule>,
}

/// What is set; by default, what Keelson does unasked.
///
/// # Errors
/// The bus is away.
pub async fn plan(bus: &Bus) -> Result<Automate, KvError> {
    Ok(bus.kv(store::BUCKET).get(PLAN).await?.map(|entry| entry.value).unwrap_or_default())
}

/// Whether it can be set.
///
/// # Errors
/// Why not.
pub fn check(setup: &Setup, automate: &Automate) -> Result<Schedules, String> {
    let schedule = |when: &str| Schedule::parse(when, &automate.timezone);
    let backups = schedule(&automate.schedule)?;
    let drills = automate.drill_schedule.as_deref().map(schedule).transpose();
    let drills = drills.map_err(|error| format!("drillSchedule: {error}"))?;
    if automate.enabled && !automate.dry_run {
        checks::backup(setup, &command(automate))?;
    }
    Ok(Schedules { backups, drills })
}

/// Sets it from now on, unless it is only tried; what follows from it.
///
/// # Errors
/// The bus is away.
pub async fn set(
    bus: &Bus,
    now: Timestamp,
    automate: &Automate,
    schedules: &Schedules,
) -> Result<AutomationReport, KvError> {
    if !automate.dry_run {
        bus.kv(store::BUCKET).put(PLAN, automate).await?;
        change(bus, |state| *state = State { pruned: state.pruned, ..State::default() }.begun(now)).await?;
    }
    report(bus, now, automate.clone(), schedules).await
}

/// What is set, and what follows from it.
///
/// # Errors
/// The bus is away.
pub async fn report(
    bus: &Bus,
    now: Timestamp,
    automation: Automate,
    schedules: &Schedules,
) -> Result<AutomationReport, KvError> {
    let Schedules { backups, drills } = schedules;
    let next = automation.enabled.then(|| backups.next(now)).flatten();
    let next_drill = drills.as_ref().filter(|_| automation.enabled).and_then(|drills| drills.next(now));
    let retained = retention::decide(&store::list(bus).await?, automation.retention, &backups.zone);
    Ok(AutomationReport { automation, next, next_drill, retained })
}

/// Asks for what is due, for as long as the tasks of the desk are not cancelled.
pub async fn run(desk: Desk) {
    let mut told: Option<Instant> = None;
    loop {
        if told.is_none_or(|told| desk.ctx.clock.now() - told >= TELL_EVERY) {
            told = Some(desk.ctx.clock.now());
            if let Err(error) = tell(&desk).await {
                warn!(error = format!("{error:#}"), "it could not be told how backups stand");
            }
        }
        let wait = match look(&desk).await {
            Ok(wait) => wait,
            Err(error) => {
                warn!(error = format!("{error:#}"), "it could not be looked whether a backup is due");
                LOOK_EVERY
            }
        };
        tokio::select! {
            () = desk.ctx.clock.sleep(wait) => {}
            () = desk.planned.notified() => {}
        }
    }
}

/// Tells rules how backups stand, where any can be made.
async fn tell(desk: &Desk) -> anyhow::Result<()> {
    let bus = &desk.ctx.bus;
    let automate = plan(bus).await?;
    let Ok(Schedules { backups, drills }) = check(&desk.setup, &automate) else { return Ok(()) };
    let (now, state) = (crate::job::now(&desk.ctx.clock), state(bus).await?);
    let (all, since) = (store::list(bus).await?, state.since.unwrap_or(now));
    let mut readings = signals::standing(&all, automate.enabled.then_some(&backups), since, now);
    if automate.enabled && checks::newest(&desk.setup, &all).is_some() {
        readings.extend(drills.map(|drills| signals::drills(&all, &drills, since, now)));
    }
    desk.tell(readings, &now.to_string()).await;
    Ok(())
}

/// Asks for the last backup and the last rehearsal that are due, if they are; how long to wait until looking again.
async fn look(desk: &Desk) -> anyhow::Result<Duration> {
    let bus = &desk.ctx.bus;
    let automate = plan(bus).await?;
    let Ok(Schedules { backups, drills }) = check(&desk.setup, &automate) else { return Ok(LOOK_EVERY) };
    let now = crate::job::now(&desk.ctx.clock);
    let known = state(bus).await?;
    let state = known.clone().begun(now);
    if state != known {
        change(bus, |known| *known = state.clone()).await?;
    }
    let due = |schedule: &Schedule, until: Option<Timestamp>| {
        schedule.due(until?, now).filter(|_| automate.enabled)
    };
    let backup = due(&backups, state.until);
    let drill = drills.as_ref().and_then(|drills| due(drills, state.drilled));
    let drill = match drill {
        Some(due) if checks::newest(&desk.setup, &store::list(bus).await?).is_some() => Some(due),
        _ => None,
    };
    let next = backups.next(now).into_iter().chain(drills.and_then(|drills| drills.next(now))).min();
    let next = next.map_or(LOOK_EVERY, |next| next.duration_since(now).unsigned_abs());
    if backup.is_none() && drill.is_none() {
        return Ok(next.clamp(Duration::from_millis(10), LOOK_EVERY));
    }
    if desk.turn.try_lock().is_err() {
        return Ok(LOOK_AGAIN);
    }
    if let Some(due) = backup {
        ask(bus, "backup-schedule", due, &command(&automate))
            .await
            .context("ask for the backup that is due")?;
        change(bus, |state| state.until = Some(due)).await?;
    } else if let Some(due) = drill {
        ask(bus, "drill-schedule", due, &TestBackup::default())
            .await
            .context("ask for the rehearsal that is due")?;
        change(bus, |state| state.drilled = Some(due)).await?;
    }
    Ok(LOOK_AGAIN)
}

/// The same for whoever asks: should two replicas do it, it is one operation.
async fn ask<C: Command>(bus: &Bus, what: &str, due: Timestamp, command: &C) -> anyhow::Result<()> {
    let id = id::derive(what, &[&due.to_string()]);
    let submission = Submission::of(id, command, REQUESTED_BY)?;
    let operation = bus.operations().submit(&submission).await?;
    info!(operation.id = %operation.id, due = %due, "{} is due", C::VERB);
    Ok(())
}

fn command(automate: &Automate) -> Backup {
    Backup { kind: automate.kind, components: automate.components.clone() }
}

/// Deletes what is no longer kept. Whoever deletes holds the turn.
///
/// # Errors
/// When the repository or the bus cannot be changed.
pub async fn retain(desk: &Desk) -> anyhow::Result<Vec<BackupSummary>> {
    let (bus, now) = (&desk.ctx.bus, crate::job::now(&desk.ctx.clock));
    let automate = plan(bus).await?;
    if !automate.enabled {
        return Ok(Vec::new());
    }
    let zone = TimeZone::get(&automate.timezone).unwrap_or(TimeZone::UTC);
    let all = store::list(bus).await?;
    let gone: Vec<String> = retention::decide(&all, automate.retention, &zone)
        .into_iter()
        .filter(|retained| !retained.kept)
        .map(|retained| retained.backup_id)
        .collect();
    let gone: Vec<_> = all.into_iter().filter(|backup| gone.contains(&backup.id)).collect();
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let pruned = state(bus).await?.pruned;
    let prune = pruned.is_none_or(|pruned| now.duration_since(pruned).as_secs() >= PRUNE_EVERY_S);
    deleting::remove(&desk.ctx, &desk.setup, &gone, prune).await?;
    if prune {
        change(bus, |state| state.pruned = Some(now)).await?;
    }
    info!(backups = gone.len(), "backups that nothing keeps were deleted");
    Ok(gone)
}

async fn state(bus: &Bus) -> Result<State, KvError> {
    Ok(bus.kv(store::BUCKET).get(STATE).await?.map(|entry| entry.value).unwrap_or_default())
}

/// Only the owner of the desk changes it.
async fn change(bus: &Bus, change: impl FnOnce(&mut State)) -> Result<(), KvError> {
    let mut changed = state(bus).await?;
    change(&mut changed);
    bus.kv(store::BUCKET).put(STATE, &changed).await.map(drop)
}
