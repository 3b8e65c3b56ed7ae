//! Reading the audit trail: what was commanded and what happened, and what became of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keelson_schemas::audit::{AuditEntry, STREAM};
use keelson_schemas::operation::OperationRecord;
use keelson_schemas::{id, subject};
use serde_json::Value;

use crate::bus::{ApiError, Bus};
use crate::dead_letter::timestamp_ms;
use crate::follow::{Follow, FollowError, FollowOptions, Start};
use crate::incoming::Stored;
use crate::kv::KvError;
use crate::operations::{Operations, UNVERIFIED};

/// Says which message of which stream an entry was: `COMMANDS 12 …`.
const SOURCE: &str = "Nats-Stream-Source";
/// The stream of commands.
const COMMANDS: &str = "COMMANDS";

/// Which entries are wanted. All of it has to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those after this sequence.
    pub after: u64,
    /// Those that were stored then or later, Unix milliseconds.
    pub since_ms: Option<u64>,
    /// Those that were stored before.
    pub until_ms: Option<u64>,
    /// Those on this subject, perhaps with wildcards.
    pub subject: Option<String>,
    /// Those that somebody asked for.
    pub actor: Option<String>,
    /// The command of an operation.
    pub operation: Option<String>,
    /// Those of a trace.
    pub trace: Option<String>,
}

/// Entries in their order, up to what was the last one when reading began.
pub struct Trail {
    entries: Follow,
    reader: Reader,
    wanted: Wanted,
    last: u64,
}

/// Why the trail cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// The stream cannot be read.
    #[error(transparent)]
    Entries(#[from] FollowError),
    /// What became of a command cannot be told.
    #[error(transparent)]
    Operations(#[from] KvError),
}

/// Makes entries of messages.
struct Reader {
    operations: Operations,
    commands_made_ms: i64,
}

impl Bus {
    /// Reads the audit trail.
    ///
    /// # Errors
    /// The bus is away.
    pub async fn audit(&self, wanted: Wanted) -> Result<Trail, ApiError> {
        let start = match wanted.since_ms {
            Some(since_ms) if wanted.after == 0 => Start::Since(since_ms),
            _ => Start::After(wanted.after),
        };
        let filter = wanted.subject.clone().unwrap_or_else(|| ">".to_owned());
        let last = self.stream_info(STREAM).await?.last_sequence;
        let commands_made_ms = self.stream_info(COMMANDS).await?.created_ms;
        let entries = self.follow(FollowOptions::new(STREAM, filter, start));
        let reader = Reader { operations: self.operations(), commands_made_ms };
        Ok(Trail { entries, reader, wanted, last })
    }
}

impl Trail {
    /// The next entry that is wanted; none when there are no more.
    ///
    /// # Errors
    /// The stream cannot be read on, or nobody can tell what became of an entry.
    pub async fn next(&mut self) -> Result<Option<AuditEntry>, TrailError> {
        // A reader that begins behind the end would take the stream for another one.
        if self.wanted.after >= self.last {
            return Ok(None);
        }
        while let Some(stored) = self.entries.next_if_any().await? {
            let is_over = self.wanted.until_ms.is_some_and(|until_ms| stored.time_ms >= until_ms);
            if is_over || stored.sequence > self.last {
                return Ok(None);
            }
            if self.wanted.since_ms.is_some_and(|since_ms| stored.time_ms < since_ms) {
                continue;
            }
            let entry = self.reader.entry(&stored).await?;
            if self.wanted.takes(&entry) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

impl Reader {
    async fn entry(&self, stored: &Stored) -> Result<AuditEntry, KvError> {
        let envelope = stored.headers.envelope();
        let operation =
            subject::parse_cmd(stored.subject()).map(|_| self.operation(stored, envelope.id.as_deref()));
        let record = match &operation {
            Some(id) => match self.operations.record(id).await {
                Err(error @ KvError::Unavailable(_)) => return Err(error),
                // An id can be anything: what is no key, or is the key of something else, has no record.
                found => found.ok().flatten().map(|entry| entry.value),
            },
            None => None,
        };
        // An id can be said by anybody: the record tells which message is the operation's own.
        let record = record.filter(|record| is_of(record, stored));
        Ok(AuditEntry {
            sequence: stored.sequence,
            at: timestamp_ms(stored.time_ms),
            subject: stored.subject().to_owned(),
            actor: record.as_ref().map_or(UNVERIFIED, |record| &record.operation.requested_by).to_owned(),
            source: envelope.source,
            id: envelope.id,
            operation,
            trace: envelope.trace.traceparent.as_deref().and_then(trace_of),
            outcome: record.as_ref().map(|record| record.operation.state),
            error: record.and_then(|record| record.operation.error),
            message_type: envelope.message_type,
            body: body(stored),
        })
    }

    /// The operation that a command is: its message's id, or, published by hand, what follows from its place.
    fn operation(&self, stored: &Stored, id: Option<&str>) -> String {
        let by_hand = || id::operation_by_hand(self.commands_made_ms, source(stored).unwrap_or_default());
        id.map_or_else(by_hand, str::to_owned)
    }
}

impl Wanted {
    fn takes(&self, entry: &AuditEntry) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        is(&self.actor, Some(&entry.actor))
            && is(&self.operation, entry.operation.as_deref())
            && is(&self.trace, entry.trace.as_deref())
    }
}

fn is_of(record: &OperationRecord, stored: &Stored) -> bool {
    let Some(sequence) = source(stored) else { return false };
    let carried = record.carrier.as_deref().and_then(|carrier| carrier.split_once('@'));
    record.subject == stored.subject()
        && (record.published == Some(sequence)
            || carried.is_some_and(|(carrier, _)| carrier == sequence.to_string()))
}

/// The sequence of an entry in the stream that it comes from.
fn source(stored: &Stored) -> Option<u64> {
    stored.headers.get(SOURCE)?.split(' ').nth(1)?.parse().ok()
}

fn trace_of(traceparent: &str) -> Option<String> {
    traceparent.split('-').nth(1).map(str::to_owned)
}

fn body(stored: &Stored) -> Value {
    stored.decode().unwrap_or_else(|_| Value::String(STANDARD.encode(&stored.payload)))
}
