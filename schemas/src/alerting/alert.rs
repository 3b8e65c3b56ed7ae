//! An alert, and the events of its life.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Labels;
use crate::message::Message;

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Its condition does not hold.
    Inactive,
    /// Its condition holds, for less than the rule's `for`.
    Pending,
    /// It fires.
    Firing,
    /// It fired and does so no more.
    Resolved,
}

/// A rule's condition for one set of labels, as it last changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// [`fingerprint`] of `labels`.
    pub fingerprint: String,
    /// `alertname` (the rule), `severity`, the rule's own labels, and those by which it looks at things apart.
    pub labels: Labels,
    /// `summary`, `description`, `runbook_url`, with their fields filled in when it last changed.
    pub annotations: Labels,
    /// Where it stands.
    pub state: AlertState,
    /// The signal's value at the last change; none when there was no data.
    pub value: Option<f64>,
    /// Unix milliseconds since when the condition holds or held without a break.
    pub active_at_ms: u64,
    /// Unix milliseconds at which it began to fire.
    pub starts_at_ms: Option<u64>,
    /// Unix milliseconds at which it resolved.
    pub ends_at_ms: Option<u64>,
}

/// `keelson.evt.alerting.<fact>`: an alert changed. The fact is `pending`, `fired`, `resolved`, or `cleared` for one that was pending and never fired.
///
/// Publishing the transition is what makes it true: it names the sequence of the transition before it, so that of two evaluators
/// only one is believed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// The alert as it is from now on.
    pub alert: Alert,
    /// What it was before.
    pub from: AlertState,
    /// Unix milliseconds at which it changed: the time as of which the rule was evaluated.
    pub at_ms: u64,
    /// The epoch of the evaluator's lease.
    pub epoch: u64,
    /// Everything of the stream of slices up to this sequence was evaluated before or with it.
    pub slices_through: u64,
}

impl Transition {
    /// The last token of its subject.
    #[must_use]
    pub const fn fact(&self) -> &'static str {
        match (self.from, self.alert.state) {
            (_, AlertState::Pending) => "pending",
            (_, AlertState::Firing) => "fired",
            (_, AlertState::Resolved) => "resolved",
            (_, AlertState::Inactive) => "cleared",
        }
    }
}

/// The identity of a set of labels, equal to Alertmanager's: FNV-1a, 64 bits, over every name and value in the order of the names, each followed by
/// the byte 255 (github.com/prometheus/common/model, `LabelSet.Fingerprint`); sixteen hexadecimal digits.
#[must_use]
pub fn fingerprint(labels: &Labels) -> String {
    const OFFSET: u64 = 14_695_981_039_346_656_037;
    const PRIME: u64 = 1_099_511_628_211;
    let bytes = labels.iter().flat_map(|(name, value)| {
        name.bytes().chain(std::iter::once(255)).chain(value.bytes()).chain(std::iter::once(255))
    });
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    format!("{hash:016x}")
}

impl Message for Transition {
    const TYPE: &'static str = "keelson.alerting.transition.v1";

    fn example() -> Self {
        Self {
            alert: Alert::example(),
            from: AlertState::Pending,
            at_ms: 1_764_000_000_500,
            epoch: 3,
            slices_through: 57,
        }
    }
}

impl Alert {
    pub(super) fn example() -> Self {
        let labels: Labels =
            [("alertname", "HighErrorRate"), ("service_name", "content"), ("severity", "critical")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        let summary = "content: 12.5 % of requests fail (threshold 5 %)";
        Self {
            fingerprint: fingerprint(&labels),
            labels,
            annotations: [("summary".to_owned(), summary.to_owned())].into(),
            state: AlertState::Firing,
            value: Some(0.125),
            active_at_ms: 1_764_000_000_500,
            starts_at_ms: Some(1_764_000_000_500),
            ends_at_ms: Some(1_764_000_090_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From prometheus/common: `LabelSet{}` and what `amtool alert query -o json` of a real Alertmanager shows for these labels.
    #[test]
    fn fingerprints_are_alertmanagers() {
        assert_eq!(fingerprint(&Labels::new()), "cbf29ce484222325");
    }
}
