//! What the owner of a partition knows, shared between the task that counts and those that answer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use keelson_schemas::slice::Slice;
use keelson_schemas::totals::{PartitionSummary, PartitionTotals};

use crate::totals::{Gap, Totals};
use crate::windows::Windows;

/// The state of one partition. Everything in it comes from slices that stand on the bus.
#[derive(Debug, Default)]
pub struct State(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    totals: Totals,
    windows: Windows,
    /// Whether the windows hold the slices from before this owner, too.
    windows_are_whole: bool,
    readiness: Readiness,
    /// How often the state began anew.
    generation: u64,
}

/// Whether what was stored when this owner took over is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// It is not known yet what there is.
    #[default]
    Unknown,
    /// Once the totals reach this sequence of this making of the stream.
    At {
        /// The making of the stream.
        stream: u64,
        /// The last sequence that was stored.
        sequence: u64,
    },
    /// There was nothing to count.
    Ready,
}

impl State {
    /// Begins anew with totals that were read back; answers the number of this beginning.
    pub fn replace(&self, totals: Totals) -> u64 {
        let mut inner = self.lock();
        let generation = inner.generation + 1;
        *inner = Inner { totals, generation, ..Inner::default() };
        generation
    }

    /// Says when the totals may be told.
    pub fn ready(&self, readiness: Readiness) {
        self.lock().readiness = readiness;
    }

    /// Adds a slice at the Unix second `now`.
    ///
    /// # Errors
    /// It leaves a gap.
    pub fn apply(&self, slice: &Slice, now: u64) -> Result<bool, Gap> {
        let mut inner = self.lock();
        let is_new = inner.totals.apply(slice)?;
        if is_new {
            inner.windows.apply(slice, now);
        }
        Ok(is_new)
    }

    /// Adds the windows of the slices that the checkpoint covered at a beginning; passed over if the state has begun anew since.
    pub fn complete_windows(&self, generation: u64, older: Windows) {
        let mut inner = self.lock();
        if inner.generation == generation {
            inner.windows.merge(older);
            inner.windows_are_whole = true;
        }
    }

    /// Works with the totals.
    pub fn totals<T>(&self, work: impl FnOnce(&mut Totals) -> T) -> T {
        work(&mut self.lock().totals)
    }

    /// The totals as they are told; none as long as something is not counted that was stored when this owner took over.
    #[must_use]
    pub fn export(&self, partition: u8, epoch: u64) -> Option<PartitionTotals> {
        let inner = self.lock();
        inner.is_ready().then(|| inner.totals.export(partition, epoch))
    }

    /// The totals and windows at the Unix second `now`; none like [`State::export`].
    #[must_use]
    pub fn summary(&self, partition: u8, epoch: u64, now: u64) -> Option<PartitionSummary> {
        let inner = self.lock();
        inner.is_ready().then(|| PartitionSummary {
            windows: inner.windows_are_whole.then(|| inner.windows.told(now)),
            total: inner.totals.export(partition, epoch),
        })
    }

    /// A thread that panicked here left nothing half done: slices are applied after they were checked.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_ready(&self) -> bool {
        match self.readiness {
            Readiness::Unknown => false,
            Readiness::At { stream, sequence } => {
                self.totals.stream() >= stream && self.totals.through() >= sequence
            }
            Readiness::Ready => true,
        }
    }
}
