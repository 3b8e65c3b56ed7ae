//! What a consumer could not take, kept with all that is needed to understand it and to try again.

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::message::{Command, Message};

/// A message that was given up, published to `keelson.dlq.<stream>.<consumer>` before it is terminated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// The stream it lies on.
    pub stream: String,
    /// The consumer that gave it up.
    pub consumer: String,
    /// Its sequence on that stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Its headers, in no particular order.
    pub headers: Vec<(String, String)>,
    /// Its body. Empty, with `truncated` set, when letter and body together would not fit a message or the body is gone.
    #[serde(with = "payload")]
    #[schemars(with = "String")]
    pub payload: Bytes,
    /// Whether `payload` is not the whole body. The stream may still hold it under `sequence`.
    #[serde(default)]
    pub truncated: bool,
    /// Why it was given up, in words.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When the stream took it.
    #[schemars(with = "String")]
    pub stored_at: Timestamp,
    /// When it was given up.
    #[schemars(with = "String")]
    pub failed_at: Timestamp,
}

/// A dead letter and its place on the stream of dead letters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Found {
    /// Its sequence, by which it is shown and redriven.
    pub sequence: u64,
    /// The letter.
    pub letter: DeadLetter,
}

/// Asks for dead letters, oldest first: `keelson.qry.steward.dead-letters`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListDeadLetters {
    /// Only those after this sequence.
    pub after: u64,
    /// At most this many, and at most 1000.
    pub limit: u32,
}

/// The answer: fewer than asked for at the end, or where the next would make it too large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetters {
    /// The letters. To go on, ask for those after the last one's sequence.
    pub letters: Vec<Found>,
}

impl Default for ListDeadLetters {
    fn default() -> Self {
        Self { after: 0, limit: 100 }
    }
}

impl Message for ListDeadLetters {
    const TYPE: &'static str = "keelson.steward.list-dead-letters.v1";

    fn example() -> Self {
        Self { after: 40, limit: 10 }
    }
}

impl Message for DeadLetters {
    const TYPE: &'static str = "keelson.steward.dead-letters.v1";

    fn example() -> Self {
        Self { letters: vec![Found { sequence: 41, letter: DeadLetter::example() }] }
    }
}

/// Asks for a dead letter to be published again on its own subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redrive {
    /// The dead letter's sequence on the DEAD_LETTERS stream, as `keelson dead-letters list` shows it.
    pub sequence: u64,
}

impl Message for DeadLetter {
    const TYPE: &'static str = "keelson.dead-letter.v1";

    fn example() -> Self {
        Self {
            stream: "COMMANDS".into(),
            consumer: "cdn".into(),
            sequence: 7,
            subject: "keelson.cmd.cdn.purge".into(),
            headers: vec![("ce-id".into(), "a1".into())],
            payload: Bytes::from_static(b"{\"urls\":5}"),
            truncated: false,
            reason: "not a valid JSON body: urls: invalid type: integer `5`, expected a sequence".into(),
            attempts: 1,
            stored_at: Timestamp::constant(1_764_000_000, 0),
            failed_at: Timestamp::constant(1_764_000_000, 12_000_000),
        }
    }
}

impl Message for Redrive {
    const TYPE: &'static str = "keelson.steward.redrive.v1";

    fn example() -> Self {
        Self { sequence: 7 }
    }
}

impl Command for Redrive {
    const WORKER: &'static str = "steward";
    const VERB: &'static str = "redrive";
}

/// Bytes on the bus; text in JSON, in base64 after `base64:` where it is not text (or would begin so).
mod payload {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    const PREFIX: &str = "base64:";

    pub fn serialize<S: Serializer>(payload: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return payload.serialize(serializer);
        }
        match std::str::from_utf8(payload) {
            Ok(text) if !text.starts_with(PREFIX) => serializer.serialize_str(text),
            _ => serializer.serialize_str(&format!("{PREFIX}{}", STANDARD.encode(payload))),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        if !deserializer.is_human_readable() {
            return Bytes::deserialize(deserializer);
        }
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix(PREFIX) {
            Some(coded) => STANDARD.decode(coded).map(Bytes::from).map_err(D::Error::custom),
            None => Ok(Bytes::from(text)),
        }
    }

    #[cfg(test)]
    mod tests {
        use crate::dead_letter::DeadLetter;
        use crate::message::Message;

        #[test]
        fn every_payload_survives_both_formats() {
            let payloads: [&'static [u8]; 4] = [b"", b"{\"a\":1}", b"base64:AA==", &[0, 255, 128]];
            for payload in payloads {
                let letter = DeadLetter { payload: payload.into(), ..DeadLetter::example() };
                let json = serde_json::to_string(&letter).unwrap();
                assert_eq!(serde_json::from_str::<DeadLetter>(&json).unwrap(), letter);
                let msgpack = crate::codec::encode(&letter).unwrap();
                assert_eq!(crate::codec::decode::<DeadLetter>(None, &msgpack).unwrap(), letter);
            }
        }
    }
}
