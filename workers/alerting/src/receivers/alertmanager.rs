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

    /// Tells it how alerts stand at a Unix millisecond, and gives its reasons for what it refuses, which keeps nothing else from being told. It may be told the same as
    /// often as one likes.
    ///
    /// # Errors
    /// A failure that may pass; what came before it has arrived.
    pub async fn tell(&self, alerts: &[Alert], now_ms: u64) -> Result<Vec<String>, Failure> {
        let mut refused = Vec::new();
        for alerts in alerts.chunks(AT_ONCE) {
            let body: Vec<_> = alerts.iter().map(|alert| self.postable(alert, now_ms)).collect();
            let post = Post { url: &self.url, token: None, key: None, body: &body, hidden: None };
            match self.http.post(post).await {
                Err(Failure::Reject { reason }) => refused.push(reason),
                told => told?,
            }
        }
        Ok(refused)
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::extract::DefaultBodyLimit;
    use axum::http::StatusCode;
    use axum::routing::post;
    use axum::{Json, Router};
    use keelson_schemas::alerting::Notify;
    use keelson_schemas::message::Message;
    use serde_json::{Value, json};

    use super::*;

    /// An Alertmanager that refuses what has an alert of this name, and counts the others.
    async fn server(refuses: &'static str) -> (Alertmanager, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let take = async move |Json(alerts): Json<Vec<Value>>| {
            if alerts.iter().any(|alert| alert["labels"]["alertname"] == refuses) {
                return StatusCode::BAD_REQUEST;
            }
            count.fetch_add(alerts.len(), Ordering::SeqCst);
            StatusCode::OK
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route(PATH, post(take)).layer(DefaultBodyLimit::disable());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (Alertmanager::new(Http::new().unwrap(), &url.into(), "http://keelson"), taken)
    }

    #[tokio::test]
    async fn what_it_refuses_keeps_nothing_else_from_being_told() {
        let (alertmanager, taken) = server("Odd").await;
        let mut alerts = vec![Notify::example().alerts.remove(0); 3 * AT_ONCE];
        alerts[1].labels.insert("alertname".into(), "Odd".into());
        let refused = alertmanager.tell(&alerts, 1).await.unwrap();
        assert!(refused.len() == 1 && refused[0].contains("400"), "{refused:?}");
        assert_eq!(taken.load(Ordering::SeqCst), 2 * AT_ONCE);
    }

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
