//! What a rule looks at as one thing: one set of values of the labels in its `by`, and the alert about it.

use keelson_schemas::alerting::{Alert, AlertState, Labels, fingerprint};
use keelson_schemas::histogram::Histogram;
use keelson_schemas::slice::Cell;

use super::Change;
use super::clock::Moment;
use super::lasts::Lasts;
use super::lifecycle::{self, Next, Seen, Standing, Verdict};
use super::sums::Sums;
use super::window::{self, Window};
use crate::rules::Rule;
use crate::signal::Measure;

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    /// The alert's labels.
    labels: Labels,
    /// The number of the service whose clock it goes by; none if it goes by those of all that the rule looks at.
    pub service: Option<usize>,
    /// Whether it has to be looked at.
    pub is_touched: bool,
    /// What is pending or fires.
    pub alert: Option<Alert>,
    ceased_at_ms: Option<u64>,
    content: Content,
}

/// What happened, in the form that the rule's signal needs.
#[derive(Debug)]
enum Content {
    Sums(Window<Sums>),
    Durations(Window<Histogram>),
    Lasts(Lasts),
}

impl Group {
    pub fn new(rule: &Rule, key: &[String], service: Option<usize>) -> Self {
        let content = match rule.signal.measure {
            Measure::Quantile(_) => Content::Durations(Window::new(rule.window_s)),
            Measure::Last => Content::Lasts(Lasts::new(rule.window_s)),
            _ => Content::Sums(Window::new(rule.window_s)),
        };
        Self {
            labels: labels(rule, key),
            service,
            is_touched: true,
            alert: None,
            ceased_at_ms: None,
            content,
        }
    }

    /// Adds a cell, `marked` of whose samples are marked.
    pub fn count(&mut self, cell: &Cell, marked: u64) {
        match &mut self.content {
            Content::Sums(window) => window.add(cell.second, &Sums::of_cell(cell, marked)),
            Content::Durations(window) => window.add(cell.second, &cell.latency),
            Content::Lasts(_) => {}
        }
        self.is_touched = true;
    }

    /// Adds a reading about something.
    pub fn read(&mut self, second: u64, about: &Labels, value: f64) {
        match &mut self.content {
            Content::Sums(window) => window.add(second, &Sums::of_reading(value)),
            Content::Lasts(lasts) => lasts.add(second, about, value),
            Content::Durations(_) => {}
        }
        self.is_touched = true;
    }

    /// Lets its window move on.
    pub fn advance(&mut self, moment: Moment) {
        match &mut self.content {
            Content::Sums(window) => window.advance(moment.end_s),
            Content::Durations(window) => window.advance(moment.end_s),
            Content::Lasts(lasts) => lasts.advance(moment.end_s),
        }
    }

    /// What becomes of its alert, and how the alert is then.
    pub fn evaluate(&mut self, rule: &Rule, moment: Moment, now_ms: u64) -> (Next, Option<Change>) {
        self.advance(moment);
        let seen = self.seen(rule, moment);
        let state = self.state();
        let verdict = lifecycle::verdict(rule, state, &seen);
        let next = lifecycle::next(rule, self.standing(verdict, now_ms), verdict, now_ms);
        let Next::Become(becomes) = next else { return (next, None) };
        let alert = self.changed(rule, becomes, seen.value, now_ms);
        (next, Some(Change { alert, from: state }))
    }

    /// Takes in a change that was made.
    pub fn apply(&mut self, alert: &Alert) {
        let is_live = matches!(alert.state, AlertState::Pending | AlertState::Firing);
        self.alert = is_live.then(|| alert.clone());
        self.ceased_at_ms = None;
        self.is_touched = true;
    }

    /// Since when the condition of its alert does not hold any more, though it fires: the fingerprint, and Unix milliseconds.
    pub fn ceased(&self) -> Option<(&String, u64)> {
        Some((&self.alert.as_ref()?.fingerprint, self.ceased_at_ms?))
    }

    /// Takes it that the condition has not held since a time, in Unix milliseconds.
    pub fn cease(&mut self, at_ms: u64) {
        self.ceased_at_ms = Some(at_ms);
    }

    /// Where its alert stands.
    pub fn state(&self) -> AlertState {
        self.alert.as_ref().map_or(AlertState::Inactive, |alert| alert.state)
    }

    /// Whether nothing would be lost with it.
    pub fn is_idle(&self) -> bool {
        let is_empty = match &self.content {
            Content::Sums(window) => window.is_empty(),
            Content::Durations(window) => window.is_empty(),
            Content::Lasts(lasts) => lasts.is_empty(),
        };
        is_empty && self.alert.is_none()
    }

    /// The next ends with which its window holds something else.
    pub fn next(&self) -> window::Next {
        match &self.content {
            Content::Sums(window) => window.next_s(),
            Content::Durations(window) => window.next_s(),
            Content::Lasts(lasts) => lasts.next_s(),
        }
    }

    /// About how many bytes it keeps.
    pub fn bytes(&self) -> usize {
        match &self.content {
            Content::Sums(window) => window.bytes(),
            Content::Durations(window) => window.bytes(),
            Content::Lasts(_) => 0,
        }
    }

    fn seen(&self, rule: &Rule, moment: Moment) -> Seen {
        let (value, samples) = match (&self.content, rule.signal.measure) {
            (Content::Sums(window), measure) => {
                let sums = window.total();
                (sums.value(measure, rule.window_s, moment.is_fresh), sums.samples(measure))
            }
            (Content::Durations(window), Measure::Quantile(share)) => {
                let durations = window.total();
                (durations.quantile_seconds(share), durations.count())
            }
            (Content::Durations(_), _) => (None, 0),
            (Content::Lasts(lasts), _) => (lasts.worst(rule.threshold.side), lasts.len()),
        };
        // Readings of which only the last counts are not all stored: before a window has passed nobody knows that there are none.
        let is_settled =
            !matches!(self.content, Content::Lasts(_)) || moment.end_s >= moment.since_s + rule.window_s;
        Seen { value, samples, is_fresh: moment.is_fresh, is_settled }
    }

    fn standing(&mut self, verdict: Verdict, now_ms: u64) -> Standing {
        let ceased_at_ms = (verdict == Verdict::Ceased).then(|| self.ceased_at_ms.unwrap_or(now_ms));
        self.ceased_at_ms = ceased_at_ms;
        Standing {
            state: self.state(),
            active_at_ms: self.alert.as_ref().map_or(now_ms, |alert| alert.active_at_ms),
            ceased_at_ms: ceased_at_ms.unwrap_or(now_ms),
        }
    }

    fn changed(&self, rule: &Rule, state: AlertState, value: Option<f64>, now_ms: u64) -> Alert {
        let starts_at_ms = self.alert.as_ref().and_then(|alert| alert.starts_at_ms);
        Alert {
            fingerprint: fingerprint(&self.labels),
            labels: self.labels.clone(),
            annotations: rule.annotations(&self.labels, value),
            state,
            value,
            active_at_ms: self.alert.as_ref().map_or(now_ms, |alert| alert.active_at_ms),
            starts_at_ms: starts_at_ms.or((state == AlertState::Firing).then_some(now_ms)),
            ends_at_ms: (state == AlertState::Resolved).then_some(now_ms),
        }
    }
}

/// The labels of a rule's alert about the thing with these values of the labels in its `by`. An empty value is no label, as in Alertmanager.
pub(super) fn labels(rule: &Rule, key: &[String]) -> Labels {
    let own = rule.by.iter().zip(key).filter(|(_, value)| !value.is_empty());
    rule.labels
        .clone()
        .into_iter()
        .chain(own.map(|(name, value)| ((*name).to_owned(), value.clone())))
        .collect()
}
