//! How often a message was begun, and how often that ended in a failure: the difference is how often its worker crashed.
//!
//! Kept in the `deliveries` bucket, and only for messages that were delivered more than once or have failed; the many that
//! succeed at once cost nothing. A delivery that was never begun (it lay in a buffer when the process was killed) is not a
//! crash of this message, so what is counted is beginnings, not deliveries. Only the first is taken on trust.

use keelson_bus_config::ConsumerSpec;
use serde::{Deserialize, Serialize};

use crate::bus::Bus;
use crate::incoming::{Position, Stored};
use crate::kv::{Kv, KvError};

const BUCKET: &str = "deliveries";
/// Two workers may write at once when one was thought dead; more than a few rounds of that are not expected.
const CAS_ROUNDS: u32 = 8;

/// The record of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempts {
    /// Attempts begun.
    pub(super) begun: u32,
    /// Attempts that ended in a failure.
    pub(super) failed: u32,
}

impl Attempts {
    /// A message that is tried for the first time.
    pub(super) const FIRST: Self = Self { begun: 1, failed: 0 };

    /// Attempts, before the one now begun, that neither succeeded nor failed.
    pub(super) fn crashes(self) -> u32 {
        self.begun.saturating_sub(1).saturating_sub(self.failed)
    }
}

/// The records of a consumer's messages.
pub(super) struct AttemptLog {
    kv: Kv,
    prefix: String,
}

impl AttemptLog {
    pub(super) fn new(bus: &Bus, spec: &ConsumerSpec) -> Self {
        Self { kv: bus.kv(BUCKET), prefix: format!("{}.{}", spec.stream, spec.name) }
    }

    /// Notes that an attempt begins, and gives what is known with it. The first delivery is not noted.
    pub(super) async fn begin(&self, message: &Stored, position: &Position) -> Result<Attempts, KvError> {
        if position.delivered <= 1 {
            return Ok(Attempts::FIRST);
        }
        self.change(&self.key(message, position), |known| Attempts { begun: known.begun + 1, ..known }).await
    }

    /// Notes that the attempt in `attempts` failed.
    pub(super) async fn failed(&self, message: &Stored, position: &Position) -> Result<(), KvError> {
        let key = self.key(message, position);
        self.change(&key, |known| Attempts { failed: known.failed + 1, ..known }).await.map(drop)
    }

    /// Forgets a message that is done with. Not essential: the bucket forgets by itself.
    pub(super) async fn forget(&self, message: &Stored, position: &Position) {
        if position.delivered > 1 {
            let _ = self.kv.delete(&self.key(message, position), None).await;
        }
    }

    async fn change(&self, key: &str, change: impl Fn(Attempts) -> Attempts) -> Result<Attempts, KvError> {
        let mut round = 0;
        loop {
            round += 1;
            let written = match self.kv.get::<Attempts>(key).await? {
                Some(entry) => {
                    let next = change(entry.value);
                    self.kv.update(key, &next, entry.revision).await.map(|_| next)
                }
                None => {
                    let next = change(Attempts::FIRST);
                    self.kv.create(key, &next).await.map(|_| next)
                }
            };
            match written {
                Err(KvError::Conflict { .. }) if round < CAS_ROUNDS => {}
                done => return done,
            }
        }
    }

    /// The time tells apart messages of streams that were made anew.
    fn key(&self, message: &Stored, position: &Position) -> String {
        format!("{}.{}.{}", self.prefix, message.sequence, position.stored_ns)
    }
}
