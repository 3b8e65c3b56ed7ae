//! The server's own word that it has given a message up: it becomes a dead letter like any other, under the same id, so that
//! nothing that a worker has buried is buried twice.

use bytes::Bytes;
use keelson_schemas::dead_letter::DeadLetter;
use keelson_schemas::operation::State;
use serde::Deserialize;

use crate::bus::Bus;
use crate::command::operation_id;
use crate::consume::{BURIED, Delivery, Handler};
use crate::dead_letter::{self, timestamp_ms};
use crate::failure::Failure;
use crate::incoming::Stored;

/// The durable consumer of advisories in bus-config.
pub(super) const CONSUMER: &str = "steward-advisories";
const COMMANDS: &str = "COMMANDS";

/// `io.nats.jetstream.advisory.v1.max_deliver` and `…terminated`, as far as they matter here.
#[derive(Debug, Deserialize)]
struct Advisory {
    stream: String,
    consumer: String,
    stream_seq: u64,
    #[serde(default)]
    deliveries: u32,
    /// Of a termination: what the one who terminated said.
    #[serde(default)]
    reason: Option<String>,
    #[serde(rename = "type")]
    kind: String,
}

/// Turns advisories into dead letters.
pub(super) struct Collector {
    bus: Bus,
}

impl Collector {
    pub(super) fn new(bus: &Bus) -> Self {
        Self { bus: bus.clone() }
    }

    /// What a command's operation ends with, when nobody can obey it any more.
    async fn end_operation(&self, message: &Stored, reason: &str) -> Result<(), Failure> {
        let id = operation_id(&self.bus, COMMANDS, message).await?;
        Ok(self.bus.operations().finish(&id, State::Failed, Err(reason.to_owned())).await?)
    }
}

impl Handler for Collector {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let advisory: Advisory = serde_json::from_slice(&delivery.message.payload)
            .map_err(|error| Failure::reject(format!("it is no advisory: {error}")))?;
        if is_buried(&advisory) {
            return Ok(());
        }
        let message = self.bus.message(&advisory.stream, advisory.stream_seq).await?;
        let letter = letter(&self.bus, &advisory, message.as_ref(), delivery);
        dead_letter::store(&self.bus, &letter).await?;
        match message {
            Some(message) if advisory.stream == COMMANDS => {
                self.end_operation(&message, &letter.reason).await
            }
            _ => Ok(()),
        }
    }
}

/// Whether a worker stored the dead letter before it terminated the message. Looked at besides the equal ids, since an advisory
/// may be read long after the duplicate window.
fn is_buried(advisory: &Advisory) -> bool {
    advisory.reason.as_deref() == Some(BURIED)
}

/// The dead letter, without a body when the stream no longer has the message.
fn letter(bus: &Bus, advisory: &Advisory, message: Option<&Stored>, told_by: &Delivery) -> DeadLetter {
    DeadLetter {
        stream: advisory.stream.clone(),
        consumer: advisory.consumer.clone(),
        sequence: advisory.stream_seq,
        subject: message.map(|message| message.subject().to_owned()).unwrap_or_default(),
        headers: message.map(|message| message.headers.to_vec()).unwrap_or_default(),
        payload: message.map_or_else(Bytes::new, |message| message.payload.clone()),
        truncated: message.is_none(),
        reason: reason(advisory),
        attempts: advisory.deliveries,
        stored_at: timestamp_ms(message.unwrap_or(&told_by.message).time_ms),
        failed_at: bus.timestamp(),
    }
}

fn reason(advisory: &Advisory) -> String {
    let said = advisory.reason.as_deref().filter(|said| !said.is_empty());
    match said {
        Some(said) => format!("terminated: {said}"),
        None if advisory.kind.ends_with("terminated") => "terminated without a reason".to_owned(),
        None => format!("delivered {} times and never acknowledged", advisory.deliveries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_buried_is_not_buried_again() {
        let advisory = |reason: Option<&str>| Advisory {
            stream: "S".into(),
            consumer: "c".into(),
            stream_seq: 7,
            deliveries: 1,
            reason: reason.map(str::to_owned),
            kind: "terminated".into(),
        };
        assert!(is_buried(&advisory(Some(BURIED))));
        assert!(!is_buried(&advisory(Some("by hand"))) && !is_buried(&advisory(None)));
    }

    #[test]
    fn advisories_say_why_in_words() {
        let cases = [
            (
                r#"{"type":"io.nats.jetstream.advisory.v1.max_deliver","stream":"S","consumer":"c","stream_seq":7,"deliveries":60}"#,
                "delivered 60 times",
            ),
            (
                r#"{"type":"io.nats.jetstream.advisory.v1.terminated","stream":"S","consumer":"c","stream_seq":7,"deliveries":1,"reason":"no"}"#,
                "terminated: no",
            ),
            (
                r#"{"type":"io.nats.jetstream.advisory.v1.terminated","stream":"S","consumer":"c","stream_seq":7,"deliveries":1}"#,
                "without a reason",
            ),
        ];
        for (json, says) in cases {
            let said = reason(&serde_json::from_str(json).unwrap());
            assert!(said.contains(says), "{said}");
        }
    }
}
