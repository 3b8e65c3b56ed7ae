//! Bad spans of an OpenTelemetry SDK, which sends them five seconds late and in batches: they are judged by when they happened.

use std::time::Duration;

use keelson_tests::alerting::receiver;
use keelson_tests::keelson::Up;
use keelson_tests::place::Place;
use keelson_tests::webhook::Webhook;

use crate::foreign::{Application, node, python};

/// The SDKs' default batch delay is five seconds.
const TOLD_WITHIN: Duration = Duration::from_secs(45);

#[tokio::test]
async fn a_burst_of_bad_spans_of_python_alerts() {
    alerts("python", python()).await;
}

#[tokio::test]
async fn a_burst_of_bad_spans_of_node_alerts() {
    alerts("node", node()).await;
}

async fn alerts(service: &str, command: std::process::Command) {
    let hook = Webhook::start().await;
    let up = Up::start_in(Place::new().configured(&receiver("ops", &hook))).await;
    let application = Application::start(&up, service, command).await;
    let http = reqwest::Client::new();
    for _ in 0..20 {
        let answer = http.get(application.url("/flaky")).send().await.expect("an answer");
        assert_eq!(answer.status(), 500);
    }
    let told = hook.told_of("firing", "HighErrorRate", service, TOLD_WITHIN).await;
    println!("{service}: {}", told.alerts()[0].labels["alertname"]);
}
