//! A journal: messages on one or several subjects that have one order and one writer at a time. Publishing an entry is what commits it.
//!
//! Each entry is published with the sequence that the journal's last one is expected to have, so that of two writers only one can
//! commit what follows an entry. Each carries the epoch of its writer's lease: a writer that was replaced without knowing it finds
//! a higher one in its place, and stops.

use std::time::Duration;

use crate::bus::{ApiError, Bus};
use crate::fault;
use crate::follow::{Follow, FollowOptions, Start};
use crate::publish::{Outgoing, PublishError};

/// The header with the epoch of the writer's lease.
pub const EPOCH: &str = "Keelson-Epoch";
/// How long one publish is tried before what happened to it is looked up.
const WITHIN: Duration = Duration::from_secs(2);

/// The end of a journal, as its writer knows it.
#[derive(Debug)]
pub struct Journal {
    bus: Bus,
    stream: String,
    filter: String,
    last: u64,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// It stands, at this sequence of the stream.
    Done(u64),
    /// It does not stand, and nobody knows why not: try again.
    Unanswered(String),
    /// The stream takes no more: make room, and try again.
    Full,
    /// What stands there is not what this writer knows (another writer's entry came first, or the stream lost its end): read again.
    Overtaken,
    /// An entry of a writer with a higher epoch stands in its place: stop.
    Fenced {
        /// That writer's epoch.
        epoch: u64,
    },
    /// The bus will never take it.
    Refused(String),
}

impl Journal {
    /// The journal of everything on `filter`, of which the entries up to the sequence `read` are known.
    pub fn after(bus: &Bus, stream: &str, filter: impl Into<String>, read: u64) -> Self {
        Self { bus: bus.clone(), stream: stream.to_owned(), filter: filter.into(), last: read }
    }

    /// The sequence of the last entry known; zero before the first.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The sequence of the last entry there is; zero when there is none.
    ///
    /// # Errors
    /// The bus is away.
    pub async fn end(&self) -> Result<u64, ApiError> {
        Ok(self.bus.last_message(&self.stream, &self.filter).await?.map_or(0, |last| last.sequence))
    }

    /// Reads the entries after the last one known.
    pub fn follow(&self) -> Follow {
        self.bus.follow(FollowOptions::new(&self.stream, &self.filter, Start::After(self.last)))
    }

    /// Notes that the entry at a sequence was read.
    pub fn read(&mut self, sequence: u64) {
        self.last = sequence;
    }

    /// Publishes an entry behind the last one known, under the epoch of the writer's lease. After [`Commit::Unanswered`] the same entry is
    /// committed again, before any other.
    pub async fn commit(&mut self, entry: Outgoing, epoch: u64) -> Commit {
        let mut entry = entry.header(EPOCH, epoch.to_string());
        if !fault::disabled("fencing") {
            entry = entry.expecting_among(&self.filter, self.last);
        }
        match self.bus.publish_within(&entry, WITHIN).await {
            Ok(receipt) if !receipt.duplicate => self.done(receipt.sequence),
            // Under this id something was stored before; whether it is there still is another question.
            Ok(receipt) => {
                let error =
                    PublishError::Unavailable(format!("it was stored before, at {}", receipt.sequence));
                self.look_up(&entry, epoch, &error).await
            }
            Err(error @ (PublishError::WrongLastSequence { .. } | PublishError::Unavailable(_))) => {
                self.look_up(&entry, epoch, &error).await
            }
            Err(PublishError::Full(_)) => Commit::Full,
            Err(error) => Commit::Refused(error.to_string()),
        }
    }

    /// What stands where the entry was to stand: one's own, if only the answer was lost.
    async fn look_up(&mut self, entry: &Outgoing, epoch: u64, error: &PublishError) -> Commit {
        let found = match self.bus.last_message(&self.stream, &self.filter).await {
            Ok(found) => found,
            Err(error) => return Commit::Unanswered(error.to_string()),
        };
        let end = found.as_ref().map_or(0, |found| found.sequence);
        let Some(found) = found.filter(|_| end > self.last) else {
            return if end == self.last { Commit::Unanswered(error.to_string()) } else { Commit::Overtaken };
        };
        let written_under = found.headers.get(EPOCH).and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        if written_under > epoch {
            return Commit::Fenced { epoch: written_under };
        }
        if found.headers.message_id() == Some(&entry.id) {
            return self.done(found.sequence);
        }
        Commit::Overtaken
    }

    fn done(&mut self, sequence: u64) -> Commit {
        self.last = sequence;
        Commit::Done(sequence)
    }
}
