//! What is known of alerts and groups, for those who ask.

use std::collections::BTreeSet;

use keelson_schemas::alerting::{self, Alert, AlertState, AlertView, Labels};

use super::{Dispatch, Entry};
use crate::notify::alerts::Known;

impl Dispatch {
    /// The answer to `keelson.qry.alerting.alerts`.
    #[must_use]
    pub fn views(&self, now_ms: u64) -> alerting::Alerts {
        let alerts: Vec<AlertView> = self.alerts.seen(now_ms).map(|known| self.view(known, now_ms)).collect();
        alerting::Alerts { as_of_ms: now_ms, alerts }
    }

    /// The answer to `keelson.qry.alerting.groups`.
    #[must_use]
    pub fn group_views(&self) -> alerting::Groups {
        let groups = self.groups.values().filter(|entry| !entry.group.is_idle());
        let view = |entry: &Entry| alerting::Group {
            receiver: entry.group.receiver.clone(),
            labels: entry.group.labels.clone(),
            fingerprints: entry.group.members.keys().cloned().collect(),
            deliveries: entry.group.deliveries(),
        };
        alerting::Groups { groups: groups.map(view).collect() }
    }

    /// The alerts that are routed to a receiver, and fire or resolved of late.
    pub fn routed_to<'a>(&'a self, receiver: &'a str, now_ms: u64) -> impl Iterator<Item = &'a Alert> {
        let seen = self.alerts.seen(now_ms).map(|known| &known.alert);
        seen.filter(|alert| matches!(alert.state, AlertState::Firing | AlertState::Resolved))
            .filter(move |alert| self.receivers(&alert.labels).contains(receiver))
    }

    fn view(&self, known: &Known, now_ms: u64) -> AlertView {
        let labels = &known.alert.labels;
        AlertView {
            alert: known.alert.clone(),
            updated_at_ms: known.at_ms,
            receivers: self.receivers(labels).into_iter().map(str::to_owned).collect(),
            silenced_by: self.silences.silencing(labels, now_ms).cloned().collect(),
            inhibited_by: self.inhibitor.inhibiting(labels).into_iter().collect(),
            flapping: self.alerts.flaps(&known.alert.fingerprint, now_ms, &self.flap),
        }
    }

    fn receivers(&self, labels: &Labels) -> BTreeSet<&str> {
        self.routes
            .matching(labels)
            .into_iter()
            .flat_map(|policy| policy.receivers.iter().map(String::as_str))
            .collect()
    }
}
