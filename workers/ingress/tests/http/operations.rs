use bytes::Bytes;
use jiff::Timestamp;
use keelson_kit::publish::fresh_id;
use keelson_kit::role::Role;
use keelson_kit::steward::{Steward, StewardConfig};
use keelson_schemas::dead_letter::DeadLetter;
use keelson_schemas::message::Message;
use serde_json::{Value, json};

use crate::fixture::{Fixture, header, problem};

/// A fixture with a steward and one dead letter that can be redriven; its number.
async fn with_a_letter(steward: bool) -> (Fixture, u64) {
    let fixture = Fixture::start().await;
    if steward {
        Steward::start(StewardConfig::default(), fixture.context()).await.expect("the steward starts");
    }
    let sequence = bury(&fixture).await;
    (fixture, sequence)
}

async fn bury(fixture: &Fixture) -> u64 {
    let letter = DeadLetter {
        subject: "keelson.evt.test.happened".into(),
        headers: Vec::new(),
        payload: Bytes::from_static(b"{}"),
        failed_at: Timestamp::now(),
        ..DeadLetter::example()
    };
    let published = fixture.bus.publish_message("keelson.dlq.EVENTS.test", fresh_id(), &letter).await;
    published.expect("stored").sequence
}

fn redrive(fixture: &Fixture, sequence: u64) -> reqwest::RequestBuilder {
    fixture.client.post(fixture.url(&format!("/api/dead-letters/{sequence}/redrive"))).bearer_auth("t-admin")
}

async fn json_of(request: reqwest::RequestBuilder) -> Value {
    request.send().await.expect("an answer").json().await.expect("JSON")
}

#[tokio::test]
async fn a_command_is_accepted_obeyed_and_watched() {
    let (fixture, sequence) = with_a_letter(true).await;
    let response = redrive(&fixture, sequence).send().await.expect("an answer");
    assert_eq!(response.status(), 202);
    let location = header(&response, "location").to_owned();
    let operation: Value = response.json().await.expect("JSON");
    assert_eq!(location, format!("/api/operations/{}", operation["id"].as_str().expect("an id")));
    assert_eq!(
        (&operation["kind"], &operation["requestedBy"]),
        (&json!("steward.redrive"), &json!("t-admin"))
    );

    let events = fixture.get(&format!("{location}/events")).send().await.expect("an answer");
    assert_eq!(header(&events, "content-type"), "text/event-stream");
    let events = events.text().await.expect("the stream ends with the operation");
    let last = events.lines().rev().find_map(|line| line.strip_prefix("data: ")).expect("an event");
    let ended: Value = serde_json::from_str(last).expect("JSON");
    assert_eq!((&ended["state"], &ended["id"]), (&json!("succeeded"), &operation["id"]), "{ended}");
    assert_eq!(json_of(fixture.get(&location)).await, ended);
    assert_eq!(fixture.stored("EVENTS").await.len(), 1, "the message is published again");

    let listed = json_of(fixture.get("/api/operations?state=succeeded&limit=5")).await;
    assert_eq!(listed["operations"], json!([ended]));
    assert_eq!(json_of(fixture.get("/api/operations?state=failed")).await["operations"], json!([]));
}

#[tokio::test]
async fn a_wait_brings_the_end_of_the_operation() {
    let (fixture, sequence) = with_a_letter(true).await;
    let response = redrive(&fixture, sequence).header("prefer", "wait=10").send().await.expect("an answer");
    assert_eq!((response.status().as_u16(), header(&response, "preference-applied")), (200, "wait=10"));
    assert_eq!(response.json::<Value>().await.expect("JSON")["state"], "succeeded");

    let missing = redrive(&fixture, 4711).header("prefer", "wait=10").send().await.expect("an answer");
    assert_eq!(missing.json::<Value>().await.expect("JSON")["state"], "rejected");
}

#[tokio::test]
async fn without_an_owner_a_command_stays_accepted() {
    let (fixture, sequence) = with_a_letter(false).await;
    let response = redrive(&fixture, sequence).header("prefer", "wait=1").send().await.expect("an answer");
    assert_eq!(response.status(), 202);
    assert_eq!(response.json::<Value>().await.expect("JSON")["state"], "accepted");
}

#[tokio::test]
async fn the_same_key_is_the_same_operation() {
    let (fixture, sequence) = with_a_letter(true).await;
    let other = bury(&fixture).await;
    let ask = async |sequence, key: &str| -> Value {
        let request = redrive(&fixture, sequence).header("idempotency-key", key);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 202);
        response.json().await.expect("JSON")
    };
    let first = ask(sequence, "k1").await;
    assert_eq!(ask(sequence, "k1").await["id"], first["id"]);
    assert_ne!(ask(sequence, "k2").await["id"], first["id"]);
    assert_ne!(ask(other, "k1").await["id"], first["id"], "another path is another operation");
}

#[tokio::test]
async fn dead_letters_are_listed_newest_first_and_paged() {
    let (fixture, first) = with_a_letter(false).await;
    let (second, third) = (bury(&fixture).await, bury(&fixture).await);
    let numbers = async |query: &str| -> Vec<u64> {
        let page = json_of(fixture.get(&format!("/api/dead-letters{query}")).bearer_auth("t-admin")).await;
        let letters = page["letters"].as_array().expect("letters").clone();
        letters.iter().filter_map(|letter| letter["sequence"].as_u64()).collect()
    };
    assert_eq!(numbers("").await, [third, second, first]);
    assert_eq!(numbers("?limit=2").await, [third, second]);
    assert_eq!(numbers(&format!("?limit=2&before={second}")).await, [first]);
    let one = json_of(fixture.get(&format!("/api/dead-letters/{second}")).bearer_auth("t-admin")).await;
    assert_eq!(
        (&one["sequence"], &one["letter"]["subject"]),
        (&json!(second), &json!("keelson.evt.test.happened"))
    );
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_told_as_a_problem() {
    let (fixture, sequence) = with_a_letter(false).await;
    let unknown = format!("/api/operations/{}", "0".repeat(32));
    let cases = [
        (fixture.get(&unknown), 404),
        (fixture.get(&format!("{unknown}/events")), 404),
        (fixture.get("/api/operations/%2e%2e"), 404),
        (fixture.get("/api/operations?state=lost"), 422),
        (fixture.get("/api/operations?colour=red"), 422),
        (fixture.get("/api/dead-letters"), 401),
        (fixture.get("/api/dead-letters").bearer_auth("t-read"), 403),
        (fixture.get("/api/dead-letters/4711").bearer_auth("t-admin"), 404),
        (fixture.get("/api/dead-letters/seven").bearer_auth("t-admin"), 404),
        (fixture.client.post(fixture.url("/api/dead-letters/1/redrive")), 401),
        (redrive(&fixture, sequence).body("{\"colour\":\"red\"}"), 422),
        (redrive(&fixture, sequence).body("{"), 400),
        (redrive(&fixture, sequence).header("idempotency-key", ""), 422),
    ];
    for (i, (request, expected)) in cases.into_iter().enumerate() {
        assert_eq!(problem(request).await.0, expected, "case {i}");
    }
}
