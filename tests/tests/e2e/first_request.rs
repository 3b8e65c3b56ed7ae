//! The first minute of a newcomer: `keelson up` with nothing configured, one request with the token that it made, and the count.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use keelson_tests::keelson::{SHOWN_WITHIN, Up};
use keelson_tests::place::Place;
use keelson_tests::process::Process;
use keelson_tests::scrape::Scrape;
use serde_json::{Value, json};

#[tokio::test]
async fn the_first_request_is_counted() {
    let mut up = Up::start_in(Place::without_token()).await;
    let (url, file) = (up.place().url(), up.place().data().join("admin-token"));
    let told = |line: &str| line.contains("admin-token").then_some(());
    up.process().line(Duration::from_secs(5), told).await;
    let mode = std::fs::metadata(&file).expect("the token's file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "others can read the token");
    let token = std::fs::read_to_string(&file).expect("the token");

    let http = reqwest::Client::new();
    let body = json!({"service": "content", "http": [{"method": "GET", "route": "/", "status": 200, "duration_us": 12500}]});
    let post = || http.post(format!("{url}/api/telemetry")).json(&body);
    let refused = post().bearer_auth("guess").send().await.expect("an answer");
    assert_eq!(refused.status(), 401, "with a wrong token");
    let accepted = post().bearer_auth(token.trim()).send().await.expect("an answer");
    assert_eq!(accepted.status(), 202);
    assert_eq!(accepted.json::<Value>().await.expect("JSON"), json!({"accepted": 1}));

    // On loopback, telemetry and reading need no token, so that any OpenTelemetry SDK works out of the box.
    assert_eq!(post().send().await.expect("an answer").status(), 202);
    let deadline = std::time::Instant::now() + SHOWN_WITHIN;
    loop {
        let answer = http.get(format!("{url}/api/monitoring/prometheus")).send().await.expect("an answer");
        if answer.status() == 200 && Scrape::parse(&answer.text().await.expect("a page")).requests() == 2 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the requests are not shown");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let private = http.get(format!("{url}/api/monitoring/metrics")).send().await.expect("an answer");
    assert_eq!(private.status(), 401, "the summary is for admins");
}

#[tokio::test]
async fn open_to_others_it_refuses_to_start_without_tokens() {
    let place = Place::without_token().env("KEELSON_HTTP_ADDR", "0.0.0.0:0");
    let mut command = place.command(keelson_tests::binary::keelson());
    command.arg("up");
    let mut process = Process::spawn("keelson up", command);
    let ended = process.end(Duration::from_secs(10)).await;
    let said = process.output();
    assert!(ended.is_some_and(|status| !status.success()) && said.contains("auth.tokens"), "{said}");
}
