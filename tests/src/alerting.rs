//! What tests of alerting share: configurations, and how Keelson is asked about alerts.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use crate::binary::repository;
use crate::client::Client;
use crate::webhook::Webhook;

/// How long a notification may take in a test. What is promised is measured where it is promised.
pub const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// The rule of tests/data/rules/short.toml.
pub const SHORT_RULE: &str = "ShortErrorRate";

/// The configuration of a receiver with a webhook, and no more.
pub fn receiver(name: &str, webhook: &Webhook) -> String {
    format!("[[alerting.receivers]]\nname = \"{name}\"\nwebhook_url = \"{}\"\n", webhook.url())
}

/// The configuration that has the short rule alone, and a receiver.
pub fn short_rule(webhook: &Webhook) -> String {
    format!("{}{}", rules_of("short.toml"), receiver("ops", webhook))
}

/// The configuration that has the rules of a file of tests/data/rules alone.
pub fn rules_of(file: &str) -> String {
    let path = rule_file(file);
    format!("[alerting]\ndefault_rules = false\nrule_files = [\"{path}\"]\n")
}

/// The path of a file of tests/data/rules.
pub fn rule_file(file: &str) -> String {
    let path = repository().join("tests/data/rules").join(file);
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// `GET /api/monitoring/alerts`, as soon as an active evaluator answers.
pub async fn alerts(client: &Client) -> Vec<Value> {
    alerts_when(client, "there", |_| true).await
}

/// The same, once they are as `are` wants them.
pub async fn alerts_when(client: &Client, what: &str, are: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + TOLD_WITHIN;
    loop {
        let answer = client.request(Method::GET, "/api/monitoring/alerts").send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        let seen = match answer {
            Ok(answer) => answer.json::<Value>().await.unwrap_or_default(),
            Err(error) => error.to_string().into(),
        };
        if let Some(alerts) = seen["alerts"].as_array().filter(|alerts| are(alerts)) {
            return alerts.clone();
        }
        assert!(Instant::now() < deadline, "the alerts are not {what}: {seen:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether an alert, as [`alerts`] shows it, is this one of this service in this state.
pub fn is(alert: &Value, alertname: &str, service: &str, state: &str) -> bool {
    let labels = &alert["labels"];
    labels["alertname"] == alertname && labels["service_name"] == service && alert["state"] == state
}
