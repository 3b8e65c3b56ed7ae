//! What the alerting worker can be told to do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Alert, AlertState, Labels};
use crate::message::{Command, Message};

/// Makes a silence, or changes one. The operation's result is the silence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetSilence {
    /// The silence to be changed; left out, a new one is made. What cannot be changed in place (other matchers, a start that is past) ends
    /// the old one and makes a new one.
    #[serde(default)]
    pub id: Option<String>,
    /// `name=value`, `name!=value`, `name=~regex`, `name!~regex`; all must match.
    pub matchers: Vec<String>,
    /// Unix milliseconds from which it holds; left out, from now on.
    #[serde(default)]
    pub starts_at_ms: Option<u64>,
    /// Unix milliseconds up to which it holds. Either this or `duration`.
    #[serde(default)]
    pub ends_at_ms: Option<u64>,
    /// How long it holds: `2h`, `1d 12h`.
    #[serde(default)]
    pub duration: Option<String>,
    /// Who makes it; left out, who asks.
    #[serde(default)]
    pub created_by: Option<String>,
    /// Why.
    #[serde(default)]
    pub comment: String,
}

/// Ends a silence now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpireSilence {
    /// Which.
    pub id: String,
}

/// Takes an alert that is pending or fires for over: a way out where nothing will ever be heard again of what it is about. Should its condition hold, it fires again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndAlert {
    /// Which.
    pub fingerprint: String,
}

/// Reads the rules again from the configuration and the files it names. With any error in them, the ones that run stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadRules {}

/// Which time a replay goes by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeAxis {
    /// When things happened: what a rule says about the past, however late it became known.
    #[default]
    Event,
    /// When they became known: what would have been notified, and when.
    Arrival,
}

/// Evaluates rules over the slices of the past, and notifies nobody. The operation's result is a [`BacktestReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backtest {
    /// The rules, as a rule file holds them (TOML); left out, those that run.
    #[serde(default)]
    pub rules: Option<String>,
    /// Unix milliseconds from which on; left out, as far back as there are slices.
    #[serde(default)]
    pub since_ms: Option<u64>,
    /// Unix milliseconds up to which; left out, now.
    #[serde(default)]
    pub until_ms: Option<u64>,
    /// Which time `since_ms` and `until_ms` are, and by which the rules are evaluated.
    #[serde(default)]
    pub by: TimeAxis,
}

/// What would have fired.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BacktestReport {
    /// Slices that were read.
    pub slices: u64,
    /// Samples in them that were within the time asked for.
    pub samples: u64,
    /// The earliest and the latest Unix second with samples.
    pub from: Option<u64>,
    /// See `from`.
    pub to: Option<u64>,
    /// What fired, in the order of its start; at most 1,000.
    pub firings: Vec<Firing>,
    /// How many more there were.
    pub more: u64,
    /// Rules that were left out: what they look at is in no slice.
    #[serde(default)]
    pub left_out: Vec<String>,
}

/// One time that an alert fired.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Firing {
    /// The alert's labels.
    pub labels: Labels,
    /// Its summary when it fired.
    pub summary: String,
    /// The signal's value then.
    pub value: Option<f64>,
    /// Unix milliseconds.
    pub starts_at_ms: u64,
    /// Unix milliseconds; none when it fired still at the end.
    pub ends_at_ms: Option<u64>,
}

/// Delivers one notification. The worker sends this only in a dead letter, so that redriving the letter tries the delivery again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notify {
    /// The idempotency key: the same however often it is tried.
    pub key: String,
    /// The receiver's name.
    pub receiver: String,
    /// Which of the receiver's ways: `webhook`, `slack`, `pagerduty`, `email`.
    pub integration: String,
    /// The labels that the group's alerts have in common by the route.
    pub group_labels: Labels,
    /// Identifies the group to the receiver.
    pub group_key: String,
    /// The alerts, each as it was at the transition that is notified.
    pub alerts: Vec<Alert>,
    /// How many more alerts of the group fire, and were notified before.
    #[serde(default)]
    pub more: u64,
    /// Whether this repeats what was notified before.
    #[serde(default)]
    pub repeat: bool,
}

impl Notify {
    /// Firing while any alert of the group fires.
    #[must_use]
    pub fn status(&self) -> AlertState {
        let firing = self.more > 0 || self.alerts.iter().any(|alert| alert.state == AlertState::Firing);
        if firing { AlertState::Firing } else { AlertState::Resolved }
    }
}

impl Command for SetSilence {
    const WORKER: &'static str = "alerting";
    const VERB: &'static str = "silence";
}

impl Command for ExpireSilence {
    const WORKER: &'static str = "alerting";
    const VERB: &'static str = "expire-silence";
}

impl Command for EndAlert {
    const WORKER: &'static str = "alerting";
    const VERB: &'static str = "end-alert";
}

impl Command for ReloadRules {
    const WORKER: &'static str = "alerting";
    const VERB: &'static str = "reload";
}

impl Command for Backtest {
    const WORKER: &'static str = "alerting";
    const VERB: &'static str = "backtest";
}

impl Command for Notify {
    const WORKER: &'static str = "alerting";
    const VERB: &'static str = "notify";
}

impl Message for SetSilence {
    const TYPE: &'static str = "keelson.alerting.set-silence.v1";

    fn example() -> Self {
        Self {
            id: Some("0193a5f2-7c1e-7d3a-9f6b-2f4a1c0e8d11".into()),
            matchers: vec!["alertname=HighErrorRate".into(), "service_name=~\"con.*\"".into()],
            starts_at_ms: Some(1_764_000_000_000),
            ends_at_ms: Some(1_764_007_200_000),
            duration: Some("2h".into()),
            created_by: Some("ada".into()),
            comment: "the disk is being replaced".into(),
        }
    }
}

impl Message for ExpireSilence {
    const TYPE: &'static str = "keelson.alerting.expire-silence.v1";

    fn example() -> Self {
        Self { id: "0193a5f2-7c1e-7d3a-9f6b-2f4a1c0e8d11".into() }
    }
}

impl Message for EndAlert {
    const TYPE: &'static str = "keelson.alerting.end-alert.v1";

    fn example() -> Self {
        Self { fingerprint: Alert::example().fingerprint }
    }
}

impl Message for ReloadRules {
    const TYPE: &'static str = "keelson.alerting.reload.v1";

    fn example() -> Self {
        Self {}
    }
}

impl Message for Backtest {
    const TYPE: &'static str = "keelson.alerting.backtest.v1";

    fn example() -> Self {
        Self {
            rules: Some("[[rules]]\nname = \"Errors\"\nsignal = \"errors\"\nabove = 0\n".into()),
            since_ms: Some(1_764_000_000_000),
            until_ms: Some(1_764_007_200_000),
            by: TimeAxis::Event,
        }
    }
}

impl Message for BacktestReport {
    const TYPE: &'static str = "keelson.alerting.backtest-report.v1";

    fn example() -> Self {
        let alert = Alert::example();
        let firing = Firing {
            labels: alert.labels,
            summary: "content: 12.5 % of requests fail (threshold 5 %)".into(),
            value: Some(0.125),
            starts_at_ms: 1_764_000_000_500,
            ends_at_ms: Some(1_764_000_090_000),
        };
        Self {
            slices: 41,
            samples: 10_000,
            from: Some(1_763_999_000),
            to: Some(1_764_000_100),
            firings: vec![firing],
            more: 2,
            left_out: vec!["KeelsonDeadLetters".into()],
        }
    }
}

impl Message for Notify {
    const TYPE: &'static str = "keelson.alerting.notify.v1";

    fn example() -> Self {
        let group_labels: Labels = [("alertname".to_owned(), "HighErrorRate".to_owned())].into();
        Self {
            key: "9d2f7c1e5a7d3a9f6b2f4a1c0e8d1122".into(),
            receiver: "ops".into(),
            integration: "webhook".into(),
            group_labels,
            group_key: "{}:{alertname=\"HighErrorRate\"}".into(),
            alerts: vec![Alert::example()],
            more: 3,
            repeat: true,
        }
    }
}
