//! What rules can look at: how old the newest backup is, whether one is overdue, and what went wrong.

use jiff::Timestamp;
use keelson_kit::publish::{Outgoing, PublishError};
use keelson_schemas::alerting::{Reading, Signals};
use keelson_schemas::backup::{BackupState, BackupSummary, DrillReport};
use keelson_schemas::{id, subject};

use crate::schedule::Schedule;

/// How backups stand, `all` being the newest first; `since` is when the schedule came to hold. Pure.
#[must_use]
pub fn standing(
    all: &[BackupSummary],
    schedule: Option<&Schedule>,
    since: Timestamp,
    now: Timestamp,
) -> Vec<Reading> {
    let newest = all.iter().find(|backup| backup.state == BackupState::Complete);
    let age = newest.map(|newest| reading("backup_age_seconds", seconds(newest.started_at, now), now));
    // Of those that were due since the newest one began, the first is the one that is missing.
    let from = newest.map_or(since, |newest| newest.started_at.max(since));
    let overdue = schedule.map(|schedule| overdue("backup_overdue_seconds", schedule, from, now));
    age.into_iter().chain(overdue).collect()
}

/// How rehearsals stand: since when one is missing. Pure.
#[must_use]
pub fn drills(all: &[BackupSummary], schedule: &Schedule, since: Timestamp, now: Timestamp) -> Reading {
    let last = all.iter().filter_map(|backup| backup.verified_at).max();
    overdue("drill_overdue_seconds", schedule, last.map_or(since, |last| last.max(since)), now)
}

fn overdue(signal: &str, schedule: &Schedule, from: Timestamp, now: Timestamp) -> Reading {
    let due = schedule.next(from).filter(|due| *due < now);
    reading(signal, due.map_or(0.0, |due| seconds(due, now)), now)
}

/// What a rehearsal that has ended tells. Pure.
#[must_use]
pub fn drilled(report: &DrillReport, now: Timestamp) -> Vec<Reading> {
    (!report.passed).then(|| reading("drills_failed", 1.0, now)).into_iter().collect()
}

/// What a backup that has ended tells: whether it failed, and whether the oplog did not go on from the one before. Pure.
#[must_use]
pub fn ended(backup: &BackupSummary, gap: bool, now: Timestamp) -> Vec<Reading> {
    let failed = backup.state != BackupState::Complete;
    let told = [("backups_failed", failed), ("backup_gaps", gap)];
    told.into_iter().filter(|(_, is)| *is).map(|(signal, _)| reading(signal, 1.0, now)).collect()
}

/// The message with readings, of which there is one for each `about`.
///
/// # Errors
/// When it cannot be written, which it can.
pub fn message(readings: Vec<Reading>, about: &str) -> Result<Outgoing, PublishError> {
    let id = id::derive("backup-signals", &[about]);
    Ok(Outgoing::of(subject::evt("backup", "signals"), id, &Signals { readings })?)
}

fn reading(signal: &str, value: f64, now: Timestamp) -> Reading {
    let ts = u64::try_from(now.as_millisecond()).unwrap_or(0);
    Reading { signal: signal.to_owned(), value, ts, ..Reading::default() }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-03-{text}:00Z").parse().unwrap()
    }

    fn backup(began: &str, state: BackupState) -> BackupSummary {
        BackupSummary { started_at: at(began), state, ..BackupSummary::example() }
    }

    #[test]
    fn a_backup_is_overdue_from_when_it_was_due_until_one_is_complete() {
        use BackupState::{Complete, Failed};
        let daily = Schedule::parse("0 2 * * *", "UTC").unwrap();
        let since = at("01T12:00");
        let cases = [
            (vec![], "01T13:00", 0.0),
            (vec![], "02T02:30", 1_800.0),
            (vec![backup("02T02:00", Complete)], "02T03:00", 0.0),
            (vec![backup("02T02:00", Failed)], "02T03:00", 3_600.0),
            (vec![backup("03T02:00", Failed), backup("02T02:00", Complete)], "03T03:00", 3_600.0),
            // The first of those that are missing counts.
            (vec![backup("01T13:00", Complete)], "04T02:00", 2.0 * 86_400.0),
        ];
        for (all, now, expected) in cases {
            let readings = standing(&all, Some(&daily), since, at(now));
            let overdue = readings.iter().find(|reading| reading.signal == "backup_overdue_seconds").unwrap();
            assert!((overdue.value - expected).abs() < 1e-9, "{now}: {overdue:?}");
        }
    }

    #[test]
    fn a_rehearsal_is_overdue_until_one_has_passed() {
        let weekly = Schedule::parse("0 4 * * 0", "UTC").unwrap();
        // 1 and 8 March 2026 are Sundays.
        let since = at("02T12:00");
        let verified = |text: Option<&str>| BackupSummary {
            verified_at: text.map(at),
            ..backup("02T13:00", BackupState::Complete)
        };
        for (last, now, expected) in [
            (None, "08T03:00", 0.0),
            (None, "08T05:00", 3_600.0),
            (Some("08T04:10"), "08T05:00", 0.0),
            (Some("03T00:00"), "08T05:00", 3_600.0),
            (Some("08T04:10"), "16T04:00", 86_400.0),
        ] {
            let all = [verified(None), verified(last)];
            let reading = drills(&all, &weekly, since, at(now));
            assert!((reading.value - expected).abs() < 1e-9, "{now}: {reading:?}");
        }
        assert_eq!(drilled(&DrillReport { passed: true, ..DrillReport::example() }, since), []);
        assert_eq!(drilled(&DrillReport::example(), since)[0].signal, "drills_failed");
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let now = at("02T02:30");
        assert_eq!(standing(&[], None, now, now), []);
        let age = standing(&[backup("02T02:00", BackupState::Complete)], None, now, now);
        assert_eq!((age.len(), age[0].signal.as_str()), (1, "backup_age_seconds"));
        assert!((age[0].value - 1_800.0).abs() < 1e-9);
    }

    #[test]
    fn failures_and_gaps_are_told_once() {
        let names = |state, gap| -> Vec<String> {
            ended(&backup("02T02:00", state), gap, at("02T03:00"))
                .into_iter()
                .map(|reading| reading.signal)
                .collect()
        };
        assert_eq!(names(BackupState::Complete, false), [""; 0]);
        assert_eq!(names(BackupState::Complete, true), ["backup_gaps"]);
        assert_eq!(names(BackupState::Failed, false), ["backups_failed"]);
    }
}
