//! Saying what became of purges: those of events together, those of commands each on a subject of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keelson_kit::bus::Bus;
use keelson_kit::incoming::Stored;
use keelson_kit::publish::{Outgoing, PublishError};
use keelson_kit::{dead_letter, fault};
use keelson_schemas::alerting::{Reading, Signals};
use keelson_schemas::cdn::{PurgeOutcome, PurgeOutcomes, PurgeState};
use keelson_schemas::{id, subject};
use tracing::{error, warn};

use crate::batch::Key;
use crate::purge::Request;
use crate::sender::STREAM;

/// How many outcomes one message holds.
pub const MOST_TOGETHER: usize = 500;
/// How long one publish is tried before that is logged; it is tried for as long as it takes.
const WITHIN: Duration = Duration::from_secs(10);

/// A message about purges that have ended, and which they are.
pub struct Report {
    keys: Vec<Key>,
    outgoing: Outgoing,
}

/// The messages about purges that have ended.
///
/// # Errors
/// When a message cannot be written, which none of these is.
pub fn reports(lane: &str, ended: Vec<(Arc<Request>, PurgeOutcome)>) -> Result<Vec<Report>, PublishError> {
    let mut by_subject: BTreeMap<String, Vec<(Key, PurgeOutcome)>> = BTreeMap::new();
    for (request, outcome) in ended {
        by_subject.entry(subject_of(&outcome)).or_default().push((request.key, outcome));
    }
    let mut reports = Vec::new();
    for (subject, outcomes) in by_subject {
        for some in outcomes.chunks(MOST_TOGETHER) {
            reports.push(report(lane, &subject, some)?);
        }
    }
    Ok(reports)
}

fn report(lane: &str, subject: &str, some: &[(Key, PurgeOutcome)]) -> Result<Report, PublishError> {
    let keys: Vec<Key> = some.iter().map(|(key, _)| *key).collect();
    let outcomes = PurgeOutcomes { outcomes: some.iter().map(|(_, outcome)| outcome.clone()).collect() };
    let purges = some.iter().map(|(_, outcome)| outcome.purge.as_str());
    let parts: Vec<&str> = [lane, subject].into_iter().chain(purges).collect();
    let id = id::derive("cdn-outcomes", &parts);
    Ok(Report { keys, outgoing: Outgoing::of(subject, id, &outcomes)? })
}

fn subject_of(outcome: &PurgeOutcome) -> String {
    let fact = outcome.state.fact();
    match &outcome.operation {
        Some(operation) => subject::evt("cdn", &format!("{fact}.{operation}")),
        None => subject::evt("cdn", fact),
    }
}

impl Report {
    /// Says it, however long that takes; the purges that it is about.
    pub async fn say(self, bus: Bus) -> Vec<Key> {
        loop {
            match bus.publish_within(&self.outgoing, WITHIN).await {
                Ok(_) => return self.keys,
                Err(error) if error.may_pass() => {
                    warn!(subject = self.outgoing.subject, %error, "what became of purges cannot be said yet");
                }
                Err(error) => {
                    error!(subject = self.outgoing.subject, %error, "what became of purges cannot be said");
                    return self.keys;
                }
            }
        }
    }
}

/// Stores the dead letter of a message that nobody can read, however long that takes. The letter is the same for every lane.
pub async fn bury(bus: Bus, message: Stored, reason: String) -> Vec<Key> {
    loop {
        match dead_letter::bury_message(&bus, STREAM, "cdn", &message, &reason, 1).await {
            Ok(_) => break,
            Err(error) if error.may_pass() => {
                warn!(sequence = message.sequence, %error, "a dead letter cannot be stored yet");
            }
            Err(error) => {
                error!(sequence = message.sequence, %error, "a dead letter cannot be stored");
                break;
            }
        }
    }
    fault::point("cdn.buried");
    vec![message.sequence]
}

/// What rules can look at: purges that ended badly, and whether the provider takes calls.
#[must_use]
pub fn readings(lane: &str, ended: &[(Arc<Request>, PurgeOutcome)], now_ms: u64) -> Vec<Reading> {
    let count = |state: PurgeState| ended.iter().filter(|(_, outcome)| outcome.state == state).count();
    [("purges_stale", count(PurgeState::Stale)), ("purges_failed", count(PurgeState::Failed))]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(signal, count)| reading(signal, lane, count as f64, now_ms))
        .collect()
}

/// A reading about a lane.
#[must_use]
pub fn reading(signal: &str, lane: &str, value: f64, ts: u64) -> Reading {
    let labels = [("provider".to_owned(), lane.to_owned())].into();
    Reading { signal: signal.to_owned(), labels, value, ts }
}

/// The message with readings.
///
/// # Errors
/// When it cannot be written, which it can.
pub fn signals(lane: &str, readings: Vec<Reading>, now_ms: u64) -> Result<Outgoing, PublishError> {
    let names: Vec<&str> = readings.iter().map(|reading| reading.signal.as_str()).collect();
    let id = id::derive("cdn-signals", &[lane, &now_ms.to_string(), &names.join(",")]);
    Ok(Outgoing::of(subject::evt("cdn", "signals"), id, &Signals { readings })?)
}
