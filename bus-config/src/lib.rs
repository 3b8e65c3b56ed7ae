//! The only truth about the bus: its streams, buckets and durable consumers as data, and the server's configuration.
//!
//! The reasons stand beside the values, in `streams.toml`, `buckets.toml`, `consumers.toml` and `nats-server.conf`. Nothing
//! here talks to a server; `keelson bus plan` and `keelson bus apply` (in the kit) do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The server's configuration for one machine, to be given with `-c`.
pub const NATS_SERVER_CONF: &str = include_str!("../nats-server.conf");

/// Everything that has to exist on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusConfig {
    /// The streams, each after those that it copies from.
    pub streams: Vec<StreamSpec>,
    /// The key-value buckets.
    pub buckets: Vec<BucketSpec>,
    /// The durable consumers.
    pub consumers: Vec<ConsumerSpec>,
}

/// One stream; its fields are argued in `streams.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// Its name.
    pub name: String,
    /// What it holds, for people.
    pub description: String,
    /// What it captures; empty when it only copies.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// The streams it copies.
    #[serde(default)]
    pub sources: Vec<String>,
    /// What a full stream does.
    pub discard: Discard,
    /// Seconds after which a message is forgotten; 0 is never.
    pub max_age_s: u64,
    /// Bytes on disk at which it is full.
    pub max_bytes: u64,
    /// The largest message; unset is the bus's own limit.
    #[serde(default)]
    pub max_message_bytes: Option<u32>,
    /// Seconds within which a message id that was seen before is not stored again.
    pub duplicate_window_s: u64,
    /// Whether single messages can not be deleted.
    #[serde(default)]
    pub deny_delete: bool,
    /// Whether it can not be purged.
    #[serde(default)]
    pub deny_purge: bool,
}

/// What a full stream does with the next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Discard {
    /// Refuses it.
    New,
    /// Forgets the oldest to make room.
    Old,
}

/// One key-value bucket; its fields are argued in `buckets.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketSpec {
    /// Its name.
    pub name: String,
    /// What it holds, for people.
    pub description: String,
    /// How many values of a key are kept.
    pub history: u8,
    /// Seconds after which an unchanged key is forgotten; 0 is never.
    pub ttl_s: u64,
    /// The largest value.
    pub max_value_bytes: u32,
    /// Bytes on disk at which it is full.
    pub max_bytes: u64,
}

/// One durable consumer; its fields are argued in `consumers.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumerSpec {
    /// Its durable name.
    pub name: String,
    /// The stream it reads.
    pub stream: String,
    /// What it is for, for people.
    pub description: String,
    /// What it reads of the stream; empty is everything.
    pub filter_subjects: Vec<String>,
    /// Seconds without an acknowledgement or progress after which a message is delivered again.
    pub ack_wait_s: u64,
    /// Deliveries after which the server gives a message up; -1 is never.
    pub max_deliver: i64,
    /// Messages that may be under way at once.
    pub max_ack_pending: u32,
}

impl StreamSpec {
    /// `max_age_s` as a duration; zero is never.
    pub fn max_age(&self) -> Duration {
        Duration::from_secs(self.max_age_s)
    }

    /// `duplicate_window_s` as a duration.
    pub fn duplicate_window(&self) -> Duration {
        Duration::from_secs(self.duplicate_window_s)
    }
}

impl BucketSpec {
    /// `ttl_s` as a duration; zero is never.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_s)
    }
}

impl ConsumerSpec {
    /// `ack_wait_s` as a duration.
    pub fn ack_wait(&self) -> Duration {
        Duration::from_secs(self.ack_wait_s)
    }
}

/// The data does not parse; a test of this crate sees to it that this never ships.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {error}")]
pub struct BadData {
    file: &'static str,
    error: toml::de::Error,
}

impl BusConfig {
    /// The data compiled into this executable.
    ///
    /// # Errors
    /// When it does not parse, which the tests of this crate rule out.
    pub fn load() -> Result<Self, BadData> {
        #[derive(Deserialize)]
        struct Streams {
            stream: Vec<StreamSpec>,
        }
        #[derive(Deserialize)]
        struct Buckets {
            bucket: Vec<BucketSpec>,
        }
        #[derive(Deserialize)]
        struct Consumers {
            consumer: Vec<ConsumerSpec>,
        }
        Ok(Self {
            streams: parse::<Streams>("streams.toml", include_str!("../streams.toml"))?.stream,
            buckets: parse::<Buckets>("buckets.toml", include_str!("../buckets.toml"))?.bucket,
            consumers: parse::<Consumers>("consumers.toml", include_str!("../consumers.toml"))?.consumer,
        })
    }

    /// The stream of that name.
    pub fn stream(&self, name: &str) -> Option<&StreamSpec> {
        self.streams.iter().find(|stream| stream.name == name)
    }

    /// The bucket of that name.
    pub fn bucket(&self, name: &str) -> Option<&BucketSpec> {
        self.buckets.iter().find(|bucket| bucket.name == name)
    }

    /// The consumer of that name.
    pub fn consumer(&self, name: &str) -> Option<&ConsumerSpec> {
        self.consumers.iter().find(|consumer| consumer.name == name)
    }
}

fn parse<T: serde::de::DeserializeOwned>(file: &'static str, text: &str) -> Result<T, BadData> {
    toml::from_str(text).map_err(|error| BadData { file, error })
}
