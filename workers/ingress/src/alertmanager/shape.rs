//! The types of Alertmanager's API v2, and Keelson's in them. What they mean is said there.

#![allow(missing_docs, reason = "the names and meanings are those of Alertmanager's own description")]

mod silence;

use std::collections::BTreeMap;

use jiff::Timestamp;
use keelson_schemas::alerting::{AlertState, AlertView, Alerts, Group, Groups, Labels, Rules};
use schemars::JsonSchema;
use serde::Serialize;

use super::AlertFilter;
use crate::alerting::view::timestamp;
pub use silence::{
    GettableSilence, GettableSilences, PostableMatcher, PostableSilence, PostedSilence, SilenceStatus,
    silence, silences,
};

/// The version whose API this is. Clients compare it to know what they may ask for, so it is Alertmanager's and not Keelson's.
const SPOKEN_VERSION: &str = "0.25.0";
/// How much later than now a firing alert is said to end, as Alertmanager does with its `resolve_timeout`.
const RESOLVE_TIMEOUT_MS: u64 = 5 * 60 * 1_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Receivers(pub Vec<Receiver>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Receiver {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct GettableAlerts(pub Vec<GettableAlert>);

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GettableAlert {
    pub annotations: Labels,
    #[schemars(with = "String")]
    pub ends_at: Timestamp,
    pub fingerprint: String,
    pub receivers: Receivers,
    #[schemars(with = "String")]
    pub starts_at: Timestamp,
    pub status: AlertStatus,
    #[schemars(with = "String")]
    pub updated_at: Timestamp,
    pub labels: Labels,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertStatus {
    pub inhibited_by: Vec<String>,
    pub silenced_by: Vec<String>,
    /// `active` or `suppressed`.
    pub state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AlertGroups(pub Vec<AlertGroup>);

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AlertGroup {
    pub alerts: Vec<GettableAlert>,
    pub labels: Labels,
    pub receiver: Receiver,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertmanagerStatus {
    cluster: ClusterStatus,
    config: AlertmanagerConfig,
    #[schemars(with = "String")]
    uptime: Timestamp,
    version_info: VersionInfo,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
struct ClusterStatus {
    /// None.
    peers: [String; 0],
    /// `disabled`: replicas of Keelson meet on the bus.
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
struct AlertmanagerConfig {
    /// Keelson's own (TOML), secrets redacted.
    original: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct VersionInfo {
    /// `keelson`.
    branch: &'static str,
    build_date: &'static str,
    build_user: &'static str,
    go_version: &'static str,
    /// Keelson's version.
    revision: &'static str,
    /// That of the Alertmanager whose API this is.
    version: &'static str,
}

/// The alerts that fire and are asked for, by fingerprint.
#[must_use]
pub fn alerts(answer: &Alerts, filter: &AlertFilter) -> GettableAlerts {
    let wanted = firing(answer)
        .filter(|view| filter.admits_receiver(view.receivers.iter().map(String::as_str)))
        .filter(|view| filter.admits(view));
    let mut alerts: Vec<_> = wanted.map(|view| alert(view, answer.as_of_ms)).collect();
    alerts.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
    GettableAlerts(alerts)
}

/// The groups with the alerts in them that fire and are asked for; groups without any are left out.
#[must_use]
pub fn groups(groups: &Groups, answer: &Alerts, filter: &AlertFilter) -> AlertGroups {
    let known: BTreeMap<&str, &AlertView> =
        firing(answer).map(|view| (view.alert.fingerprint.as_str(), view)).collect();
    let members = |group: &Group| -> Vec<GettableAlert> {
        let views = group.fingerprints.iter().filter_map(|fingerprint| known.get(fingerprint.as_str()));
        views.filter(|view| filter.admits(view)).map(|view| alert(view, answer.as_of_ms)).collect()
    };
    let wanted = groups.groups.iter().filter(|group| filter.admits_receiver([&*group.receiver].into_iter()));
    let shown = wanted.map(|group| AlertGroup {
        alerts: members(group),
        labels: group.labels.clone(),
        receiver: Receiver { name: group.receiver.clone() },
    });
    let mut shown: Vec<_> = shown.filter(|group| !group.alerts.is_empty()).collect();
    shown.sort_by(|a, b| (&a.labels, &a.receiver.name).cmp(&(&b.labels, &b.receiver.name)));
    AlertGroups(shown)
}

fn firing(answer: &Alerts) -> impl Iterator<Item = &AlertView> {
    answer.alerts.iter().filter(|view| view.alert.state == AlertState::Firing)
}

fn alert(view: &AlertView, as_of_ms: u64) -> GettableAlert {
    let alert = &view.alert;
    let suppressed = !view.silenced_by.is_empty() || !view.inhibited_by.is_empty();
    GettableAlert {
        annotations: alert.annotations.clone(),
        ends_at: timestamp(as_of_ms.saturating_add(RESOLVE_TIMEOUT_MS)),
        fingerprint: alert.fingerprint.clone(),
        receivers: Receivers::of(&view.receivers),
        starts_at: timestamp(alert.starts_at_ms.unwrap_or(alert.active_at_ms)),
        status: AlertStatus {
            inhibited_by: view.inhibited_by.clone(),
            silenced_by: view.silenced_by.clone(),
            state: if suppressed { "suppressed" } else { "active" },
        },
        updated_at: timestamp(view.updated_at_ms),
        labels: alert.labels.clone(),
    }
}

impl Receivers {
    /// Receivers by their names.
    #[must_use]
    pub fn of(names: &[String]) -> Self {
        Self(names.iter().map(|name| Receiver { name: name.clone() }).collect())
    }
}

/// How Keelson stands, since when, and by which configuration.
#[must_use]
pub fn status(rules: Rules, started_at_ms: u64) -> AlertmanagerStatus {
    AlertmanagerStatus {
        cluster: ClusterStatus { peers: [], status: "disabled" },
        config: AlertmanagerConfig { original: rules.config },
        uptime: timestamp(started_at_ms),
        version_info: VersionInfo {
            branch: "keelson",
            build_date: "",
            build_user: "",
            go_version: "",
            revision: env!("CARGO_PKG_VERSION"),
            version: SPOKEN_VERSION,
        },
    }
}

#[cfg(test)]
mod tests {
    use keelson_schemas::alerting::{SetSilence, Silence};
    use keelson_schemas::message::Message;
    use serde_json::{Value, json};

    use super::*;
    use crate::alertmanager::{BadMatcher, SilenceFilter};

    fn of<T: Message>(change: impl FnOnce(&mut T)) -> T {
        let mut example = T::example();
        change(&mut example);
        example
    }

    /// As Alertmanager 0.25 answers.
    fn expected_alert() -> Value {
        json!({"annotations": {"summary": "content: 12.5 % of requests fail (threshold 5 %)"},
            "endsAt": "2025-11-24T16:05:01Z", "fingerprint": Alerts::example().alerts[0].alert.fingerprint,
            "receivers": [{"name": "ops"}], "startsAt": "2025-11-24T16:00:00.5Z",
            "status": {"inhibitedBy": ["cbf29ce484222325"], "silencedBy": ["0193a5f2-7c1e-7d3a-9f6b-2f4a1c0e8d11"], "state": "suppressed"},
            "updatedAt": "2025-11-24T16:00:00.5Z",
            "labels": {"alertname": "HighErrorRate", "service_name": "content", "severity": "critical"}})
    }

    fn alerts_by(query: &str, answer: &Alerts) -> Value {
        serde_json::to_value(alerts(answer, &AlertFilter::of(query).unwrap())).unwrap()
    }

    #[test]
    fn an_alert_reads_as_alertmanager_says_it() {
        assert_eq!(alerts_by("", &Alerts::example()), json!([expected_alert()]));
        assert_eq!(alerts_by("receiver=pager", &Alerts::example()), json!([]));
        let plain = of(|answer: &mut Alerts| {
            answer.alerts[0].silenced_by.clear();
            answer.alerts[0].inhibited_by.clear();
        });
        assert_eq!(
            alerts_by("", &plain)[0]["status"],
            json!({"inhibitedBy": [], "silencedBy": [], "state": "active"})
        );
    }

    #[test]
    fn only_what_fires_is_an_alert() {
        for state in [AlertState::Inactive, AlertState::Pending, AlertState::Resolved] {
            assert_eq!(
                alerts_by("", &of(|answer: &mut Alerts| answer.alerts[0].alert.state = state)),
                json!([])
            );
        }
    }

    #[test]
    fn a_group_has_the_alerts_that_are_asked_for() {
        let fingerprint = Alerts::example().alerts[0].alert.fingerprint.clone();
        let answer =
            of(|groups: &mut Groups| groups.groups[0].fingerprints = vec!["gone".into(), fingerprint]);
        let shown = |query: &str| {
            let filter = AlertFilter::of(query).unwrap();
            serde_json::to_value(groups(&answer, &Alerts::example(), &filter)).unwrap()
        };
        let group = json!({"alerts": [expected_alert()], "labels": {"alertname": "HighErrorRate"}, "receiver": {"name": "ops"}});
        assert_eq!(shown(""), json!([group]));
        assert_eq!(shown("receiver=o.*"), json!([group]));
        assert_eq!(shown("receiver=pager"), json!([]));
        assert_eq!(shown("silenced=false"), json!([]));
    }

    #[test]
    fn a_silence_reads_as_alertmanager_says_it() {
        let filter = SilenceFilter::of("").unwrap();
        let shown =
            serde_json::to_value(silences(vec![Silence::example()], &filter, 1_764_000_000_000)).unwrap();
        let expected = json!([{"id": "0193a5f2-7c1e-7d3a-9f6b-2f4a1c0e8d11", "status": {"state": "active"},
            "updatedAt": "2025-11-24T16:00:00Z", "comment": "the disk is being replaced", "createdBy": "ada",
            "endsAt": "2025-11-24T18:00:00Z", "startsAt": "2025-11-24T16:00:00Z",
            "matchers": [{"isEqual": true, "isRegex": false, "name": "alertname", "value": "HighErrorRate"},
                {"isEqual": false, "isRegex": true, "name": "service_name", "value": "con.*"}]}]);
        assert_eq!(shown, expected);
    }

    fn posted(change: impl FnOnce(&mut Value)) -> Result<SetSilence, BadMatcher> {
        let mut body = json!({"matchers": [{"name": "a", "value": "say \"hi\"", "isRegex": false}],
            "startsAt": "2025-11-24T16:00:00Z", "endsAt": "2025-11-24T19:00:00+01:00", "createdBy": "", "comment": "c"});
        change(&mut body);
        serde_json::from_value::<PostableSilence>(body).unwrap().into_command(1_764_000_000_000)
    }

    #[test]
    fn a_posted_silence_becomes_the_command() {
        let command = posted(|_| ()).unwrap();
        let expected = SetSilence {
            id: None,
            matchers: vec!["a=\"say \\\"hi\\\"\"".into()],
            starts_at_ms: None,
            ends_at_ms: Some(1_764_007_200_000),
            duration: None,
            created_by: None,
            comment: "c".into(),
        };
        assert_eq!(command, expected, "it has begun, so it begins now");
        let later = posted(|body| body["startsAt"] = json!("2025-11-24T16:00:00.001Z")).unwrap();
        assert_eq!(later.starts_at_ms, Some(1_764_000_000_001));
        let changed = posted(|body| body["id"] = json!("x")).unwrap();
        assert_eq!((changed.id.as_deref(), changed.starts_at_ms), (Some("x"), Some(1_764_000_000_000)));
        assert_eq!(posted(|body| body["id"] = json!("")).unwrap().id, None);
        let unequal = posted(|body| body["matchers"][0]["isEqual"] = json!(false)).unwrap();
        assert!(unequal.matchers[0].starts_with("a!="));
    }

    #[test]
    fn a_name_cannot_turn_a_matcher_into_another() {
        for name in ["a!", "a=", "", "a b", "1a", "a\"", " a", "é"] {
            assert!(posted(|body| body["matchers"][0]["name"] = json!(name)).is_err(), "{name:?}");
        }
    }
}
