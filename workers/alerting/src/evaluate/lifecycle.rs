//! The life of an alert: inactive, pending, firing, resolved.

use keelson_schemas::alerting::AlertState;

use crate::rules::{NoData, Rule};

/// What is seen through a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// The signal's value; none if nothing is known.
    pub value: Option<f64>,
    /// How many samples it rests on.
    pub samples: u64,
    /// Whether telemetry comes in; if not, what is seen is what is left of what came.
    pub is_fresh: bool,
    /// Whether it was listened for long enough to say that there is nothing.
    pub is_settled: bool,
}

/// What that says of a rule's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds.
    Holds,
    /// It does not.
    Ceased,
    /// It cannot be said.
    Unknown,
}

/// What an alert is, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Where it stands.
    pub state: AlertState,
    /// Unix milliseconds since when it is pending or firing.
    pub active_at_ms: u64,
    /// Unix milliseconds since when the condition does not hold any more, though it fires.
    pub ceased_at_ms: u64,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It stays as it is.
    Stay,
    /// It stays as it is up to this time, in Unix milliseconds.
    Until(u64),
    /// It changes.
    Become(AlertState),
}

/// What is seen says of the condition of an alert that stands at `state`.
pub(super) fn verdict(rule: &Rule, state: AlertState, seen: &Seen) -> Verdict {
    let Some(value) = seen.value else {
        return if seen.is_settled { without_data(rule) } else { Verdict::Unknown };
    };
    let holds = match state {
        AlertState::Firing => rule.threshold.is_not_cleared(value),
        AlertState::Pending => rule.threshold.is_passed(value),
        _ => rule.threshold.is_passed(value) && seen.samples >= rule.min_samples,
    };
    match holds {
        true => Verdict::Holds,
        // Counts fall while a window drains. That is no sign that things are better.
        false if !seen.is_fresh && rule.no_data != NoData::Resolve => Verdict::Unknown,
        false => Verdict::Ceased,
    }
}

fn without_data(rule: &Rule) -> Verdict {
    match rule.no_data {
        NoData::Keep => Verdict::Unknown,
        NoData::Alert => Verdict::Holds,
        NoData::Resolve => Verdict::Ceased,
    }
}

/// What becomes of an alert.
pub(super) fn next(rule: &Rule, standing: Standing, verdict: Verdict, now_ms: u64) -> Next {
    match (standing.state, verdict) {
        (AlertState::Pending, Verdict::Holds) => {
            at(standing.active_at_ms + rule.hold_ms, now_ms, AlertState::Firing)
        }
        // Nobody was told of it yet, so that nothing is lost by beginning anew.
        (AlertState::Pending, _) => Next::Become(AlertState::Inactive),
        (AlertState::Firing, Verdict::Ceased) => {
            at(standing.ceased_at_ms + rule.keep_firing_ms, now_ms, AlertState::Resolved)
        }
        (AlertState::Firing, _) => Next::Stay,
        (_, Verdict::Holds) if rule.hold_ms == 0 => Next::Become(AlertState::Firing),
        (_, Verdict::Holds) => Next::Become(AlertState::Pending),
        _ => Next::Stay,
    }
}

fn at(due_ms: u64, now_ms: u64, state: AlertState) -> Next {
    if now_ms >= due_ms { Next::Become(state) } else { Next::Until(due_ms) }
}
