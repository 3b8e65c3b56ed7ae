//! A webhook as Alertmanager posts it, version 4 of the payload (prometheus.io/docs/alerting/latest/configuration, `webhook_config`).

use keelson_kit::config::Secret;
use keelson_kit::failure::Failure;
use keelson_kit::fault;
use keelson_kit::publish::fresh_id;
use keelson_schemas::alerting::{Alert, AlertState, Labels, Notify};
use serde::Serialize;

use super::http::{Http, Post};
use super::text::{rfc3339, status};

/// What Go writes for a time that is not set.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A webhook.
#[derive(Debug)]
pub struct Webhook {
    http: Http,
    url: Secret,
    token: Option<Secret>,
    external_url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: u64,
    status: &'static str,
    receiver: &'a str,
    group_labels: &'a Labels,
    common_labels: Labels,
    common_annotations: Labels,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    alerts: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    status: &'static str,
    labels: &'a Labels,
    annotations: &'a Labels,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: &'a str,
}

impl Webhook {
    pub(super) fn new(http: Http, url: Secret, token: Option<Secret>, external_url: &str) -> Self {
        Self { http, url, token, external_url: external_url.to_owned() }
    }

    pub(super) async fn send(&self, notify: &Notify) -> Result<(), Failure> {
        let body = &payload(notify, &self.external_url);
        let key = if fault::disabled("dedup") { fresh_id() } else { notify.key.clone() };
        self.http
            .post(Post { url: &self.url, token: self.token.as_ref(), key: Some(&key), body, hidden: None })
            .await
    }
}

fn payload<'a>(notify: &'a Notify, external_url: &'a str) -> Payload<'a> {
    Payload {
        version: "4",
        group_key: &notify.group_key,
        truncated_alerts: notify.more,
        status: status(notify.status()),
        receiver: &notify.receiver,
        group_labels: &notify.group_labels,
        common_labels: common(notify.alerts.iter().map(|alert| &alert.labels)),
        common_annotations: common(notify.alerts.iter().map(|alert| &alert.annotations)),
        external_url,
        alerts: notify.alerts.iter().map(|alert| item(alert, external_url)).collect(),
    }
}

fn item<'a>(alert: &'a Alert, external_url: &str) -> Item<'a> {
    let ended = (alert.state == AlertState::Resolved).then_some(alert.ends_at_ms).flatten();
    Item {
        status: status(alert.state),
        labels: &alert.labels,
        annotations: &alert.annotations,
        starts_at: alert.starts_at_ms.map_or_else(|| NEVER.to_owned(), rfc3339),
        ends_at: ended.map_or_else(|| NEVER.to_owned(), rfc3339),
        generator_url: format!("{external_url}/api/monitoring/alerts"),
        fingerprint: &alert.fingerprint,
    }
}

/// What all of them have.
fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let mut common = sets.next().cloned().unwrap_or_default();
    sets.for_each(|set| common.retain(|name, value| set.get(name) == Some(value)));
    common
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_payload_is_alertmanagers() {
        let mut notify = Notify::example();
        let mut other = notify.alerts[0].clone();
        other.state = AlertState::Resolved;
        other.labels.insert("service_name".into(), "video".into());
        other.annotations.clear();
        notify.alerts.push(other);
        let payload = serde_json::to_value(payload(&notify, "http://keelson")).unwrap();
        let alert = |service: &str, status: &str, ends_at: &str, annotations: serde_json::Value| {
            json!({
                "status": status,
                "labels": {"alertname": "HighErrorRate", "service_name": service, "severity": "critical"},
                "annotations": annotations,
                "startsAt": "2025-11-24T16:00:00.5Z",
                "endsAt": ends_at,
                "generatorURL": "http://keelson/api/monitoring/alerts",
                "fingerprint": notify.alerts[0].fingerprint,
            })
        };
        let summary = json!({"summary": "content: 12.5 % of requests fail (threshold 5 %)"});
        let expected = json!({
            "version": "4",
            "groupKey": "{}:{alertname=\"HighErrorRate\"}",
            "truncatedAlerts": 3,
            "status": "firing",
            "receiver": "ops",
            "groupLabels": {"alertname": "HighErrorRate"},
            "commonLabels": {"alertname": "HighErrorRate", "severity": "critical"},
            "commonAnnotations": {},
            "externalURL": "http://keelson",
            "alerts": [
                alert("content", "firing", NEVER, summary),
                alert("video", "resolved", "2025-11-24T16:01:30Z", json!({})),
            ],
        });
        assert_eq!(payload, expected);
    }
}
