//! An incoming webhook of Slack (docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).

use keelson_kit::config::Secret;
use keelson_kit::failure::Failure;
use keelson_schemas::alerting::{Alert, AlertState, Notify};
use serde_json::{Value, json};

use super::http::{Http, Post};
use super::text::{shortened, summary, title};

/// A header block takes 150 characters.
const MOST_TITLE_CHARS: usize = 150;
/// A section block takes 3,000 characters.
const MOST_TEXT_CHARS: usize = 3000;
/// Alerts that are listed, with a line of at most 130 characters each.
const MOST_LISTED: usize = 20;
/// Characters of an alert's line.
const MOST_LINE_CHARS: usize = 130;

/// An incoming webhook.
#[derive(Debug)]
pub struct Slack {
    http: Http,
    url: Secret,
    external_url: String,
}

impl Slack {
    pub(super) fn new(http: Http, url: Secret, external_url: &str) -> Self {
        Self { http, url, external_url: external_url.to_owned() }
    }

    pub(super) async fn send(&self, notify: &Notify) -> Result<(), Failure> {
        let body = &payload(notify, &self.external_url);
        self.http.post(Post { url: &self.url, token: None, key: Some(&notify.key), body, hidden: None }).await
    }
}

fn payload(notify: &Notify, external_url: &str) -> Value {
    let title = shortened(&title(notify), MOST_TITLE_CHARS);
    let color = if notify.status() == AlertState::Firing { "danger" } else { "good" };
    json!({
        "text": escaped(&title),
        "attachments": [{
            "color": color,
            "fallback": escaped(&title),
            "blocks": [
                {"type": "section", "text": {"type": "mrkdwn", "text": lines(notify)}},
                {"type": "context", "elements": [{"type": "mrkdwn", "text": format!("<{external_url}/api/monitoring/alerts|Keelson>")}]},
            ],
        }],
    })
}

/// A line an alert.
fn lines(notify: &Notify) -> String {
    let mut lines: Vec<String> = notify.alerts.iter().take(MOST_LISTED).map(line).collect();
    let more = notify.alerts.len().saturating_sub(MOST_LISTED) as u64 + notify.more;
    if more > 0 {
        lines.push(format!("… and {more} more"));
    }
    shortened(&lines.join("\n"), MOST_TEXT_CHARS)
}

fn line(alert: &Alert) -> String {
    let mark = if alert.state == AlertState::Resolved { ":white_check_mark:" } else { ":fire:" };
    let severity =
        alert.labels.get("severity").map_or(String::new(), |severity| format!("*{}* ", escaped(severity)));
    format!("{mark} {severity}{}", escaped(&shortened(&summary(alert), MOST_LINE_CHARS)))
}

/// The three characters that mean something to Slack.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn a_message_stays_within_slacks_limits_and_escapes_what_it_must() {
        let mut notify = Notify::example();
        notify.alerts[0].annotations.insert("summary".into(), "a < b & c".into());
        let small = payload(&notify, "http://keelson");
        assert_eq!(small["attachments"][0]["color"], "danger");
        assert_eq!(small["text"], "[FIRING:4] HighErrorRate");
        let text = small["attachments"][0]["blocks"][0]["text"]["text"].as_str().unwrap();
        assert_eq!(text, ":fire: *critical* a &lt; b &amp; c\n… and 3 more");

        notify.alerts[0].annotations.insert("summary".into(), "<".repeat(5000));
        notify.alerts = vec![notify.alerts[0].clone(); 100];
        notify.group_labels.insert("x".into(), "y".repeat(500));
        let large = payload(&notify, "http://keelson");
        assert!(large["text"].as_str().unwrap().chars().count() <= MOST_TITLE_CHARS);
        let text = large["attachments"][0]["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(text.chars().count() <= MOST_TEXT_CHARS);
    }
}
