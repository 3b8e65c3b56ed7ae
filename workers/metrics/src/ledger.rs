//! The slices of one partition on the bus, where a slice is published and thereby committed: a journal whose writer is the partition's owner.

use keelson_kit::bus::{ApiError, Bus};
use keelson_kit::fault;
use keelson_kit::follow::{Follow, FollowOptions, Start};
use keelson_kit::journal::{Commit, Journal};
use keelson_kit::publish::Outgoing;
use keelson_schemas::codec::{self, EncodeError};
use keelson_schemas::message::Message;
use keelson_schemas::slice::Slice;
use keelson_schemas::{id, subject};
use tracing::warn;

/// The stream that holds the slices.
pub const STREAM: &str = "SLICES";

/// The slices of a partition, as its owner knows them.
#[derive(Debug)]
pub struct Ledger {
    journal: Journal,
    subject: String,
}

impl Ledger {
    /// The slices of a partition, up to the one at the sequence `covered` of the stream, which a checkpoint covers. If the stream ends before it (it was made
    /// anew, or lost its end with the machine's power) then up to its end: the checkpoint's totals stand.
    ///
    /// # Errors
    /// The bus is away.
    pub async fn open(bus: &Bus, partition: subject::Partition, covered: u64) -> Result<Self, ApiError> {
        let subject = subject::slice(partition);
        let mut journal = Journal::after(bus, STREAM, &subject, covered);
        let end = journal.end().await?;
        if end < covered {
            warn!(%partition, covered, end, "slices that the checkpoint covers are gone; its totals stand");
            journal.read(end);
        }
        Ok(Self { journal, subject })
    }

    /// The stream's sequence of the last slice known.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.journal.last()
    }

    /// Reads the slices after the last one known.
    #[must_use]
    pub fn follow(&self) -> Follow {
        self.journal.follow()
    }

    /// Notes that the slice at a sequence of the stream was read.
    pub fn read(&mut self, sequence: u64) {
        self.journal.read(sequence);
    }

    /// Publishes a slice behind the last one known.
    pub async fn commit(&mut self, slice: &Slice) -> Commit {
        let outgoing = match self.outgoing(slice) {
            Ok(outgoing) => outgoing,
            Err(error) => return Commit::Refused(error.to_string()),
        };
        fault::point("slice.publishing");
        let commit = self.journal.commit(outgoing, slice.epoch).await;
        if let Commit::Done(_) = commit {
            fault::point("slice.published");
        }
        commit
    }

    fn outgoing(&self, slice: &Slice) -> Result<Outgoing, EncodeError> {
        let parts = [slice.stream, slice.epoch, slice.after, slice.through].map(|part| part.to_string());
        let parts: Vec<&str> =
            std::iter::once(self.subject.as_str()).chain(parts.iter().map(String::as_str)).collect();
        Ok(Outgoing::new(&self.subject, id::derive("slice", &parts), Slice::TYPE, codec::encode(slice)?))
    }
}

/// Reads the slices of a partition from a point in time.
#[must_use]
pub fn follow_since(bus: &Bus, partition: subject::Partition, unix_ms: u64) -> Follow {
    bus.follow(FollowOptions::new(STREAM, subject::slice(partition), Start::Since(unix_ms)))
}
