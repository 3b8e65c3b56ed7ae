//! A message as a stream holds it.

use std::borrow::Cow;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use keelson_schemas::codec::{self, DecodeError};
use keelson_schemas::envelope::{CONTENT_TYPE, Envelope, NATS_MSG_ID};
use serde::de::DeserializeOwned;

/// The headers of a message, read where they lie.
#[derive(Debug, Clone, Default)]
pub struct Headers(Option<HeaderMap>);

impl Headers {
    pub(crate) fn new(headers: Option<HeaderMap>) -> Self {
        Self(headers)
    }

    /// The first value of a header, by its exact name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.as_ref()?.get(name).map(async_nats::HeaderValue::as_str)
    }

    /// The message id.
    pub fn message_id(&self) -> Option<&str> {
        self.get(NATS_MSG_ID)
    }

    /// What the message says about itself.
    pub fn envelope(&self) -> Envelope {
        Envelope::read(|name| self.get(name))
    }

    /// Every header and value.
    pub fn to_vec(&self) -> Vec<(String, String)> {
        let all = self.0.iter().flat_map(HeaderMap::iter);
        all.flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.to_string())))
            .collect()
    }
}

/// A message of a stream.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its place in the stream.
    pub sequence: u64,
    /// When the stream took it, Unix milliseconds by the server's clock.
    pub time_ms: u64,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub payload: Bytes,
    pub(crate) subject: Subject,
}

impl Stored {
    /// Its subject.
    pub fn subject(&self) -> &str {
        self.subject.as_str()
    }

    /// Reads its body, by its content type or else its first byte.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        codec::decode(self.headers.get(CONTENT_TYPE), &self.payload)
    }

    /// The body as text, for people.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.payload)
    }
}

impl From<async_nats::jetstream::message::StreamMessage> for Stored {
    fn from(message: async_nats::jetstream::message::StreamMessage) -> Self {
        let time_ms = message.time.unix_timestamp_nanos() / 1_000_000;
        Self {
            sequence: message.sequence,
            time_ms: u64::try_from(time_ms).unwrap_or_default(),
            headers: Headers::new(Some(message.headers)),
            payload: message.payload,
            subject: message.subject,
        }
    }
}

/// What the reply subject of a delivered message says about the delivery:
/// `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<ns>.<pending>`, with `<domain>.<account>` before the
/// stream, and perhaps more behind, in the longer form (ADR-15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// How often the message was delivered, this time included.
    pub delivered: u32,
    /// Its sequence on the stream.
    pub sequence: u64,
    /// The number of this delivery on its consumer.
    pub consumer_sequence: u64,
    /// When the stream took it, Unix nanoseconds.
    pub stored_ns: u64,
    /// How many messages wait behind it.
    pub pending: u64,
}

impl Position {
    /// Reads the reply subject of a delivery.
    pub(crate) fn read(reply: &str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let before_numbers = if rest.bytes().filter(|byte| *byte == b'.').count() >= 8 { 4 } else { 2 };
        let mut tokens = rest.split('.').skip(before_numbers);
        let mut number = || tokens.next()?.parse::<u64>().ok();
        Some(Self {
            delivered: u32::try_from(number()?).unwrap_or(u32::MAX),
            sequence: number()?,
            consumer_sequence: number()?,
            stored_ns: number()?,
            pending: number()?,
        })
    }

    /// When the stream took the message, Unix milliseconds.
    pub(crate) fn stored_ms(&self) -> u64 {
        self.stored_ns / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_reply_subject_are_read() {
        let position = Position {
            delivered: 3,
            sequence: 100,
            consumer_sequence: 7,
            stored_ns: 1_790_230_470_084_404_000,
            pending: 42,
        };
        let numbers = "3.100.7.1790230470084404000.42";
        let good = [
            format!("$JS.ACK.EVENTS.durable.{numbers}"),
            format!("$JS.ACK._.szMpdrwD.EVENTS.durable.{numbers}"),
            format!("$JS.ACK.hub.szMpdrwD.EVENTS.durable.{numbers}.token"),
        ];
        for reply in good {
            assert_eq!(Position::read(&reply), Some(position), "{reply}");
        }
        assert_eq!(position.stored_ms(), 1_790_230_470_084);
    }

    #[test]
    fn what_is_no_delivery_has_no_position() {
        for reply in ["", "_INBOX.x", "$JS.ACK.S.C.1.2.3", "$JS.ACK.S.C.1.2.x.4.5", "$JS.FC.S.C.1.2.3.4.5"] {
            assert_eq!(Position::read(reply), None, "{reply}");
        }
    }
}
