//! The partitions that this process owns, for those who answer questions about them.

use std::sync::{Arc, Mutex, PoisonError};

use keelson_kit::lease::Lease;
use keelson_schemas::totals::{PartitionSummary, PartitionTotals};
use rustc_hash::FxHashMap;

use crate::state::State;

/// Partitions with their state and lease.
#[derive(Clone, Debug, Default)]
pub struct Owned(Arc<Mutex<FxHashMap<u8, Held>>>);

#[derive(Clone, Debug)]
struct Held {
    state: Arc<State>,
    lease: Lease,
}

impl Owned {
    /// Notes that a partition is owned from now on.
    pub fn insert(&self, partition: u8, state: Arc<State>, lease: Lease) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, Held { state, lease });
    }

    /// Notes that a partition is no longer owned under this epoch.
    pub fn remove(&self, partition: u8, epoch: u64) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(&partition).is_some_and(|held| held.lease.epoch() == epoch) {
            held.remove(&partition);
        }
    }

    /// The totals of a partition; none when this process may not speak for it.
    #[must_use]
    pub fn export(&self, partition: u8) -> Option<PartitionTotals> {
        self.answer(partition, |held| held.state.export(partition, held.lease.epoch()))
    }

    /// The totals and windows of a partition at the Unix second `now`; none when this process may not speak for it.
    #[must_use]
    pub fn summary(&self, partition: u8, now: u64) -> Option<PartitionSummary> {
        self.answer(partition, |held| held.state.summary(partition, held.lease.epoch(), now))
    }

    /// An answer counts only if the lease is valid after it was made: then no other owner had counted further while it was made.
    fn answer<T>(&self, partition: u8, make: impl FnOnce(&Held) -> Option<T>) -> Option<T> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&partition).cloned()?;
        let answer = make(&held)?;
        held.lease.is_valid().then_some(answer)
    }
}
