//! The slices of one partition on the bus, where a slice is published and thereby committed.
//!
//! Each is published with the sequence that the subject's last one is expected to have, so that of two owners only one can commit what follows a slice: an owner that
//! was replaced without knowing it is told so by the server.

use std::time::Duration;

use keelson_kit::bus::{ApiError, Bus};
use keelson_kit::fault;
use keelson_kit::follow::{Follow, FollowOptions, Start};
use keelson_kit::publish::{Outgoing, PublishError};
use keelson_schemas::codec::{self, EncodeError};
use keelson_schemas::message::Message;
use keelson_schemas::slice::Slice;
use keelson_schemas::{id, subject};
use tracing::warn;

/// The stream that holds the slices.
pub const STREAM: &str = "SLICES";
/// How long one publish is tried before what happened to it is looked up.
const WITHIN: Duration = Duration::from_secs(2);

/// The end of a partition's slices, as its owner knows it.
#[derive(Debug)]
pub struct Ledger {
    bus: Bus,
    subject: String,
    /// The stream's sequence of the partition's last slice; zero before the first.
    last: u64,
}

/// What became of a slice.
#[derive(Debug, PartialEq, Eq)]
pub enum Commit {
    /// It stands.
    Done,
    /// It does not stand, and nobody knows why not: try again.
    Unanswered(String),
    /// The stream takes no more: make room, and try again.
    Full,
    /// What stands there is not what this owner knows (another owner's slice came first, or the stream lost its end): read again.
    Overtaken,
    /// A slice of an owner with a higher epoch stands in its place: stop.
    Fenced {
        /// That owner's epoch.
        epoch: u64,
    },
    /// The bus will never take it.
    Refused(String),
}

impl Ledger {
    /// The slices of a partition, up to the one at the sequence `covered` of the stream, which a checkpoint covers. If the stream ends before it (it was made
    /// anew, or lost its end with the machine's power) then up to its end: the checkpoint's totals stand.
    ///
    /// # Errors
    /// The bus is away.
    pub async fn open(bus: &Bus, partition: subject::Partition, covered: u64) -> Result<Self, ApiError> {
        let subject = subject::slice(partition);
        let end = bus.last_message(STREAM, &subject).await?.map_or(0, |last| last.sequence);
        if end < covered {
            warn!(%partition, covered, end, "slices that the checkpoint covers are gone; its totals stand");
        }
        Ok(Self { bus: bus.clone(), subject, last: covered.min(end) })
    }

    /// The stream's sequence of the last slice known.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Reads the slices after the last one known.
    #[must_use]
    pub fn follow(&self) -> Follow {
        self.bus.follow(FollowOptions::new(STREAM, &self.subject, Start::After(self.last)))
    }

    /// Notes that the slice at a sequence of the stream was read.
    pub fn read(&mut self, sequence: u64) {
        self.last = sequence;
    }

    /// Publishes a slice behind the last one known.
    pub async fn commit(&mut self, slice: &Slice) -> Commit {
        let outgoing = match self.outgoing(slice) {
            Ok(outgoing) => outgoing,
            Err(error) => return Commit::Refused(error.to_string()),
        };
        fault::point("slice.publishing");
        match self.bus.publish_within(&outgoing, WITHIN).await {
            Ok(receipt) => {
                fault::point("slice.published");
                self.last = receipt.sequence;
                Commit::Done
            }
            Err(error @ (PublishError::WrongLastSequence { .. } | PublishError::Unavailable(_))) => {
                self.look_up(slice, &error).await
            }
            Err(PublishError::Full(_)) => Commit::Full,
            Err(error) => Commit::Refused(error.to_string()),
        }
    }

    fn outgoing(&self, slice: &Slice) -> Result<Outgoing, EncodeError> {
        let parts = [slice.stream, slice.epoch, slice.after, slice.through].map(|part| part.to_string());
        let parts: Vec<&str> =
            std::iter::once(self.subject.as_str()).chain(parts.iter().map(String::as_str)).collect();
        let outgoing =
            Outgoing::new(&self.subject, id::derive("slice", &parts), Slice::TYPE, codec::encode(slice)?);
        Ok(if fault::disabled("fencing") { outgoing } else { outgoing.expecting(self.last) })
    }

    /// What stands where the slice was to stand: one's own, if only the answer was lost.
    async fn look_up(&mut self, slice: &Slice, error: &PublishError) -> Commit {
        let found = match self.bus.last_message(STREAM, &self.subject).await {
            Ok(found) => found,
            Err(error) => return Commit::Unanswered(error.to_string()),
        };
        let end = found.as_ref().map_or(0, |found| found.sequence);
        let Some(found) = found.filter(|_| end > self.last) else {
            return if end == self.last { Commit::Unanswered(error.to_string()) } else { Commit::Overtaken };
        };
        let Ok(standing) = found.decode::<Slice>() else {
            return Commit::Refused(format!("the slice at {} cannot be read", found.sequence));
        };
        if standing.epoch > slice.epoch {
            return Commit::Fenced { epoch: standing.epoch };
        }
        if (standing.epoch, standing.after, standing.through) == (slice.epoch, slice.after, slice.through) {
            self.last = found.sequence;
            return Commit::Done;
        }
        Commit::Overtaken
    }
}

/// Reads the slices of a partition from a point in time.
#[must_use]
pub fn follow_since(bus: &Bus, partition: subject::Partition, unix_ms: u64) -> Follow {
    bus.follow(FollowOptions::new(STREAM, subject::slice(partition), Start::Since(unix_ms)))
}
