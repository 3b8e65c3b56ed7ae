//! Which backups are kept, and why. Pure.

use std::collections::HashSet;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use keelson_schemas::backup::{BackupState, BackupSummary, Retained, Retention};

use crate::schedule;

/// How the start of a span is named, and so the span.
type Span = fn(&Zoned) -> String;

/// What becomes of each of these backups, the newest first. Without a retention nothing is deleted, and what somebody asked for only where
/// the retention says so.
#[must_use]
pub fn decide(all: &[BackupSummary], retention: Option<Retention>, zone: &TimeZone) -> Vec<Retained> {
    let Some(retention) = retention else { return all.iter().map(unasked).collect() };
    let manual = |backup: &BackupSummary| !retention.manual && backup.requested_by != schedule::REQUESTED_BY;
    let complete: Vec<&BackupSummary> =
        all.iter().filter(|backup| backup.state == BackupState::Complete && !manual(backup)).collect();
    let mut reasons: Vec<Vec<String>> = all.iter().map(|backup| never_deleted(all, backup)).collect();
    for (reasons, _) in reasons.iter_mut().zip(all).filter(|(_, backup)| manual(backup)) {
        reasons.push("somebody asked for it".to_owned());
    }
    let mut give = |id: &str, reason: String| {
        if let Some(index) = all.iter().position(|backup| backup.id == id) {
            reasons[index].push(reason);
        }
    };
    for (number, backup) in complete.iter().take(retention.keep_last as usize).enumerate() {
        give(&backup.id, format!("number {} of the {} newest", number + 1, retention.keep_last));
    }
    let spans: [(u32, &str, Span); 4] = [
        (retention.keep_hourly, "hour", |at| at.strftime("%F %H %z").to_string()),
        (retention.keep_daily, "day", |at| at.strftime("%F").to_string()),
        (retention.keep_weekly, "week", |at| at.strftime("%G %V").to_string()),
        (retention.keep_monthly, "month", |at| at.strftime("%Y %m").to_string()),
    ];
    for (most, name, span) in spans {
        let mut seen = HashSet::new();
        let newest = complete.iter().filter(|backup| seen.insert(span(&local(backup.started_at, zone))));
        newest.take(most as usize).for_each(|backup| give(&backup.id, format!("the newest of its {name}")));
    }
    let oldest_kept = complete.iter().rev().find(|backup| {
        all.iter().position(|other| other.id == backup.id).is_some_and(|index| !reasons[index].is_empty())
    });
    let recent = |backup: &BackupSummary| oldest_kept.is_none_or(|kept| backup.started_at > kept.started_at);
    all.iter()
        .zip(reasons)
        .map(|(backup, mut reasons)| {
            if backup.state != BackupState::Complete && recent(backup) {
                reasons.push("it tells of a failure since the oldest one that is kept".to_owned());
            }
            let kept = !reasons.is_empty();
            if !kept {
                reasons.push("nothing keeps it".to_owned());
            }
            Retained { backup_id: backup.id.clone(), kept, reasons }
        })
        .collect()
}

/// Why a backup is not deleted whoever asks; `all` are the newest first.
#[must_use]
pub fn never_deleted(all: &[BackupSummary], backup: &BackupSummary) -> Vec<String> {
    let newest = all.iter().find(|backup| backup.state == BackupState::Complete);
    let mut reasons = Vec::new();
    if backup.held {
        reasons.push("it is held".to_owned());
    }
    if newest.is_some_and(|newest| newest.id == backup.id) {
        reasons.push("it is the newest one that is complete".to_owned());
    }
    let verified = all.iter().find(|backup| backup.verified_at.is_some());
    if verified.is_some_and(|verified| verified.id == backup.id) {
        reasons.push("it is the newest one of which a restore was rehearsed".to_owned());
    }
    reasons
}

/// What becomes of a backup while nobody has said which are kept.
fn unasked(backup: &BackupSummary) -> Retained {
    let reasons = vec!["no retention is set".to_owned()];
    Retained { backup_id: backup.id.clone(), kept: true, reasons }
}

fn local(at: Timestamp, zone: &TimeZone) -> Zoned {
    at.to_zoned(zone.clone())
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    const NONE: Retention = Retention {
        keep_last: 0,
        keep_hourly: 0,
        keep_daily: 0,
        keep_weekly: 0,
        keep_monthly: 0,
        manual: false,
    };

    /// Backups by their ids, which are the times at which they began; `!` failed, `*` is held, `+` somebody asked for.
    fn backups(ids: &[&str]) -> Vec<BackupSummary> {
        let backup = |id: &&str| BackupSummary {
            id: (*id).to_owned(),
            state: if id.ends_with('!') { BackupState::Failed } else { BackupState::Complete },
            held: id.ends_with('*'),
            verified_at: None,
            requested_by: if id.ends_with('+') { "ada" } else { schedule::REQUESTED_BY }.to_owned(),
            started_at: id.trim_end_matches(['!', '*', '+']).parse().unwrap(),
            ..BackupSummary::example()
        };
        ids.iter().map(backup).collect()
    }

    fn kept(ids: &[&str], retention: Retention) -> Vec<String> {
        let decided = decide(&backups(ids), Some(retention), &TimeZone::UTC);
        assert!(decided.iter().all(|retained| !retained.reasons.is_empty()));
        decided.into_iter().filter(|retained| retained.kept).map(|retained| retained.backup_id).collect()
    }

    const ALL: [&str; 8] = [
        "2026-03-02T03:00:00Z!",
        "2026-03-02T02:00:00Z",
        "2026-03-02T01:30:00Z",
        "2026-03-02T01:00:00Z",
        "2026-03-01T02:00:00Z",
        "2026-02-22T02:00:00Z",
        "2026-01-01T02:00:00Z*",
        "2025-12-31T02:00:00Z",
    ];

    #[test]
    fn of_each_span_the_newest_is_kept() {
        let always = [ALL[0], ALL[1], ALL[6]];
        let cases: [(Retention, &[usize]); 6] = [
            (NONE, &[]),
            (Retention { keep_last: 3, ..NONE }, &[2, 3]),
            (Retention { keep_hourly: 2, ..NONE }, &[2]),
            (Retention { keep_daily: 2, ..NONE }, &[4]),
            // 1 March 2026 is a Sunday.
            (Retention { keep_weekly: 3, ..NONE }, &[4, 5]),
            (Retention { keep_monthly: 9, ..NONE }, &[5, 7]),
        ];
        for (retention, more) in cases {
            let expected: Vec<&str> = ALL
                .into_iter()
                .enumerate()
                .filter(|(n, id)| always.contains(id) || more.contains(n))
                .map(|(_, id)| id)
                .collect();
            assert_eq!(kept(&ALL, retention), expected, "{retention:?}");
        }
    }

    #[test]
    fn days_are_those_of_the_time_zone() {
        let ids = ["2026-03-02T23:30:00Z", "2026-03-02T22:30:00Z", "2026-03-02T00:30:00Z"];
        let days = |zone: &TimeZone| {
            let decided = decide(&backups(&ids), Some(Retention { keep_daily: 9, ..NONE }), zone);
            decided.into_iter().map(|retained| retained.kept).collect::<Vec<_>>()
        };
        assert_eq!(days(&TimeZone::UTC), [true, false, false]);
        assert_eq!(days(&TimeZone::fixed(jiff::tz::offset(1))), [true, true, false]);
    }

    #[test]
    fn what_nobody_said_may_be_deleted_is_kept() {
        let decided = decide(&backups(&ALL), None, &TimeZone::UTC);
        assert!(decided.iter().all(|retained| retained.kept && retained.reasons == ["no retention is set"]));

        let ids = ["2026-03-04T02:00:00Z", "2026-03-03T02:00:00Z+", "2026-03-02T02:00:00Z"];
        let one = Retention { keep_last: 1, ..NONE };
        assert_eq!(kept(&ids, one), ids[..2]);
        assert_eq!(kept(&ids, Retention { manual: true, ..one }), ids[..1]);
        // What is never deleted by it takes nobody's place.
        assert_eq!(kept(&ids, Retention { keep_last: 2, ..NONE }), ids);
    }

    #[test]
    fn the_newest_that_is_known_to_be_good_is_kept() {
        let mut all = backups(&["2026-03-04T02:00:00Z", "2026-03-03T02:00:00Z", "2026-03-02T02:00:00Z"]);
        all[1..].iter_mut().for_each(|backup| backup.verified_at = Some(backup.finished_at));
        let decided = decide(&all, Some(NONE), &TimeZone::UTC);
        assert_eq!(decided.iter().map(|retained| retained.kept).collect::<Vec<_>>(), [true, true, false]);
    }

    #[test]
    fn a_failure_is_forgotten_with_what_was_there_then() {
        let ids = ["2026-03-02T02:00:00Z", "2026-03-01T02:00:00Z!", "2026-02-28T02:00:00Z"];
        assert_eq!(kept(&ids, NONE), [ids[0]]);
        assert_eq!(kept(&ids, Retention { keep_last: 2, ..NONE }), ids);
    }
}
