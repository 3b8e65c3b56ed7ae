//! How far the notifier has come: the alerts, folded up to a transition that is in every group it belongs to, as a checkpoint.
//!
//! A checkpoint is only a shorter way back. What it covers is not read again, so it waits until the groups that were changed by what it covers are written. A group that is
//! needed no more is let go only when the checkpoint covers what is in it: else its transitions would be read again and notified again.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use keelson_kit::checkpoint::{Checkpoint, CheckpointError, Chunk, Snapshot};
use keelson_schemas::codec;

use super::dispatch::Dispatch;
use super::group::GroupId;

/// The checkpoint's name.
pub const CHECKPOINT: &str = "alerting.notifier";

/// The checkpoint of the active notifier.
pub struct Keeper {
    /// None while it is being saved.
    checkpoint: Option<Checkpoint>,
    /// What is to be saved once these groups are written at least at these versions.
    waiting: Option<(Snapshot, BTreeMap<GroupId, u64>)>,
    covered: u64,
}

/// A checkpoint that was saved, or not.
pub struct Kept {
    checkpoint: Checkpoint,
    sequence: u64,
    result: Result<(), CheckpointError>,
}

impl Keeper {
    /// With the checkpoint that was claimed; it covers everything up to a sequence.
    #[must_use]
    pub fn new(checkpoint: Checkpoint, covered: u64) -> Self {
        Self { checkpoint: Some(checkpoint), waiting: None, covered }
    }

    /// Everything up to this sequence is not read again.
    #[must_use]
    pub fn covered(&self) -> u64 {
        self.covered
    }

    /// Whether there is something to be kept, and nothing is being kept.
    #[must_use]
    pub fn may_begin(&self, dispatch: &Dispatch) -> bool {
        self.checkpoint.is_some() && self.waiting.is_none() && dispatch.alerts().sequence() > self.covered
    }

    /// Begins to keep what is known; `unwritten` are the groups that are not written as they are.
    ///
    /// # Errors
    /// An alert that cannot be encoded: a defect.
    pub fn begin(&mut self, dispatch: &Dispatch, unwritten: BTreeMap<GroupId, u64>) -> anyhow::Result<()> {
        let chunk = |known: Vec<_>| anyhow::Ok(Chunk::Bytes(codec::encode(&known)?.into()));
        let snapshot = Snapshot {
            sequence: dispatch.alerts().sequence(),
            stream_created_ms: i64::try_from(dispatch.stream())?,
            meta: codec::encode(&())?.into(),
            chunks: dispatch.alerts().chunks().into_iter().map(chunk).collect::<Result<_, _>>()?,
        };
        self.waiting = Some((snapshot, unwritten));
        Ok(())
    }

    /// The saving, when nothing has to be waited for any more: `is_written` says whether a group is written at a version, or gone.
    pub fn save(&mut self, is_written: impl Fn(&GroupId, u64) -> bool) -> Option<BoxFuture<'static, Kept>> {
        let (_, groups) = self.waiting.as_mut()?;
        while groups.first_key_value().is_some_and(|(id, version)| is_written(id, *version)) {
            groups.pop_first();
        }
        let (snapshot, _) = self.waiting.take_if(|(_, groups)| groups.is_empty())?;
        let mut checkpoint = self.checkpoint.take()?;
        let saving = async move {
            let sequence = snapshot.sequence;
            let result = checkpoint.save(snapshot).await;
            Kept { checkpoint, sequence, result }
        };
        Some(saving.boxed())
    }

    /// Takes the checkpoint back; an error if it was not saved, which may be tried again unless it is fenced.
    ///
    /// # Errors
    /// Why it was not saved.
    pub fn kept(&mut self, kept: Kept) -> Result<(), CheckpointError> {
        self.checkpoint = Some(kept.checkpoint);
        kept.result.map(|()| self.covered = kept.sequence)
    }
}
