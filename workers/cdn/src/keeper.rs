//! Where a sender stands on the stream, kept on the bus under the epoch of its lease.

use keelson_kit::bus::Bus;
use keelson_kit::checkpoint::{Checkpoint, CheckpointError, MAX_META_BYTES, Snapshot};
use keelson_schemas::codec;
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::flow::Position;

/// How many messages that are not done are kept one by one. What is read after the last of them is read again by a successor.
const MOST_OPEN: usize = MAX_META_BYTES / 5 - 16;

/// A position that is kept.
pub struct Keeper {
    checkpoint: Checkpoint,
    stream_created_ms: i64,
    kept: Position,
}

/// As it is written: the distances between the messages that are not done, mostly a byte each.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Written {
    read: u64,
    open: Vec<u64>,
}

impl Keeper {
    /// Takes over what the last sender of a lane kept; None when a newer one has been there.
    ///
    /// # Errors
    /// The bus is away.
    pub async fn open(
        bus: &Bus,
        lane: &str,
        epoch: u64,
        stream_created_ms: i64,
    ) -> anyhow::Result<Option<Self>> {
        let checkpoint = match Checkpoint::claim(bus, &format!("cdn.{lane}"), epoch).await {
            Err(CheckpointError::Fenced { epoch: newer, .. }) => {
                info!(
                    cdn.lane = lane,
                    lease.epoch = epoch,
                    newer.epoch = newer,
                    "fenced: another sender has been there"
                );
                return Ok(None);
            }
            claimed => claimed?,
        };
        let head = checkpoint.head();
        let kept = match head.stream_created_ms == stream_created_ms && !head.meta.is_empty() {
            true => read(&codec::decode(Some(codec::MSGPACK), &head.meta)?),
            false => Position::default(),
        };
        Ok(Some(Self { checkpoint, stream_created_ms, kept }))
    }

    /// What is kept; the beginning when nothing is.
    #[must_use]
    pub fn kept(&self) -> &Position {
        &self.kept
    }

    /// As far as a successor reads it back: when there is much that is not done, less than what was kept.
    #[must_use]
    pub fn read_back(&self) -> Position {
        read(&written(&self.kept))
    }

    /// Keeps a position; false when a newer sender has been there.
    ///
    /// # Errors
    /// The bus is away. What was kept before still is.
    pub async fn keep(&mut self, position: Position) -> anyhow::Result<bool> {
        if position == self.kept {
            return Ok(true);
        }
        let snapshot = Snapshot {
            sequence: position.open.first().map_or(position.read, |first| first - 1),
            stream_created_ms: self.stream_created_ms,
            meta: codec::encode(&written(&position))?.into(),
            chunks: Vec::new(),
        };
        match self.checkpoint.save(snapshot).await {
            Ok(()) => self.kept = position,
            Err(CheckpointError::Fenced { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }
}

fn written(position: &Position) -> Written {
    let kept = &position.open[..position.open.len().min(MOST_OPEN)];
    let read = match position.open.get(MOST_OPEN) {
        Some(first_not_kept) => first_not_kept - 1,
        None => position.read,
    };
    let before = std::iter::once(&0).chain(kept);
    Written { read, open: kept.iter().zip(before).map(|(sequence, before)| sequence - before).collect() }
}

fn read(written: &Written) -> Position {
    let mut last = 0;
    let mut next = |distance: &u64| {
        last += distance;
        last
    };
    Position { read: written.read, open: written.open.iter().map(&mut next).collect() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_is_read_back(open in proptest::collection::btree_set(1..1_000_000_u64, 0..500), more in 0..100_u64) {
            let open: Vec<u64> = open.into_iter().collect();
            let position = Position { read: open.last().copied().unwrap_or_default() + more, open };
            prop_assert_eq!(read(&written(&position)), position);
        }
    }

    #[test]
    fn what_does_not_fit_is_read_again() {
        let open: Vec<u64> = (1..=2 * MOST_OPEN as u64).map(|n| n * 70_000).collect();
        let kept = written(&Position { read: u64::MAX / 2, open: open.clone() });
        assert!(codec::encode(&kept).unwrap().len() <= MAX_META_BYTES);
        assert_eq!(read(&kept), Position { read: open[MOST_OPEN] - 1, open: open[..MOST_OPEN].to_vec() });
    }
}
