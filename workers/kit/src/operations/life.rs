//! The life of an operation, decided purely: (record, what happened, now) gives the next record.

use jiff::Timestamp;
use keelson_schemas::operation::{Operation, OperationRecord, Progress, State};
use serde_json::Value;

/// The most of an error that is kept.
const MAX_ERROR_BYTES: usize = 4096;

/// A message that carries a command, about to be obeyed.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The operation.
    pub id: &'a str,
    /// `<worker>.<verb>`.
    pub kind: &'a str,
    /// The command's subject.
    pub subject: &'a str,
    /// The one place of the message, see [`crate::consume::Delivery::place`].
    pub carrier: &'a str,
    /// Whether the effect may safely be had twice.
    pub repeatable: bool,
}

/// What is to be done with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// Have its effect.
    Run {
        /// Which attempt this is, from 1.
        attempt: u32,
        /// Who asked.
        requested_by: String,
    },
    /// Nothing: it is over.
    Over(State),
    /// Nothing: another message carries the same operation.
    Duplicate,
    /// Nothing, and say so: its last attempt ended in the midst of an effect that must not happen twice.
    Unknown,
}

/// Whether the effect is to be had, and what to write before that.
pub fn begin(
    record: Option<OperationRecord>,
    claim: &Claim<'_>,
    now: Timestamp,
) -> (Beginning, Option<OperationRecord>) {
    let record = record.unwrap_or_else(|| by_hand(claim, now));
    if record.operation.state.is_final() {
        return (Beginning::Over(record.operation.state), None);
    }
    if record.carrier.as_deref().is_some_and(|carrier| carrier != claim.carrier) {
        return (Beginning::Duplicate, None);
    }
    if record.attempt_open && !claim.repeatable {
        return (Beginning::Unknown, None);
    }
    let begun = OperationRecord {
        operation: Operation {
            state: State::Running,
            attempts: record.operation.attempts.saturating_add(1),
            updated_at: now,
            ..record.operation
        },
        payload: None,
        carrier: Some(claim.carrier.to_owned()),
        attempt_open: true,
        ..record
    };
    let run = Beginning::Run {
        attempt: begun.operation.attempts,
        requested_by: begun.operation.requested_by.clone(),
    };
    (run, Some(begun))
}

/// After a failure that another attempt will follow.
pub fn attempt_failed(record: OperationRecord, reason: &str, now: Timestamp) -> Option<OperationRecord> {
    if record.operation.state.is_final() {
        return None;
    }
    let error = Some(shortened(&format!("attempt {}: {reason}", record.operation.attempts)));
    let operation = Operation { error, updated_at: now, ..record.operation };
    Some(OperationRecord { operation, attempt_open: false, ..record })
}

/// After a step of a long effect.
pub fn progressed(record: OperationRecord, progress: Progress, now: Timestamp) -> Option<OperationRecord> {
    if record.operation.state != State::Running {
        return None;
    }
    let operation = Operation { progress: Some(progress), updated_at: now, ..record.operation };
    Some(OperationRecord { operation, ..record })
}

/// At the end: a result, or an error in words.
pub fn finished(
    record: OperationRecord,
    state: State,
    end: Result<Value, String>,
    now: Timestamp,
) -> Option<OperationRecord> {
    if record.operation.state.is_final() {
        return None;
    }
    let (result, error) = match end {
        Ok(result) => (Some(result), None),
        Err(error) => (None, Some(shortened(&error))),
    };
    let operation = Operation { state, result, error, updated_at: now, ..record.operation };
    Some(OperationRecord { operation, payload: None, attempt_open: false, ..record })
}

/// The record of a command that nobody announced.
fn by_hand(claim: &Claim<'_>, now: Timestamp) -> OperationRecord {
    OperationRecord {
        operation: Operation {
            id: claim.id.to_owned(),
            kind: claim.kind.to_owned(),
            state: State::Accepted,
            attempts: 0,
            progress: None,
            result: None,
            error: None,
            requested_by: super::UNVERIFIED.to_owned(),
            created_at: now,
            updated_at: now,
        },
        subject: claim.subject.to_owned(),
        message_type: String::new(),
        payload: None,
        body_hash: None,
        traceparent: None,
        published: None,
        carrier: None,
        attempt_open: false,
    }
}

fn shortened(error: &str) -> String {
    error[..error.floor_char_boundary(MAX_ERROR_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const CLAIM: Claim<'static> = Claim {
        id: "a1",
        kind: "cdn.purge",
        subject: "keelson.cmd.cdn.purge",
        carrier: "7@1",
        repeatable: true,
    };
    const ONCE: Claim<'static> = Claim { repeatable: false, ..CLAIM };

    fn record(state: State, carrier: Option<&str>, attempt_open: bool) -> OperationRecord {
        let record = by_hand(&CLAIM, NOW);
        let operation = Operation { state, attempts: 1, ..record.operation };
        OperationRecord { operation, carrier: carrier.map(str::to_owned), attempt_open, ..record }
    }

    fn run(attempt: u32) -> Beginning {
        Beginning::Run { attempt, requested_by: "unverified".into() }
    }

    #[test]
    fn the_record_decides_whether_an_effect_is_had() {
        use State::{Accepted, Failed, Rejected, Running, Succeeded, Unknown};
        let (mine, other) = (Some("7@1"), Some("8@2"));
        let cases = [
            ("by hand", None, CLAIM, run(1)),
            ("accepted", Some(record(Accepted, None, false)), CLAIM, run(2)),
            ("again after a failure", Some(record(Running, mine, false)), CLAIM, run(2)),
            ("again after a failure, once", Some(record(Running, mine, false)), ONCE, run(2)),
            ("again after a crash", Some(record(Running, mine, true)), CLAIM, run(2)),
            ("again after a crash, once", Some(record(Running, mine, true)), ONCE, Beginning::Unknown),
            ("published twice", Some(record(Running, other, true)), CLAIM, Beginning::Duplicate),
            ("published twice, failed", Some(record(Running, other, false)), ONCE, Beginning::Duplicate),
            ("done", Some(record(Succeeded, mine, false)), CLAIM, Beginning::Over(Succeeded)),
            ("done by another message", Some(record(Failed, other, false)), CLAIM, Beginning::Over(Failed)),
            ("rejected", Some(record(Rejected, None, false)), CLAIM, Beginning::Over(Rejected)),
            ("unknown", Some(record(Unknown, mine, false)), ONCE, Beginning::Over(Unknown)),
        ];
        for (name, found, claim, expected) in cases {
            let (beginning, write) = begin(found, &claim, NOW);
            assert_eq!(beginning, expected, "{name}");
            let runs = matches!(beginning, Beginning::Run { .. });
            assert_eq!(write.is_some(), runs, "{name}: exactly what is begun is written");
            if let Some(written) = write {
                assert!(written.attempt_open && written.operation.state == Running, "{name}");
                assert_eq!(written.carrier.as_deref(), Some("7@1"), "{name}");
            }
        }
    }

    #[test]
    fn what_is_over_stays() {
        for state in [State::Succeeded, State::Failed, State::Rejected, State::Unknown] {
            let over = || record(state, None, false);
            assert_eq!(finished(over(), State::Failed, Err("late".into()), NOW), None);
            assert_eq!(attempt_failed(over(), "late", NOW), None);
            assert_eq!(progressed(over(), Progress { done: 1, total: None, note: None }, NOW), None);
        }
    }

    #[test]
    fn an_end_clears_the_error_of_earlier_attempts() {
        let failed = attempt_failed(record(State::Running, None, true), "no", NOW).unwrap();
        assert_eq!(failed.operation.error.as_deref(), Some("attempt 1: no"));
        assert!(!failed.attempt_open);
        let done = finished(failed, State::Succeeded, Ok(Value::Bool(true)), NOW).unwrap();
        assert_eq!((done.operation.error, done.operation.result), (None, Some(Value::Bool(true))));
    }
}
