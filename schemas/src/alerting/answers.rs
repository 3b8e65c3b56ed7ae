//! What the alerting worker answers: about rules its active evaluator, about alerts and groups its active notifier, about silences any replica.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Alert, AlertState, Labels, Silence};
use crate::message::Message;

/// The answer to `keelson.qry.alerting.alerts`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alerts {
    /// Unix milliseconds as of which this was answered; [`Rules::evaluated_at_ms`] says when the rules were last evaluated.
    pub as_of_ms: u64,
    /// Pending, firing, and those that resolved within the last minutes.
    pub alerts: Vec<AlertView>,
}

/// An alert and what becomes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertView {
    /// The alert.
    pub alert: Alert,
    /// Unix milliseconds at which it last changed.
    pub updated_at_ms: u64,
    /// The receivers that its routes name.
    pub receivers: Vec<String>,
    /// The ids of the silences that keep it from being notified.
    pub silenced_by: Vec<String>,
    /// The fingerprints of the alerts that inhibit it.
    pub inhibited_by: Vec<String>,
    /// Whether it goes up and down so often that it is held.
    pub flapping: bool,
}

/// The answer to `keelson.qry.alerting.groups`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Groups {
    /// Every group that has alerts.
    pub groups: Vec<Group>,
}

/// Alerts that are notified together to a receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// The receiver.
    pub receiver: String,
    /// What its alerts have in common by the route.
    pub labels: Labels,
    /// Its alerts.
    pub fingerprints: Vec<String>,
    /// How each of the receiver's ways fares.
    pub deliveries: Vec<Delivery>,
}

/// How notifying a group in one way fares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// `webhook`, `slack`, `pagerduty`, `email`.
    pub integration: String,
    /// Unix milliseconds of the last success.
    pub delivered_at_ms: Option<u64>,
    /// Notifications that wait to be delivered.
    pub waiting: u64,
    /// How often the first of them was tried.
    pub attempts: u32,
    /// Why it could not be delivered.
    pub error: Option<String>,
}

/// The answer to `keelson.qry.alerting.rules`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// Unix milliseconds at which they were read.
    pub loaded_at_ms: u64,
    /// Unix milliseconds as of which they were last evaluated.
    pub evaluated_at_ms: u64,
    /// Why the last reading of them was refused, if it was; the ones before it run on.
    pub errors: Vec<String>,
    /// The rules.
    pub rules: Vec<Rule>,
    /// The names of all receivers.
    pub receivers: Vec<String>,
    /// Rules, routes and receivers as they take effect (TOML), secrets redacted.
    pub config: String,
}

/// A rule that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Its name: the `alertname` of its alerts.
    pub name: String,
    /// Where it stands: a file, `keelson.toml`, or `default`.
    pub source: String,
    /// What it says, in a line.
    pub condition: String,
    /// The state of the worst of its alerts.
    pub state: AlertState,
    /// Sets of labels it looks at.
    pub series: u64,
    /// Sets of labels past the bound, which are looked at together.
    pub overflow: u64,
}

/// The answer to `keelson.qry.alerting.silences`: those that hold, will hold, and ended within the last days.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Silences {
    /// The silences.
    pub silences: Vec<Silence>,
}

impl Message for Alerts {
    const TYPE: &'static str = "keelson.alerting.alerts.v1";

    fn example() -> Self {
        let view = AlertView {
            alert: Alert::example(),
            updated_at_ms: 1_764_000_000_500,
            receivers: vec!["ops".into()],
            silenced_by: vec!["0193a5f2-7c1e-7d3a-9f6b-2f4a1c0e8d11".into()],
            inhibited_by: vec!["cbf29ce484222325".into()],
            flapping: true,
        };
        Self { as_of_ms: 1_764_000_001_000, alerts: vec![view] }
    }
}

impl Message for Groups {
    const TYPE: &'static str = "keelson.alerting.groups.v1";

    fn example() -> Self {
        let delivery = Delivery {
            integration: "webhook".into(),
            delivered_at_ms: Some(1_764_000_000_600),
            waiting: 1,
            attempts: 2,
            error: Some("503 Service Unavailable".into()),
        };
        let group = Group {
            receiver: "ops".into(),
            labels: [("alertname".to_owned(), "HighErrorRate".to_owned())].into(),
            fingerprints: vec!["cbf29ce484222325".into()],
            deliveries: vec![delivery],
        };
        Self { groups: vec![group] }
    }
}

impl Message for Rules {
    const TYPE: &'static str = "keelson.alerting.rules.v1";

    fn example() -> Self {
        let rule = Rule {
            name: "HighErrorRate".into(),
            source: "default".into(),
            condition: "error_ratio by service_name over 1m above 0.05".into(),
            state: AlertState::Firing,
            series: 4,
            overflow: 1,
        };
        Self {
            loaded_at_ms: 1_764_000_000_000,
            evaluated_at_ms: 1_764_000_001_000,
            errors: vec!["rules/web.toml:3: signal: \"eror_ratio\" is not known".into()],
            rules: vec![rule],
            receivers: vec!["ops".into()],
            config: "[[receivers]]\nname = \"ops\"\n".into(),
        }
    }
}

impl Message for Silences {
    const TYPE: &'static str = "keelson.alerting.silences.v1";

    fn example() -> Self {
        Self { silences: vec![Silence::example()] }
    }
}
