//! The head of a checkpoint: all that is known about it without its chunks.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What the last save said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The epoch of the owner.
    pub epoch: u64,
    /// The last sequence that is part of the state; 0 before the first save.
    pub sequence: u64,
    /// When the stream was made that `sequence` counts in, Unix milliseconds; 0 before the first save.
    pub stream_created_ms: i64,
    /// The owner's own.
    pub meta: Bytes,
    /// Counts claims and saves.
    pub(super) saves: u64,
    pub(super) chunks: Vec<ChunkRef>,
}

/// Where a chunk is, and what has to be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChunkRef {
    pub key: String,
    /// BLAKE3, in hexadecimal.
    pub hash: String,
    pub bytes: u64,
}

impl Head {
    /// Whether nothing was ever saved.
    pub fn is_empty(&self) -> bool {
        self.stream_created_ms == 0 && self.sequence == 0 && self.chunks.is_empty()
    }

    /// Bytes of all chunks.
    pub fn size_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    pub(super) fn keys(&self) -> BTreeSet<&str> {
        self.chunks.iter().map(|chunk| chunk.key.as_str()).collect()
    }
}

impl ChunkRef {
    pub fn holds(&self, bytes: &Bytes) -> bool {
        self.bytes == bytes.len() as u64 && self.hash == hash_of(bytes)
    }
}

pub(super) fn hash_of(bytes: &Bytes) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
