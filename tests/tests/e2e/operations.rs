//! Operations: a command over HTTP, the same command by hand on the bus, and what is known of either.

use std::time::{Duration, Instant};

use keelson_tests::commands::{self, bury_a_good_one, ended, redrive};
use keelson_tests::keelson::{READY_WITHIN, SHOWN_WITHIN, Up};
use keelson_tests::nats;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_command_over_http_is_obeyed_once_under_its_key() {
    let up = Up::start().await;
    let letter = bury_a_good_one(&up.nats_url()).await;

    let path = redrive(&up.client(), letter, "once").await;
    assert_eq!(redrive(&up.client(), letter, "once").await, path, "the same key is the same operation");
    let record = ended(&up.client(), &path).await;
    assert_eq!(
        (&record["state"], &record["kind"]),
        (&json!("succeeded"), &json!("steward.redrive")),
        "{record}"
    );
    assert_eq!(record["requestedBy"], "tests", "{record}");
    assert_eq!(path, format!("/api/operations/{}", record["id"].as_str().expect("an id")));
    shows(&up, 1).await;

    let reused = up.client().request(Method::POST, &format!("/api/dead-letters/{letter}/redrive"));
    let reused = reused.header("idempotency-key", "once").json(&json!({"colour": "red"})).send().await;
    assert_eq!(reused.expect("an answer").status(), 422, "the same key with another body");

    redrive(&up.client(), letter, "twice").await;
    shows(&up, 2).await;
}

#[tokio::test]
async fn prefer_wait_answers_with_the_result() {
    let up = Up::start().await;
    let letter = bury_a_good_one(&up.nats_url()).await;
    let request = up.client().request(Method::POST, &format!("/api/dead-letters/{letter}/redrive"));
    let answer = request.header("prefer", "wait=10").json(&json!({})).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    let record: Value = answer.json().await.expect("JSON");
    assert_eq!(record["state"], "succeeded", "{record}");
}

#[tokio::test]
async fn events_end_with_the_final_state() {
    let up = Up::start().await;
    let letter = bury_a_good_one(&up.nats_url()).await;
    let path = redrive(&up.client(), letter, "watched").await;
    for when in ["while it runs", "after it has ended"] {
        let events =
            up.client().request(Method::GET, &format!("{path}/events")).send().await.expect("a stream");
        let kind = events.headers()["content-type"].to_str().expect("text").to_owned();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        let text = events.text().await.expect("the stream ends by itself");
        let last = text.lines().filter_map(|line| line.strip_prefix("data:")).next_back().expect("an event");
        let record: Value = serde_json::from_str(last.trim()).expect("JSON");
        assert_eq!(record["state"], "succeeded", "{when}: {text}");
    }
}

#[tokio::test]
async fn a_command_published_by_hand_is_obeyed() {
    let up = Up::start().await;
    let letter = bury_a_good_one(&up.nats_url()).await;
    let client = nats::connect(&up.nats_url()).await;
    let body = json!({"sequence": letter}).to_string();
    client.publish("keelson.cmd.steward.redrive", body.into()).await.expect("sent");
    client.flush().await.expect("sent");
    shows(&up, 1).await;

    let record = only_operation(&up).await;
    assert_eq!(
        (&record["state"], &record["requestedBy"]),
        (&json!("succeeded"), &json!("unverified")),
        "{record}"
    );
    assert_eq!(record["kind"], "steward.redrive");
}

#[tokio::test]
async fn a_command_that_cannot_be_obeyed_ends_rejected_and_says_why() {
    let up = Up::start().await;
    let client = nats::connect(&up.nats_url()).await;
    client.publish("keelson.cmd.steward.redrive", r#"{"sequence":4711}"#.into()).await.expect("sent");
    client.flush().await.expect("sent");
    let record = only_operation(&up).await;
    assert_eq!(record["state"], "rejected", "{record}");
    assert!(record["error"].as_str().is_some_and(|error| error.contains("4711")), "{record}");
}

/// The one operation that there is, once it has ended.
async fn only_operation(up: &Up) -> Value {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let (_, page) = up.client().get("/api/operations").await;
        if let Some([record]) = page["operations"].as_array().map(Vec::as_slice) {
            let path = format!("/api/operations/{}", record["id"].as_str().expect("an id"));
            return ended(&up.client(), &path).await;
        }
        assert!(Instant::now() < deadline, "not one operation: {page}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The export shows the sample of so many commands, no more a second later.
async fn shows(up: &Up, commands: u64) {
    up.client().scrape_until(SHOWN_WITHIN, |page| page.requests() >= commands).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let page = up.client().scrape(SHOWN_WITHIN).await;
    let service = commands::sample().series.service;
    assert_eq!(page.by_status(&service), [(200, commands)].into());
}
