//! Accepted commands that are not on their stream: recorded by somebody who stopped before publishing, or whose publish failed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use keelson_bus_config::BusConfig;
use keelson_schemas::operation::{OperationRecord, State};
use tracing::{info, warn};

use super::StewardConfig;
use crate::bus::Bus;
use crate::clock::Clock;
use crate::kv::Change;
use crate::operations::Operations;
use crate::role::Context;

const COMMANDS: &str = "COMMANDS";
/// Accepted operations that are remembered; those beyond are found when these are done or the steward starts again.
const MAX_WAITING: usize = 100_000;

/// Spawns the sweep as a supervised task.
pub(super) fn spawn(ctx: &Context, config: StewardConfig) {
    let (bus, clock, tasks) = (ctx.bus.clone(), ctx.clock.clone(), ctx.tasks.clone());
    ctx.tasks.spawn("steward sweep", move || {
        let sweep = Sweep {
            operations: bus.operations(),
            bus: bus.clone(),
            clock: clock.clone(),
            config: config.clone(),
            waiting: BTreeMap::new(),
        };
        let tasks = tasks.clone();
        async move {
            tokio::select! {
                () = tasks.cancelled() => Ok(()),
                ended = sweep.run() => ended,
            }
        }
    });
}

struct Sweep {
    bus: Bus,
    operations: Operations,
    clock: Clock,
    config: StewardConfig,
    /// Accepted operations, and when they were first seen so.
    waiting: BTreeMap<String, Instant>,
}

/// What is to be done about a record.
#[derive(Debug, PartialEq, Eq)]
enum Care {
    /// Nothing: it has been begun, or is over.
    Leave,
    /// Its command is, or was, on the stream under this sequence: look there.
    LookAt(u64),
    /// Publish its command.
    Publish,
    /// Nobody has obeyed it for as long as a command is kept.
    GiveUp,
}

fn care(record: &OperationRecord, max_age: Duration, now: Timestamp) -> Care {
    let age = now.duration_since(record.operation.created_at).unsigned_abs();
    match (record.operation.state, record.published) {
        (State::Accepted, _) if age >= max_age => Care::GiveUp,
        (State::Accepted, Some(sequence)) => Care::LookAt(sequence),
        (State::Accepted, None) => Care::Publish,
        _ => Care::Leave,
    }
}

impl Sweep {
    async fn run(mut self) -> anyhow::Result<()> {
        let max_age = BusConfig::load()?.stream(COMMANDS).map_or(Duration::MAX, |stream| stream.max_age());
        let mut changes = self.operations.watch_all();
        let mut next = self.clock.now() + self.config.sweep_every();
        loop {
            tokio::select! {
                change = changes.next() => self.note(change?),
                () = self.clock.sleep_until(next) => {
                    next = self.clock.now() + self.config.sweep_every();
                    self.sweep(max_age).await;
                }
            }
        }
    }

    fn note(&mut self, change: Change) {
        let state =
            change.decode::<OperationRecord>().ok().flatten().map(|entry| entry.value.operation.state);
        if state != Some(State::Accepted) {
            self.waiting.remove(&change.key);
        } else if self.waiting.len() < MAX_WAITING {
            self.waiting.entry(change.key).or_insert_with(|| self.clock.now());
        }
    }

    async fn sweep(&mut self, max_age: Duration) {
        let now = self.clock.now();
        let due = |since: &Instant| now.duration_since(*since) >= self.config.sweep_after();
        let ids: Vec<String> =
            self.waiting.iter().filter(|(_, since)| due(since)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            match self.care_for(&id, max_age).await {
                Ok(true) => {
                    self.waiting.remove(&id);
                }
                Ok(false) => {}
                Err(reason) => {
                    warn!(operation.id = %id, reason, "an accepted command cannot be looked after now");
                    return;
                }
            }
        }
    }

    /// Whether nothing more is to be done about it.
    async fn care_for(&self, id: &str, max_age: Duration) -> Result<bool, String> {
        let Some(found) = self.operations.record(id).await.map_err(|error| error.to_string())? else {
            return Ok(true);
        };
        let record = found.value;
        match care(&record, max_age, self.bus.timestamp()) {
            Care::Leave => return Ok(true),
            Care::LookAt(sequence) if self.is_there(&record, sequence).await? => return Ok(false),
            Care::LookAt(_) | Care::Publish => {
                self.operations.publish(&record).await.map_err(|error| error.to_string())?;
                info!(operation.id = id, operation.kind = %record.operation.kind, "an accepted command was published by the sweep");
            }
            Care::GiveUp => {
                let reason = Err("nobody obeyed it for as long as commands are kept".to_owned());
                self.operations.finish(id, State::Failed, reason).await.map_err(|error| error.to_string())?;
                warn!(operation.id = id, operation.kind = %record.operation.kind, "a command that nobody obeyed was given up");
            }
        }
        Ok(false)
    }

    async fn is_there(&self, record: &OperationRecord, sequence: u64) -> Result<bool, String> {
        let found = self.bus.message(COMMANDS, sequence).await.map_err(|error| error.to_string())?;
        Ok(found.is_some_and(|message| message.headers.message_id() == Some(&record.operation.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_schemas::message::Message;
    use keelson_schemas::operation::Operation;

    #[test]
    fn only_what_is_merely_accepted_is_cared_for() {
        let day = Duration::from_secs(86_400);
        let created = Timestamp::UNIX_EPOCH;
        let record = |state, published| {
            let example = OperationRecord::example();
            let operation = Operation { state, created_at: created, ..example.operation };
            OperationRecord { operation, published, ..example }
        };
        let cases = [
            (record(State::Accepted, None), 60, Care::Publish),
            (record(State::Accepted, Some(7)), 60, Care::LookAt(7)),
            (record(State::Accepted, Some(7)), 86_400, Care::GiveUp),
            (record(State::Running, None), 60, Care::Leave),
            (record(State::Succeeded, None), 86_400, Care::Leave),
        ];
        for (record, age_s, expected) in cases {
            let now = Timestamp::from_second(age_s).unwrap();
            assert_eq!(care(&record, day, now), expected, "{:?}", record.operation.state);
        }
    }
}
