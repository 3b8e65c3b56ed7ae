//! What several tests of the notifier need.

use keelson_schemas::alerting::{Alert, AlertState, Labels, Transition, fingerprint};

use super::config::{Flap, NotifyConfig, Receiver, Route};

/// The labels of `alertname=A service_name=b`.
pub fn labels(text: &str) -> Labels {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// An alert that fires.
pub fn firing(text: &str) -> Alert {
    let labels = labels(text);
    Alert {
        fingerprint: fingerprint(&labels),
        labels,
        annotations: Labels::new(),
        state: AlertState::Firing,
        value: Some(1.0),
        active_at_ms: 0,
        starts_at_ms: Some(0),
        ends_at_ms: None,
    }
}

/// One that fired.
pub fn resolved(text: &str) -> Alert {
    Alert { state: AlertState::Resolved, ends_at_ms: Some(1), ..firing(text) }
}

/// An alert that fires or resolves at a Unix millisecond.
pub fn transition(text: &str, fires: bool, at_ms: u64) -> Transition {
    let alert = if fires {
        Alert { starts_at_ms: Some(at_ms), active_at_ms: at_ms, ..firing(text) }
    } else {
        Alert { ends_at_ms: Some(at_ms), ..resolved(text) }
    };
    Transition { alert, from: AlertState::Inactive, at_ms, epoch: 1, slices_through: 0 }
}

impl NotifyConfig {
    /// Receivers by webhook, under a route.
    pub fn for_tests(receivers: &[&str], route: Route) -> Self {
        let receiver = |name: &&str| Receiver::at(name, "http://127.0.0.1:9/");
        Self {
            external_url: "http://keelson".into(),
            route,
            receivers: receivers.iter().map(receiver).collect(),
            inhibit: Vec::new(),
            flap: Flap { fired: 0, ..Flap::default() },
            smtp: None,
        }
    }
}

impl Receiver {
    /// A receiver by webhook.
    pub fn at(name: &str, webhook_url: &str) -> Self {
        Self {
            name: name.into(),
            webhook_url: Some(webhook_url.to_owned().into()),
            webhook_token: None,
            slack_webhook_url: None,
            pagerduty_routing_key: None,
            pagerduty_url: None,
            email_to: Vec::new(),
            alertmanager_url: None,
            send_resolved: true,
        }
    }
}
