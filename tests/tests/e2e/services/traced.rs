//! Every attempt at a call is in its trace, and whoever is called goes on with it.

use std::time::Duration;

use keelson_tests::keelson::Up;
use keelson_tests::otlp::{Receiver, Span, ancestry};
use keelson_tests::place::Place;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Content, PATH, QUICK};

/// Spans travel in batches.
const RECEIVED_WITHIN: Duration = Duration::from_secs(60);
const CALLER: &str = "00f067aa0ba902b7";

/// Calls in a trace of its own; how many attempts were made.
async fn attempts(up: &Up, trace: &str) -> usize {
    let request = up.client().request(Method::POST, &format!("{PATH}/content/call"));
    let request = request.header("traceparent", format!("00-{trace}-{CALLER}-01"));
    let sent = request.json(&json!({"method": "GET", "path": "/v1/videos?token=secret"})).send().await;
    let reply: Value = sent.expect("an answer").json().await.expect("JSON");
    assert_eq!(reply["status"], 200, "{reply}");
    reply["attempts"].as_array().expect("attempts").len()
}

fn of_attempts(spans: &[Span], trace: &str) -> Option<Vec<Span>> {
    let mut found: Vec<Span> = spans
        .iter()
        .filter(|span| span.trace_id == trace && span.attributes.contains_key("http.request.resend_count"))
        .cloned()
        .collect();
    found.sort_by_key(|span| span.attributes["http.request.resend_count"].clone());
    // The first that was asked for comes last.
    let whole = spans.iter().any(|span| span.trace_id == trace && span.parent_id == CALLER);
    (whole && found.len() >= 2).then_some(found)
}

#[tokio::test]
async fn a_trace_shows_every_attempt_of_a_call() {
    let receiver = Receiver::start().await;
    let place = Place::new().configured(QUICK).env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint());
    let up = Up::start_in(place).await;
    let (ill, well) = (Content::start().await, Content::start().await);
    ill.say(503);
    up.command(&["services", "register", "content", &ill.url(), &well.url(), "--allow", "GET /v1/*"]);
    // They take turns, so that one of two calls comes to the one that is ill first.
    let mut twice = None;
    for number in 1..=2 {
        let trace = format!("{number:032x}");
        if attempts(&up, &trace).await == 2 {
            twice = Some(trace);
        }
    }
    let trace = twice.expect("a call with two attempts");

    let both =
        receiver.wait("spans of both attempts", RECEIVED_WITHIN, |spans| of_attempts(spans, &trace)).await;
    assert_eq!(both.len(), 2, "{both:#?}");
    let of = |span: &Span, name: &str| span.attributes.get(name).cloned().unwrap_or_default();
    assert_eq!(both.iter().map(|span| of(span, "http.request.resend_count")).collect::<Vec<_>>(), ["0", "1"]);
    assert_eq!(
        both.iter().map(|span| of(span, "http.response.status_code")).collect::<Vec<_>>(),
        ["503", "200"]
    );
    assert_eq!(both.iter().map(|span| span.failed).collect::<Vec<_>>(), [true, false]);
    for (span, asked) in both.iter().zip([&ill, &well]) {
        // What is asked for may be nobody's business.
        assert_eq!(of(span, "url.full"), format!("{}/v1/videos", asked.url()));
        let spans = receiver.spans();
        let way = ancestry(&spans, span);
        assert_eq!(way.last().map(|first| first.parent_id.as_str()), Some(CALLER), "{way:#?}");
        let got = asked.traced.lock().expect("traces").clone();
        assert!(got.contains(&format!("00-{trace}-{}-01", span.span_id)), "{got:?} is not of {span:?}");
    }
}
