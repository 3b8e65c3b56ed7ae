//! Publishing a dead letter's message again, once whatever it died of is repaired.

use bytes::Bytes;
use keelson_schemas::codec::{self, Format};
use keelson_schemas::dead_letter::{DeadLetter, Redrive};
use keelson_schemas::envelope::{self, Envelope};
use keelson_schemas::subject;
use serde::Serialize;

use crate::bus::Bus;
use crate::command::{Attempt, CommandHandler};
use crate::failure::Failure;
use crate::operations::{Submission, SubmitError};
use crate::publish::Outgoing;

/// Headers that belong to the first publishing and are set anew by the second.
const OF_THE_FIRST: [&str; 9] = [
    envelope::NATS_MSG_ID,
    envelope::CE_ID,
    envelope::CE_TYPE,
    envelope::CE_SOURCE,
    envelope::CE_TIME,
    envelope::CE_SPECVERSION,
    envelope::CONTENT_TYPE,
    envelope::TRACEPARENT,
    envelope::TRACESTATE,
];

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Redriven {
    /// Where it was published again.
    pub subject: String,
    /// The operation that now carries it, if it is a command.
    pub operation: Option<String>,
}

/// Obeys `keelson.cmd.steward.redrive`.
pub(super) struct RedriveHandler {
    bus: Bus,
}

impl RedriveHandler {
    pub(super) fn new(bus: &Bus) -> Self {
        Self { bus: bus.clone() }
    }

    async fn letter(&self, sequence: u64) -> Result<DeadLetter, Failure> {
        let none = || Failure::reject(format!("there is no dead letter with sequence {sequence}"));
        let mut letter = self.bus.dead_letter(sequence).await?.ok_or_else(none)?;
        if letter.truncated {
            letter.payload = self.body_on_its_stream(&letter).await?;
        }
        Ok(letter)
    }

    async fn body_on_its_stream(&self, letter: &DeadLetter) -> Result<Bytes, Failure> {
        let found = self.bus.message(&letter.stream, letter.sequence).await?;
        let same = |time_ms: u64| i64::try_from(time_ms).ok() == Some(letter.stored_at.as_millisecond());
        let body = found.filter(|message| same(message.time_ms)).map(|message| message.payload);
        body.ok_or_else(|| Failure::reject("its body was too large to keep and is no longer on its stream"))
    }

    async fn submit(&self, letter: &DeadLetter, attempt: &Attempt, kind: String) -> Result<String, Failure> {
        let submission = Submission {
            id: attempt.consequence("redrive"),
            kind,
            subject: letter.subject.clone(),
            message_type: envelope_of(letter).message_type.unwrap_or_default(),
            body: letter.payload.clone(),
            requested_by: attempt.requested_by.clone(),
        };
        match self.bus.operations().submit(&submission).await {
            Ok(operation) => Ok(operation.id),
            Err(SubmitError::Unavailable(reason)) => Err(Failure::retry(reason)),
            Err(refused) => Err(Failure::reject(refused)),
        }
    }

    async fn publish(&self, letter: &DeadLetter, attempt: &Attempt) -> Result<(), Failure> {
        let envelope = envelope_of(letter);
        let message_type = envelope.message_type.unwrap_or_default();
        let id = attempt.consequence("redrive");
        let mut outgoing = Outgoing::new(&letter.subject, id, &message_type, letter.payload.clone());
        outgoing.content_type = envelope.content_type.unwrap_or_else(|| sniffed(&letter.payload).to_owned());
        let own = letter.headers.iter().filter(|(name, _)| !is_of_the_first(name));
        outgoing.headers.extend(own.cloned());
        self.bus.publish(&outgoing).await?;
        Ok(())
    }
}

impl CommandHandler for RedriveHandler {
    type Command = Redrive;
    type Outcome = Redriven;

    async fn run(&self, command: Redrive, attempt: &Attempt) -> Result<Redriven, Failure> {
        let letter = self.letter(command.sequence).await?;
        let operation = match subject::parse_cmd(&letter.subject) {
            Some((worker, verb)) => Some(self.submit(&letter, attempt, format!("{worker}.{verb}")).await?),
            None => {
                self.publish(&letter, attempt).await?;
                None
            }
        };
        Ok(Redriven { subject: letter.subject, operation })
    }
}

fn envelope_of(letter: &DeadLetter) -> Envelope {
    Envelope::read(|name| {
        letter.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    })
}

fn is_of_the_first(name: &str) -> bool {
    OF_THE_FIRST.contains(&name) || name.starts_with("Nats-")
}

fn sniffed(body: &[u8]) -> &'static str {
    match codec::format_of(None, body) {
        Ok(Format::Json) => codec::JSON,
        _ => codec::MSGPACK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_first_publishing_are_left_behind() {
        for name in ["Nats-Msg-Id", "Nats-Expected-Last-Sequence", "ce-id", "traceparent"] {
            assert!(is_of_the_first(name), "{name}");
        }
        assert!(!is_of_the_first("x-tenant"));
    }
}
