//! What rules would have said about the past.

use std::sync::Arc;

use keelson_schemas::alerting::{BacktestReport, TimeAxis};
use keelson_schemas::slice::Slice;

use crate::rules::RuleSet;

/// A replay of the past. Takes slices in the order of their stream.
///
/// What is needed of the stream is what was stored from `since` less [`RuleSet::longest_window`] on; by event time up to its end, because what
/// happened before `until` may have become known much later, and by arrival up to `until`.
pub struct Backtest {
    report: BacktestReport,
}

/// There is more than a replay by event time can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are more than {0} seconds with data: ask for less time, or look at less things apart")]
pub struct TooMuch(pub usize);

impl Backtest {
    /// A replay of the time from `since_ms` up to and with `until_ms`.
    #[must_use]
    pub fn new(rules: Arc<RuleSet>, axis: TimeAxis, since_ms: u64, until_ms: u64) -> Self {
        let _ = (rules, axis, since_ms, until_ms);
        Self { report: BacktestReport::default() }
    }

    /// Takes the next slice in.
    ///
    /// # Errors
    /// It is more than can be held.
    pub fn slice(&mut self, slice: &Slice) -> Result<(), TooMuch> {
        let _ = slice;
        Ok(())
    }

    /// What would have fired.
    #[must_use]
    pub fn finish(self) -> BacktestReport {
        self.report
    }
}
