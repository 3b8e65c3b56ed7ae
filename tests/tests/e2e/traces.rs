//! Traces, as a real OTLP/gRPC receiver gets them: one from the caller's span over the bus to the checkpoint.

use std::time::Duration;

use keelson_schemas::subject::{self, partition_of};
use keelson_tests::client::{body_of, now_ms};
use keelson_tests::keelson::Up;
use keelson_tests::ledger::{Sample, Series};
use keelson_tests::nats;
use keelson_tests::otlp::{Receiver, Span, ancestry};
use keelson_tests::place::Place;
use reqwest::Method;

/// Spans travel in batches, and a checkpoint may be seconds away.
const RECEIVED_WITHIN: Duration = Duration::from_secs(60);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const SERVICE: &str = "content";

#[tokio::test]
async fn one_trace_leads_from_the_callers_span_to_the_checkpoint() {
    let receiver = Receiver::start().await;
    let up = Up::start_in(Place::new().env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint())).await;
    send_traced(&up).await;

    let partition = partition_of(SERVICE);
    let (tel, slice) = (subject::tel(partition), subject::slice(partition));
    let checkpoint = format!("checkpoint metrics.{partition}");
    let way = receiver
        .wait("way from the request to the checkpoint", RECEIVED_WITHIN, |spans| {
            let last = spans.iter().find(|span| span.name == checkpoint && span.trace_id == TRACE)?;
            let way = ancestry(spans, last);
            way.last().is_some_and(|first| first.parent_id == CALLER).then(|| names(&way))
        })
        .await;
    println!("{}", way.join(" < "));
    let expected = [
        checkpoint,
        format!("commit {slice}"),
        format!("process {tel}"),
        format!("publish {tel}"),
        "POST /api/telemetry".to_owned(),
    ];
    let missing: Vec<_> = expected.iter().filter(|name| !way.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?} are not in {way:?}");
    assert!(receiver.spans().iter().all(|span| span.service == "keelson"), "a span of another service");
}

#[tokio::test]
async fn the_service_has_the_name_that_it_is_given() {
    let receiver = Receiver::start().await;
    let place = Place::new().env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint());
    let up = Up::start_in(place.env("OTEL_SERVICE_NAME", "pipeline")).await;
    send_traced(&up).await;
    let span = receiver
        .wait("span of the request", RECEIVED_WITHIN, |spans| first(spans, "POST /api/telemetry"))
        .await;
    assert_eq!((span.service.as_str(), span.trace_id.as_str()), ("pipeline", TRACE));
}

#[tokio::test]
async fn a_command_published_by_hand_begins_a_trace_and_its_failure_shows() {
    let receiver = Receiver::start().await;
    let up = Up::start_in(Place::new().env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint())).await;
    let client = nats::connect(&up.nats_url()).await;
    client.publish("keelson.cmd.steward.redrive", r#"{"sequence":4711}"#.into()).await.expect("sent");
    client.flush().await.expect("sent");

    let name = "process keelson.cmd.steward.redrive";
    let span = receiver.wait(name, RECEIVED_WITHIN, |spans| first(spans, name)).await;
    assert_eq!(span.parent_id, "", "nobody sent a context");
    assert!(span.failed, "the effect failed: {span:?}");
    assert_eq!(span.service, "keelson");
    let buried = receiver.wait("span of the dead letter", RECEIVED_WITHIN, |spans| {
        spans
            .iter()
            .find(|other| other.trace_id == span.trace_id && other.name.contains("keelson.dlq.COMMANDS"))
            .cloned()
    });
    assert_eq!(buried.await.parent_id, span.span_id);
}

async fn send_traced(up: &Up) {
    let series = Series { service: SERVICE.into(), method: "GET".into(), route: "/".into(), status: 200 };
    let samples = [Sample { ts: now_ms(), series, duration_us: Some(1_000) }];
    let request = up.client().request(Method::POST, "/api/telemetry").json(&body_of(SERVICE, &samples));
    let sent =
        request.header("traceparent", format!("00-{TRACE}-{CALLER}-01")).send().await.expect("an answer");
    assert_eq!(sent.status(), 202);
}

fn first(spans: &[Span], name: &str) -> Option<Span> {
    spans.iter().find(|span| span.name == name).cloned()
}

fn names(spans: &[&Span]) -> Vec<String> {
    spans.iter().map(|span| span.name.clone()).collect()
}
