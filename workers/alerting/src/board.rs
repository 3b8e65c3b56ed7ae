//! What this process knows of the rules while it is the evaluator, for those who ask.

use std::sync::{Arc, Mutex, PoisonError};

use keelson_kit::lease::Lease;
use keelson_schemas::alerting::Rule;

/// How the rules stood at the last look. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Option<Seen>>>);

#[derive(Clone, Debug)]
struct Seen {
    by: Lease,
    rules: Vec<Rule>,
}

impl Board {
    /// Notes how the rules stand, under the evaluator's lease.
    pub fn evaluated(&self, lease: &Lease, rules: Vec<Rule>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { by: lease.clone(), rules });
    }

    /// Notes that the evaluator of an epoch evaluates no more.
    pub fn evaluator_is_gone(&self, epoch: u64) {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.take_if(|seen| seen.by.epoch() == epoch);
    }

    /// How the rules stand; none when this process may not speak for them.
    #[must_use]
    pub fn rules(&self) -> Option<Vec<Rule>> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        seen.by.is_valid().then_some(seen.rules)
    }
}
