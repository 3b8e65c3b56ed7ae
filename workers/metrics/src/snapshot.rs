//! The totals of a partition as a checkpoint: a shorter way to fold the slices up to one of them.

use keelson_kit::bus::Bus;
use keelson_kit::checkpoint::{Checkpoint, CheckpointError, Chunk, Snapshot};
use keelson_schemas::codec;
use keelson_schemas::subject::Partition;
use keelson_schemas::totals::ServiceTotals;
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::state::State;
use crate::totals::Totals;

/// The checkpoints of one partition, claimed by its owner.
pub struct Snapshots {
    checkpoint: Checkpoint,
    covered: Covered,
}

/// What a checkpoint covers: nobody has to read it again to know the totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// Up to this sequence of the telemetry stream.
    pub telemetry: u64,
    /// Up to this sequence of the stream of slices.
    pub slices: u64,
}

/// What the head says besides the sequence.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Meta {
    slices_through: u64,
    rejected: u64,
}

impl Snapshots {
    /// Claims the checkpoints of a partition and loads the totals; none when an owner with a higher epoch has them.
    ///
    /// # Errors
    /// The bus is away, or what is there is damaged.
    pub async fn claim(
        bus: &Bus,
        partition: Partition,
        epoch: u64,
    ) -> anyhow::Result<Option<(Self, Totals)>> {
        let name = format!("metrics.{partition}");
        let Some(checkpoint) = unless_fenced(Checkpoint::claim(bus, &name, epoch).await)? else {
            return Ok(None);
        };
        let head = checkpoint.head();
        if head.is_empty() {
            return Ok(Some((Self { checkpoint, covered: Covered::default() }, Totals::default())));
        }
        let meta: Meta = codec::decode(Some(codec::MSGPACK), &head.meta)?;
        let stream = u64::try_from(head.stream_created_ms).unwrap_or_default();
        let chunks = checkpoint.load().await?;
        let chunks: Result<Vec<_>, _> =
            chunks.iter().map(|chunk| codec::decode(Some(codec::MSGPACK), chunk)).collect();
        let totals = Totals::restore(stream, head.sequence, meta.rejected, chunks?);
        let covered = Covered { telemetry: head.sequence, slices: meta.slices_through };
        Ok(Some((Self { checkpoint, covered }, totals)))
    }

    /// Keeps the totals, which hold every slice up to `slices_through`; false when another owner has claimed them.
    ///
    /// # Errors
    /// The bus is away or refuses. What was kept before still is.
    pub async fn save(&mut self, state: &State, slices_through: u64) -> anyhow::Result<bool> {
        let (snapshot, covered) = state.totals(|totals| snapshot(totals, slices_through))?;
        if unless_fenced(self.checkpoint.save(snapshot).await)?.is_none() {
            return Ok(false);
        }
        state.totals(Totals::checkpointed);
        self.covered = covered;
        Ok(true)
    }

    /// Notes that the sequences of the last checkpoint are those of another stream.
    pub fn covers_no_telemetry(&mut self) {
        self.covered.telemetry = 0;
    }

    /// What the last checkpoint covers.
    #[must_use]
    pub fn covered(&self) -> Covered {
        self.covered
    }
}

fn snapshot(totals: &Totals, slices_through: u64) -> Result<(Snapshot, Covered), codec::EncodeError> {
    let chunks: Result<Vec<Chunk>, codec::EncodeError> = totals.chunks().into_iter().map(chunk).collect();
    let snapshot = Snapshot {
        sequence: totals.through(),
        stream_created_ms: i64::try_from(totals.stream()).unwrap_or(i64::MAX),
        meta: codec::encode(&Meta { slices_through, rejected: totals.rejected() })?.into(),
        chunks: chunks?,
    };
    Ok((snapshot, Covered { telemetry: totals.through(), slices: slices_through }))
}

fn chunk(content: Option<ServiceTotals>) -> Result<Chunk, codec::EncodeError> {
    match content {
        Some(content) => Ok(Chunk::Bytes(codec::encode(&content)?.into())),
        None => Ok(Chunk::Unchanged),
    }
}

fn unless_fenced<T>(done: Result<T, CheckpointError>) -> Result<Option<T>, CheckpointError> {
    match done {
        Err(CheckpointError::Fenced { name, epoch }) => {
            info!(checkpoint = name, newer.epoch = epoch, "fenced: another owner has the checkpoint");
            Ok(None)
        }
        done => done.map(Some),
    }
}
