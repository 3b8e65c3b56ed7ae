//! How the rules stand, as the evaluator tells those who answer questions about them.

use std::sync::{Arc, Mutex, PoisonError};

use keelson_schemas::alerting::Rule;

/// How the rules stood at the last look. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Option<Vec<Rule>>>>);

impl Board {
    /// Notes how the rules stand.
    pub fn tell(&self, rules: Vec<Rule>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(rules);
    }

    /// How the rules stand; none before the evaluator has caught up.
    #[must_use]
    pub fn told(&self) -> Option<Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
