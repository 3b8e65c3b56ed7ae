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
    kept: Kept,
}

/// What a successor needs to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// How far it is.
    pub position: Position,
    /// When each bucket of the provider's limits is full again, Unix milliseconds: what was sent counts for whoever sends next.
    pub full_at_ms: Vec<u64>,
}

/// As it is written: the distances between the messages that are not done, mostly a byte each.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Written {
    read: u64,
    open: Vec<u64>,
    #[serde(default)]
    full_at_ms: Vec<u64>,
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
            false => Kept::default(),
        };
        Ok(Some(Self { checkpoint, stream_created_ms, kept }))
    }

    /// What is kept; the beginning when nothing is.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// As far as a successor reads it back: when there is much that is not done, less than what was kept.
    #[must_use]
    pub fn read_back(&self) -> Position {
        read(&written(&self.kept)).position
    }

    /// Keeps it; false when a newer sender has been there.
    ///
    /// # Errors
    /// The bus is away. What was kept before still is.
    pub async fn keep(&mut self, kept: Kept) -> anyhow::Result<bool> {
        if kept == self.kept {
            return Ok(true);
        }
        let position = &kept.position;
        let snapshot = Snapshot {
            sequence: position.open.first().map_or(position.read, |first| first - 1),
            stream_created_ms: self.stream_created_ms,
            meta: codec::encode(&written(&kept))?.into(),
            chunks: Vec::new(),
        };
        match self.checkpoint.save(snapshot).await {
            Ok(()) => self.kept = kept,
            Err(CheckpointError::Fenced { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }
}

fn written(kept: &Kept) -> Written {
    let Kept { position, full_at_ms } = kept;
    let open = &position.open[..position.open.len().min(MOST_OPEN)];
    let read = match position.open.get(MOST_OPEN) {
        Some(first_not_kept) => first_not_kept - 1,
        None => position.read,
    };
    let before = std::iter::once(&0).chain(open);
    let open = open.iter().zip(before).map(|(sequence, before)| sequence - before).collect();
    Written { read, open, full_at_ms: full_at_ms.clone() }
}

fn read(written: &Written) -> Kept {
    let mut last = 0;
    let mut next = |distance: &u64| {
        last += distance;
        last
    };
    let open = written.open.iter().map(&mut next).collect();
    Kept { position: Position { read: written.read, open }, full_at_ms: written.full_at_ms.clone() }
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
            let kept = Kept { position, full_at_ms: vec![0, more] };
            prop_assert_eq!(read(&written(&kept)), kept);
        }
    }

    #[test]
    fn what_does_not_fit_is_read_again() {
        let open: Vec<u64> = (1..=2 * MOST_OPEN as u64).map(|n| n * 70_000).collect();
        let position = Position { read: u64::MAX / 2, open: open.clone() };
        let kept = written(&Kept { position, full_at_ms: vec![u64::MAX; 2] });
        assert!(codec::encode(&kept).unwrap().len() <= MAX_META_BYTES);
        let left = Position { read: open[MOST_OPEN] - 1, open: open[..MOST_OPEN].to_vec() };
        assert_eq!(read(&kept).position, left);
    }

    /// Before limits were handed on, less was written.
    #[test]
    fn what_was_kept_without_limits_is_read() {
        let old = codec::encode(&serde_json::json!({ "read": 7, "open": [5] })).unwrap();
        let kept = read(&codec::decode(Some(codec::MSGPACK), &old).unwrap());
        assert_eq!(kept, Kept { position: Position { read: 7, open: vec![5] }, full_at_ms: Vec::new() });
    }
}
