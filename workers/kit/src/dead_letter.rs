//! Storing dead letters.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use keelson_schemas::dead_letter::DeadLetter;
pub use keelson_schemas::dead_letter::Found;
use keelson_schemas::envelope::Envelope;
use keelson_schemas::message::Command;
use keelson_schemas::{codec, id, subject};

use crate::bus::Bus;
use crate::consume::Delivery;
use crate::failure::Failure;
use crate::follow::{FollowError, FollowOptions, Start};
use crate::incoming::Stored;
use crate::publish::{Outgoing, PublishError, Receipt};
use crate::trace;

/// The most that a dead letter's reason says.
const MAX_REASON_BYTES: usize = 4096;

/// The bodies in one list.
const MAX_LISTED_BYTES: usize = 8 << 20;

/// How long one letter is tried to be stored.
const WITHIN: Duration = Duration::from_secs(5);

/// The stream of commands.
const COMMANDS: &str = "COMMANDS";

/// The stream of dead letters.
pub const STREAM: &str = "DEAD_LETTERS";

/// Stores the dead letter of a delivery.
pub(crate) async fn bury(bus: &Bus, delivery: &Delivery, reason: &str) -> Result<Receipt, PublishError> {
    bury_message(bus, &delivery.stream, &delivery.consumer, &delivery.message, reason, delivery.attempt).await
}

/// Stores the dead letter of a message that `consumer`, who reads `stream` without acks, gives up.
///
/// # Errors
/// The letter is not known to be stored; burying again is safe, since its id follows from the message.
pub async fn bury_message(
    bus: &Bus,
    stream: &str,
    consumer: &str,
    message: &Stored,
    reason: &str,
    attempts: u32,
) -> Result<Receipt, PublishError> {
    let letter = DeadLetter {
        stream: stream.to_owned(),
        consumer: consumer.to_owned(),
        sequence: message.sequence,
        subject: message.subject().to_owned(),
        headers: message.headers.to_vec(),
        payload: message.payload.clone(),
        truncated: false,
        reason: shortened(reason),
        attempts,
        stored_at: timestamp_ms(message.time_ms),
        failed_at: bus.timestamp(),
    };
    store(bus, &letter).await
}

/// Stores a dead letter that holds a command which was never published, so that redriving the letter asks for it. `key` names what was given up: a second
/// letter of that name is not stored.
///
/// # Errors
/// The letter is not known to be stored; burying again is safe.
pub async fn bury_command<C: Command>(
    bus: &Bus,
    key: &str,
    command: &C,
    reason: &str,
    attempts: u32,
) -> Result<Receipt, PublishError> {
    let envelope = Envelope {
        message_type: Some(C::TYPE.to_owned()),
        content_type: Some(codec::MSGPACK.to_owned()),
        trace: trace::current(),
        ..Envelope::default()
    };
    let now = bus.timestamp();
    let letter = DeadLetter {
        stream: COMMANDS.to_owned(),
        consumer: C::WORKER.to_owned(),
        sequence: 0,
        subject: subject::command::<C>(),
        headers: envelope.headers().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        payload: codec::encode(command)?.into(),
        truncated: false,
        reason: shortened(reason),
        attempts,
        stored_at: now,
        failed_at: now,
    };
    let id = id::derive("dead-letter-of-command", &[C::WORKER, C::VERB, key]);
    let to = subject::dlq(&letter.stream, &letter.consumer);
    bus.publish_within(&Outgoing::of(&to, &id, &letter)?, WITHIN).await
}

/// Stores a dead letter under the id that everyone derives for its message; without the body, when it does not fit.
pub(crate) async fn store(bus: &Bus, letter: &DeadLetter) -> Result<Receipt, PublishError> {
    let to = subject::dlq(&letter.stream, &letter.consumer);
    let id =
        id::dead_letter(&letter.stream, &letter.consumer, letter.sequence, letter.stored_at.as_millisecond());
    match bus.publish_within(&Outgoing::of(&to, &id, letter)?, WITHIN).await {
        Err(PublishError::TooLarge(_)) if !letter.truncated => {
            let without = DeadLetter { payload: Bytes::new(), truncated: true, ..letter.clone() };
            bus.publish_within(&Outgoing::of(&to, &id, &without)?, WITHIN).await
        }
        stored => stored,
    }
}

impl Bus {
    /// The dead letter with a sequence.
    pub async fn dead_letter(&self, sequence: u64) -> Result<Option<DeadLetter>, Failure> {
        let Some(message) = self.message(STREAM, sequence).await? else { return Ok(None) };
        Ok(Some(message.decode()?))
    }

    /// Up to `limit` dead letters after a sequence, oldest first, and no more after 8 MiB of bodies. What cannot be read as a
    /// dead letter is passed over.
    pub async fn dead_letters(&self, after: u64, limit: usize) -> Result<Vec<Found>, FollowError> {
        let mut letters = self.follow(FollowOptions::new(STREAM, "keelson.dlq.>", Start::After(after)));
        let (mut found, mut bytes) = (Vec::new(), 0);
        while found.len() < limit
            && bytes < MAX_LISTED_BYTES
            && let Some(message) = letters.next_if_any().await?
        {
            bytes += message.payload.len();
            let letter = message.decode().ok();
            found.extend(letter.map(|letter| Found { sequence: message.sequence, letter }));
        }
        Ok(found)
    }
}

/// A time of the server's, which is valid until the year 9999.
pub(crate) fn timestamp_ms(unix_ms: u64) -> Timestamp {
    let unix_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::MAX)
}

fn shortened(reason: &str) -> String {
    let end = reason.floor_char_boundary(MAX_REASON_BYTES);
    reason[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_are_cut_between_characters() {
        assert_eq!(shortened("kurz"), "kurz");
        let long = "ü".repeat(MAX_REASON_BYTES);
        assert!(shortened(&long).len() <= MAX_REASON_BYTES);
    }
}
