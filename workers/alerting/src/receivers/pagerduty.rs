//! PagerDuty's Events API v2 (developer.pagerduty.com/docs/events-api-v2): one incident a group.

use keelson_kit::config::Secret;
use keelson_kit::failure::Failure;
use keelson_schemas::alerting::{Alert, AlertState, Notify};
use keelson_schemas::id;
use serde_json::{Value, json};

use super::http::{Http, Post};
use super::text::{labels, rfc3339, shortened, summary, title};

const EVENTS: &str = "https://events.pagerduty.com/v2/enqueue";
/// The limit of `payload.summary`.
const MOST_SUMMARY_CHARS: usize = 1024;
/// Alerts that are listed in the details: an event has at most 512 kB.
const MOST_LISTED: usize = 50;
/// Characters of a listed alert.
const MOST_LINE_CHARS: usize = 500;

/// An integration with a PagerDuty service.
#[derive(Debug)]
pub struct PagerDuty {
    http: Http,
    url: Secret,
    routing_key: Secret,
    external_url: String,
}

impl PagerDuty {
    pub(super) fn new(http: Http, url: Option<&str>, routing_key: Secret, external_url: &str) -> Self {
        let url = url.unwrap_or(EVENTS).to_owned().into();
        Self { http, url, routing_key, external_url: external_url.to_owned() }
    }

    pub(super) async fn send(&self, notify: &Notify) -> Result<(), Failure> {
        let body = &event(notify, self.routing_key.expose(), &self.external_url);
        let (url, key, hidden) = (&self.url, Some(notify.key.as_str()), Some(&self.routing_key));
        self.http.post(Post { url, token: None, key, body, hidden }).await
    }
}

fn event(notify: &Notify, routing_key: &str, external_url: &str) -> Value {
    let dedup_key = id::derive("incident", &[&notify.receiver, &notify.group_key]);
    let mut event = json!({"routing_key": routing_key, "dedup_key": dedup_key, "event_action": "resolve"});
    if notify.status() == AlertState::Firing {
        event["event_action"] = "trigger".into();
        event["client"] = "Keelson".into();
        event["client_url"] = format!("{external_url}/api/monitoring/alerts").into();
        event["payload"] = payload(notify, external_url);
    }
    event
}

fn payload(notify: &Notify, external_url: &str) -> Value {
    let firing: Vec<&Alert> =
        notify.alerts.iter().filter(|alert| alert.state != AlertState::Resolved).collect();
    let worst = firing.iter().min_by_key(|alert| rank(alert)).copied();
    let label = |name: &str| worst.and_then(|alert| alert.labels.get(name)).cloned();
    let said = worst.map_or_else(|| title(notify), summary);
    let summary = if firing.len() > 1 { format!("{} {said}", title(notify)) } else { said };
    json!({
        "summary": shortened(&summary, MOST_SUMMARY_CHARS),
        "source": label("instance").or_else(|| label("service_name")).unwrap_or_else(|| external_url.to_owned()),
        "severity": severity(worst),
        "timestamp": worst.and_then(|alert| alert.starts_at_ms).map(rfc3339),
        "component": label("service_name"),
        "group": notify.group_key,
        "class": label("alertname"),
        "custom_details": {
            "firing": listed(firing.iter().copied()),
            "resolved": listed(notify.alerts.iter().filter(|alert| alert.state == AlertState::Resolved)),
            "more_firing": notify.more,
        },
    })
}

fn listed<'a>(alerts: impl Iterator<Item = &'a Alert>) -> Vec<String> {
    let line = |alert: &Alert| shortened(&format!("{} ({})", summary(alert), labels(alert)), MOST_LINE_CHARS);
    alerts.take(MOST_LISTED).map(line).collect()
}

/// PagerDuty knows these and no other.
const SEVERITIES: [&str; 4] = ["critical", "error", "warning", "info"];

fn rank(alert: &&Alert) -> usize {
    let severity = alert.labels.get("severity").map_or("", String::as_str);
    SEVERITIES.iter().position(|known| *known == severity).unwrap_or(1)
}

fn severity(alert: Option<&Alert>) -> &'static str {
    alert.map_or("error", |alert| SEVERITIES[rank(&alert)])
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn an_incident_opens_and_closes_under_one_key() {
        let mut notify = Notify::example();
        let opened = event(&notify, "R", "http://keelson");
        assert_eq!((&opened["event_action"], &opened["routing_key"]), (&json!("trigger"), &json!("R")));
        assert_eq!(opened["payload"]["summary"], "content: 12.5 % of requests fail (threshold 5 %)");
        assert_eq!(opened["payload"]["source"], "content");
        assert_eq!(opened["payload"]["severity"], "critical");
        assert_eq!(opened["payload"]["timestamp"], "2025-11-24T16:00:00.5Z");
        assert_eq!(opened["payload"]["class"], "HighErrorRate");

        notify.alerts[0].state = AlertState::Resolved;
        assert_eq!(event(&notify, "R", "")["event_action"], "trigger", "others of the group fire on");
        notify.more = 0;
        let closed = event(&notify, "R", "");
        assert_eq!(closed["event_action"], "resolve");
        assert_eq!(closed["dedup_key"], opened["dedup_key"]);
        assert!(closed.get("payload").is_none());
    }

    #[test]
    fn an_event_stays_within_the_limits_and_takes_the_worst_severity() {
        let mut notify = Notify::example();
        let mut unknown = notify.alerts[0].clone();
        unknown.labels.insert("severity".into(), "page".into());
        unknown.annotations.insert("summary".into(), "x".repeat(5000));
        notify.alerts = vec![unknown; 100];
        let large = event(&notify, "R", "");
        assert_eq!(large["payload"]["severity"], "error");
        assert_eq!(large["payload"]["summary"].as_str().unwrap().chars().count(), MOST_SUMMARY_CHARS);
        assert!(large.to_string().len() < 512 * 1000);
        notify.alerts[7].labels.insert("severity".into(), "critical".into());
        assert_eq!(event(&notify, "R", "")["payload"]["severity"], "critical");
    }
}
