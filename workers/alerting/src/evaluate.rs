//! Evaluates rules over slices and readings. Pure: time is a parameter, and what is to change is said, not done.

use std::sync::Arc;

use keelson_schemas::alerting::{Alert, AlertState, Reading, Rule as RuleStatus};
use keelson_schemas::slice::Slice;

use crate::rules::RuleSet;

/// An alert that is to change.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The alert as it is to be.
    pub alert: Alert,
    /// What it is.
    pub from: AlertState,
}

/// All rules, what they look at, and the alerts that they made.
pub struct Evaluator {
    rules: Arc<RuleSet>,
    alerts: Vec<Alert>,
}

impl Evaluator {
    /// An evaluator that knows the alerts that are pending or firing, and no data yet.
    #[must_use]
    pub fn new(rules: Arc<RuleSet>, alerts: Vec<Alert>) -> Self {
        Self { rules, alerts }
    }

    /// Counts a slice, and decides nothing.
    pub fn observe(&mut self, slice: &Slice) {
        let _ = slice;
    }

    /// Notes a reading, and decides nothing. Its `ts` is set.
    pub fn read(&mut self, reading: &Reading) {
        let _ = reading;
    }

    /// Lets the windows move on to `now_ms`, and decides nothing: for the slices of before the time from which on rules are to be evaluated.
    pub fn advance(&mut self, now_ms: u64) {
        let _ = now_ms;
    }

    /// What is to change as of `now_ms` (Unix milliseconds). Says the same again until it is applied.
    pub fn evaluate(&mut self, now_ms: u64) -> Vec<Change> {
        let _ = (now_ms, &self.rules);
        Vec::new()
    }

    /// Takes in a change that was made.
    pub fn apply(&mut self, alert: &Alert) {
        let _ = alert;
    }

    /// When something may change although nothing more is observed; none if it then stays as it is for ever.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        None
    }

    /// The alerts that are pending or firing.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.iter()
    }

    /// The rules and where they stand.
    #[must_use]
    pub fn status(&self) -> Vec<RuleStatus> {
        Vec::new()
    }
}
