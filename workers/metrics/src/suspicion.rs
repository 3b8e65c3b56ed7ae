//! Finds the message that crashes the worker, so that it can be passed over.
//!
//! Telemetry has no acks, so the server does not count deliveries. What is kept instead, a partition: where the owner began to count and how often in a row one
//! began there. An owner that begins at the same place for the third time goes on carefully through what is stored by then, one message a slice, and marks each
//! before it counts it. A mark that is found again by a successor is a crash of that message; the third one convicts it. An owner that is killed for other reasons loses nothing but speed.

use keelson_kit::bus::Bus;
use keelson_kit::kv::{Kv, KvError};
use keelson_schemas::subject::Partition;
use serde::{Deserialize, Serialize};

/// Short-lived facts about deliveries are kept with those of the other consumers.
const BUCKET: &str = "deliveries";
/// How often an owner may begin at one place before it goes on carefully.
const STARTS_BEFORE_CARE: u32 = 2;
/// How often a message may crash the worker.
pub const CRASHES: u32 = 3;

/// What successive owners of a partition know of crashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Where the last owner began.
    through: u64,
    /// How many owners in a row began there.
    starts: u32,
    /// The message that was marked before it was counted.
    marked: Option<u64>,
    /// How often that message was found marked by a successor.
    crashes: u32,
    /// The message to pass over.
    convicted: Option<u64>,
    /// Care ends behind this message: what was stored when this owner began.
    #[serde(skip)]
    stored: u64,
}

impl Suspicion {
    /// What is known once another owner begins to count after `through`, with messages up to `stored` there.
    #[must_use]
    pub fn begin(self, through: u64, stored: u64) -> Self {
        let starts = if self.through == through { self.starts.saturating_add(1) } else { 1 };
        let marked = self.marked.filter(|sequence| *sequence > through);
        let crashes = if marked.is_some() { self.crashes + 1 } else { 0 };
        let convicted = self.convicted.filter(|sequence| *sequence > through);
        let convicted = convicted.or(marked.filter(|_| crashes >= CRASHES));
        // A mark stays until its message is counted or another one is marked, so that crashes of one message add up.
        Self { through, starts, marked, crashes, convicted, stored }
    }

    /// Whether the message is counted alone and marked before.
    #[must_use]
    pub fn is_careful(&self, sequence: u64) -> bool {
        sequence <= self.stored && (self.starts > STARTS_BEFORE_CARE || self.marked.is_some())
    }

    /// Whether the message is passed over.
    #[must_use]
    pub fn convicts(&self, sequence: u64) -> bool {
        self.convicted == Some(sequence)
    }

    /// What is to be kept before the message is counted.
    #[must_use]
    pub fn mark(self, sequence: u64) -> Self {
        let crashes = if self.marked == Some(sequence) { self.crashes } else { 0 };
        Self { marked: Some(sequence), crashes, ..self }
    }

    /// What is known once the marked message is counted.
    #[must_use]
    pub fn clear(self) -> Self {
        Self { marked: None, crashes: 0, ..self }
    }
}

/// The suspicion about a partition as it is kept on the bus.
pub struct Kept {
    bucket: Kv,
    key: String,
}

impl Kept {
    /// That of a partition.
    #[must_use]
    pub fn of(bus: &Bus, partition: Partition) -> Self {
        Self { bucket: bus.kv(BUCKET), key: format!("metrics.suspicion.{partition}") }
    }

    /// Notes that another owner begins to count after `through`, with messages up to `stored` there.
    ///
    /// # Errors
    /// The bus is away, or refuses.
    pub async fn begin(&self, through: u64, stored: u64) -> Result<Suspicion, KvError> {
        let kept =
            self.bucket.get::<Suspicion>(&self.key).await?.map(|entry| entry.value).unwrap_or_default();
        self.put(kept.begin(through, stored)).await
    }

    /// Keeps what is known now.
    ///
    /// # Errors
    /// The bus is away, or refuses.
    pub async fn put(&self, suspicion: Suspicion) -> Result<Suspicion, KvError> {
        self.bucket.put(&self.key, &suspicion).await?;
        Ok(suspicion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Owners one after the other over messages `1..=last`; the owner crashes while it counts `poison`. Answers the sequence passed over and how
    /// many crashes it took.
    fn run(last: u64, poison: u64) -> (Option<u64>, u32) {
        let (mut kept, mut committed, mut crashes) = (Suspicion::default(), 0, 0);
        loop {
            kept = kept.begin(committed, last);
            let mut counted = committed;
            while counted < last {
                let next = counted + 1;
                if kept.convicts(next) {
                    return (Some(next), crashes);
                }
                let careful = kept.is_careful(next);
                if careful {
                    kept = kept.mark(next);
                }
                if next == poison {
                    crashes += 1;
                    break;
                }
                counted = next;
                if careful {
                    kept = kept.clear();
                    committed = counted;
                }
            }
            if counted == last {
                return (None, crashes);
            }
            assert!(crashes < 20, "the poison is never found");
        }
    }

    #[test]
    fn the_message_that_crashes_is_found_wherever_it_is_and_no_other() {
        for last in 1..8 {
            for poison in 1..=last {
                let (passed_over, crashes) = run(last, poison);
                assert_eq!(passed_over, Some(poison), "of {last}");
                assert!((CRASHES..=CRASHES + STARTS_BEFORE_CARE).contains(&crashes), "{crashes} crashes");
            }
        }
        assert_eq!(run(5, 99), (None, 0));
    }

    #[test]
    fn an_owner_that_is_killed_between_messages_convicts_nobody() {
        let mut kept = Suspicion::default();
        for _ in 0..50 {
            kept = kept.begin(7, 9);
            kept = kept.mark(8).clear();
        }
        assert!(kept.is_careful(9) && !kept.convicts(8));
        assert!(!kept.is_careful(10), "what is stored later is counted at full speed");
    }

    #[test]
    fn progress_forgets_what_was_suspected() {
        let mut kept = Suspicion::default();
        for _ in 0..2 {
            kept = kept.begin(7, 9).mark(8);
        }
        let later = kept.begin(20, 30);
        assert_eq!(later, Suspicion { through: 20, starts: 1, stored: 30, ..Suspicion::default() });
    }
}
