//! A real Alertmanager that is kept informed (POST /api/v2/alerts, as Prometheus does): not notified but told how things stand, again and again, since it takes
//! an alert for resolved that it has not heard of for a while. Silencing, inhibiting, grouping and notifying are its own.

use std::time::Duration;

use keelson_kit::config::Secret;
use keelson_kit::failure::Failure;
use keelson_schemas::alerting::{Alert, AlertState, Labels};
use serde::Serialize;

use super::http::{Http, Post};
use super::text::rfc3339;

/// How often everything is told again.
pub const EVERY: Duration = Duration::from_secs(60);
/// An alert that fires is taken for resolved when nothing was heard of it for so long: three times may fail.
const LASTS_MS: u64 = 4 * 60 * 1000;
/// Alerts in one request.
const AT_ONCE: usize = 500;
/// The path below an Alertmanager's address.
const PATH: &str = "/api/v2/alerts";

/// An Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    http: Http,
    url: Secret,
    external_url: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PostableAlert<'a> {
    labels: &'a Labels,
    annotations: &'a Labels,
    starts_at: Option<String>,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
}

impl Alertmanager {
    /// The one at an address.
    #[must_use]
    pub fn new(http: Http, url: &Secret, external_url: &str) -> Self {
        let url = format!("{}{PATH}", url.expose().trim_end_matches('/')).into();
        Self { http, url, external_url: external_url.to_owned() }
    }

    /// Tells it how alerts stand at a Unix millisecond. It may be told the same as often as one likes.
    ///
    /// # Errors
    /// As [`Http::post`] has them; what came before the failure has arrived.
    pub async fn tell(&self, alerts: &[Alert], now_ms: u64) -> Result<(), Failure> {
        for alerts in alerts.chunks(AT_ONCE) {
            let body: Vec<_> = alerts.iter().map(|alert| self.postable(alert, now_ms)).collect();
            self.http
                .post(Post { url: &self.url, token: None, key: None, body: &body, hidden: None })
                .await?;
        }
        Ok(())
    }

    fn postable<'a>(&self, alert: &'a Alert, now_ms: u64) -> PostableAlert<'a> {
        let ended = (alert.state == AlertState::Resolved).then_some(alert.ends_at_ms).flatten();
        PostableAlert {
            labels: &alert.labels,
            annotations: &alert.annotations,
            starts_at: alert.starts_at_ms.map(rfc3339),
            ends_at: rfc3339(ended.unwrap_or(now_ms + LASTS_MS)),
            generator_url: format!("{}/api/monitoring/alerts", self.external_url),
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_schemas::alerting::Notify;
    use keelson_schemas::message::Message;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_fires_lasts_until_the_next_telling_and_some_more() {
        let http = Http::new().unwrap();
        let alertmanager = Alertmanager::new(http, &"http://a:9093/".to_owned().into(), "http://keelson");
        assert_eq!(alertmanager.url.expose(), "http://a:9093/api/v2/alerts");
        let mut alert = Notify::example().alerts.remove(0);
        let now_ms = 1_764_000_060_000;
        let posted = serde_json::to_value(alertmanager.postable(&alert, now_ms)).unwrap();
        assert_eq!(posted["startsAt"], json!("2025-11-24T16:00:00.5Z"));
        assert_eq!(posted["endsAt"], json!("2025-11-24T16:05:00Z"));
        alert.state = AlertState::Resolved;
        let posted = serde_json::to_value(alertmanager.postable(&alert, now_ms)).unwrap();
        assert_eq!(posted["endsAt"], json!("2025-11-24T16:01:30Z"));
    }
}
