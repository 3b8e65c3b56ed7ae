//! How the rules stand, as the evaluator tells those who answer questions about them.

use std::sync::{Arc, Mutex, PoisonError};

use keelson_schemas::alerting::Rule;

/// How the rules stood at the last look. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Option<Standing>>>);

/// How the rules stand.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Every rule.
    pub rules: Vec<Rule>,
    /// Unix milliseconds as of which they were evaluated.
    pub evaluated_at_ms: u64,
}

impl Board {
    /// Notes how the rules stand.
    pub fn tell(&self, standing: Standing) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(standing);
    }

    /// How the rules stand; none before the evaluator has caught up.
    #[must_use]
    pub fn told(&self) -> Option<Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
