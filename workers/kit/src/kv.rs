//! Current state in KV buckets, changed by compare-and-set.
//!
//! A compare-and-set whose ack was lost must not be repeated blindly (it would fail although it succeeded), nor be given up (it may
//! have succeeded). So every write carries an id of its own; the write is repeated under that id, and when it fails the key is
//! read: the id found there tells one's own write from another's.

mod fence;
mod watch;

use std::time::Duration;

use bytes::Bytes;
use keelson_schemas::codec;
use serde::{Serialize, de::DeserializeOwned};

use crate::bus::{ApiError, Bus};
use crate::incoming::Stored;
use crate::publish::{Outgoing, PublishError, Receipt, fresh_id};

pub use watch::{Change, Watch};

/// Marks an entry as deleted, with the value `DEL` or `PURGE`.
const OPERATION: &str = "KV-Operation";
/// How long a write is tried while the bus is away, unless [`Kv::within`] says otherwise.
const WITHIN: Duration = Duration::from_secs(5);

/// A bucket.
#[derive(Debug, Clone)]
pub struct Kv {
    bus: Bus,
    bucket: String,
    within: Duration,
}

/// A value and the revision it was read at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    /// The revision: what [`Kv::update`] expects.
    pub revision: u64,
    /// The value.
    pub value: T,
}

/// Why a bucket could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The bus is away. A write may have been done.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
    /// Somebody else wrote: the key is not at the expected revision.
    #[error("{key} was changed by another (it is at revision {revision})")]
    Conflict {
        /// The key.
        key: String,
        /// Its revision now.
        revision: u64,
    },
    /// What is there is not what was expected to be there.
    #[error("the value of {key} cannot be read: {reason}")]
    Unreadable {
        /// The key.
        key: String,
        /// Why.
        reason: String,
    },
    /// The bus refuses: a value too large, a bucket that is full or missing, a key that is none.
    #[error("{key} cannot be used: {reason}")]
    Refused {
        /// The key.
        key: String,
        /// What the server said.
        reason: String,
    },
}

impl Bus {
    /// A bucket. Whether it exists shows on first use.
    pub fn kv(&self, bucket: impl Into<String>) -> Kv {
        Kv { bus: self.clone(), bucket: bucket.into(), within: WITHIN }
    }
}

impl Kv {
    /// The same bucket; its writes give up after `within`.
    #[must_use]
    pub fn within(&self, within: Duration) -> Self {
        Self { within, ..self.clone() }
    }

    /// The value of a key.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Entry<T>>, KvError> {
        let Some(found) = self.get_bytes(key).await? else { return Ok(None) };
        Ok(Some(Entry { revision: found.revision, value: decode(key, &found.value)? }))
    }

    /// The bytes of a key.
    pub async fn get_bytes(&self, key: &str) -> Result<Option<Entry<Bytes>>, KvError> {
        let found = self.last(key).await?.filter(|last| !is_deleted(last));
        Ok(found.map(|last| Entry { revision: last.sequence, value: last.payload }))
    }

    /// Writes a key that is not there, and gives its revision.
    pub async fn create<T: Serialize>(&self, key: &str, value: &T) -> Result<u64, KvError> {
        self.create_bytes(key, encode(key, value)?).await
    }

    /// [`Kv::create`] with bytes.
    pub async fn create_bytes(&self, key: &str, value: impl Into<Bytes>) -> Result<u64, KvError> {
        let value = value.into();
        let conflict = match self.write(key, self.outgoing(key, value.clone())?.expecting(0)).await {
            Err(conflict @ KvError::Conflict { .. }) => conflict,
            done => return done,
        };
        match self.last(key).await? {
            Some(last) if is_deleted(&last) => {
                self.write(key, self.outgoing(key, value)?.expecting(last.sequence)).await
            }
            _ => Err(conflict),
        }
    }

    /// Writes a key that is at `revision`, and gives its next one.
    pub async fn update<T: Serialize>(&self, key: &str, value: &T, revision: u64) -> Result<u64, KvError> {
        self.update_bytes(key, encode(key, value)?, revision).await
    }

    /// [`Kv::update`] with bytes.
    pub async fn update_bytes(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        revision: u64,
    ) -> Result<u64, KvError> {
        self.write(key, self.outgoing(key, value)?.expecting(revision)).await
    }

    /// Writes a key whatever it is at.
    pub async fn put<T: Serialize>(&self, key: &str, value: &T) -> Result<u64, KvError> {
        self.put_bytes(key, encode(key, value)?).await
    }

    /// [`Kv::put`] with bytes.
    pub async fn put_bytes(&self, key: &str, value: impl Into<Bytes>) -> Result<u64, KvError> {
        self.write(key, self.outgoing(key, value)?).await
    }

    /// Writes a key whatever it is at, only if the key `guard` is at `revision`. Whoever writes the guard last is so the one writer of all keys that it guards: what
    /// others still try fails, also what has been on its way since before.
    ///
    /// # Errors
    /// [`KvError::Conflict`] when the guard was written since.
    pub async fn put_bytes_guarded(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        guard: &str,
        revision: u64,
    ) -> Result<u64, KvError> {
        self.write(key, self.outgoing(key, value)?.expecting_among(&self.subject(guard)?, revision)).await
    }

    /// Deletes a key, only if it is at `revision` when one is given.
    pub async fn delete(&self, key: &str, revision: Option<u64>) -> Result<(), KvError> {
        let mut outgoing = self.outgoing(key, Bytes::new())?.header(OPERATION, "DEL");
        outgoing.expect_last_subject_sequence = revision;
        self.write(key, outgoing).await.map(drop)
    }

    /// Removes a key with all that it was up to a revision: unlike a deletion this leaves nothing behind, and tells nobody who watches. What was written since stays.
    pub async fn purge(&self, key: &str, through: u64) -> Result<u64, KvError> {
        let purged =
            self.bus.purge_subject(&format!("KV_{}", self.bucket), &self.subject(key)?, through).await;
        purged.map_err(|error| unread(key, error))
    }

    /// Every key that matches a filter (`a.*`, `>`), with its bytes, up to `limit` of them, in the order of their writing.
    pub async fn list(&self, filter: &str, limit: usize) -> Result<Vec<(String, Entry<Bytes>)>, KvError> {
        let mut watch = self.watch(filter);
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(change) = watch.next_if_any().await?
        {
            found.extend(change.value.map(|value| (change.key, Entry { revision: change.revision, value })));
        }
        Ok(found)
    }

    fn subject(&self, key: &str) -> Result<String, KvError> {
        let valid = !key.is_empty()
            && !key.starts_with('.')
            && !key.ends_with('.')
            && !key.contains("..")
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-/_=.".contains(&byte));
        let refused = || KvError::Refused { key: key.to_owned(), reason: "it is not a valid key".into() };
        if valid { Ok(format!("$KV.{}.{key}", self.bucket)) } else { Err(refused()) }
    }

    async fn last(&self, key: &str) -> Result<Option<Stored>, KvError> {
        let subject = self.subject(key)?;
        let last = self.bus.last_message(&format!("KV_{}", self.bucket), &subject).await;
        last.map_err(|error| unread(key, error))
    }

    async fn write(&self, key: &str, outgoing: Outgoing) -> Result<u64, KvError> {
        match self.bus.publish_within(&outgoing, self.within).await {
            Ok(Receipt { sequence, .. }) => Ok(sequence),
            Err(error @ (PublishError::WrongLastSequence { .. } | PublishError::Unavailable(_))) => {
                self.read_after(key, &outgoing.id, error).await
            }
            Err(error) => Err(KvError::Refused { key: key.to_owned(), reason: error.to_string() }),
        }
    }

    fn outgoing(&self, key: &str, value: impl Into<Bytes>) -> Result<Outgoing, KvError> {
        let message_type = format!("keelson.kv.{}", self.bucket);
        Ok(Outgoing::new(self.subject(key)?, fresh_id(), &message_type, value))
    }

    /// After a write that failed or went unanswered: success, if what is there is one's own write.
    async fn read_after(&self, key: &str, write_id: &str, error: PublishError) -> Result<u64, KvError> {
        let Some(last) = self.last(key).await? else {
            return Err(failed(key, 0, error));
        };
        if last.headers.message_id() == Some(write_id) {
            return Ok(last.sequence);
        }
        Err(failed(key, last.sequence, error))
    }
}

fn failed(key: &str, revision: u64, error: PublishError) -> KvError {
    match error {
        PublishError::WrongLastSequence { .. } => KvError::Conflict { key: key.to_owned(), revision },
        other => KvError::Unavailable(other.to_string()),
    }
}

fn unread(key: &str, error: ApiError) -> KvError {
    match error {
        ApiError::Unavailable(reason) => KvError::Unavailable(reason),
        other => KvError::Refused { key: key.to_owned(), reason: other.to_string() },
    }
}

fn is_deleted(message: &Stored) -> bool {
    matches!(message.headers.get(OPERATION), Some("DEL" | "PURGE"))
        || message.headers.get("Nats-Marker-Reason").is_some()
}

fn encode<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>, KvError> {
    codec::encode(value).map_err(|error| KvError::Refused { key: key.to_owned(), reason: error.to_string() })
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, KvError> {
    codec::decode(None, value)
        .map_err(|error| KvError::Unreadable { key: key.to_owned(), reason: error.to_string() })
}
