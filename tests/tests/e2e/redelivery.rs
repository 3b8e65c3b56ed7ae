//! A worker that dies between effect and acknowledgement gets the message again: the effect happens once, and the trace shows both attempts.

use std::time::Duration;

use keelson_tests::binary;
use keelson_tests::commands::{self, bury_a_good_one, ended, redrive};
use keelson_tests::keelson::{SHOWN_WITHIN, Separate};
use keelson_tests::otlp::{Receiver, Span};
use keelson_tests::place::Place;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_redelivered_command_has_one_effect_and_one_trace() {
    let receiver = Receiver::start().await;
    let place = Place::new().env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint());
    let mut all = Separate::start_of(binary::under_test(), place, 1).await;
    let letter = bury_a_good_one(&all.nats.url()).await;
    all.start_steward(&[("KEELSON_FAULTS", "command.effected:1")]);

    let path = redrive(&all.client(), letter, "once").await;
    let died = all.steward.as_mut().expect("it was started").end(PATIENCE).await;
    assert!(died.is_some_and(|status| !status.success()), "the steward did not die at its fault point");
    all.start_steward(&[]);
    let record = ended(&all.client(), &path).await;
    assert_eq!((&record["state"], &record["attempts"]), (&"succeeded".into(), &2.into()), "{record}");

    let page = all.client().scrape_until(SHOWN_WITHIN, |page| page.requests() > 0).await;
    assert_eq!(page.by_status(&commands::sample().series.service), [(200, 1)].into());

    // The attempt that died took its own span along; the second is a child of the same publish in the same trace as the request.
    let second = receiver.wait("span of the second attempt", PATIENCE, second_attempt).await;
    let spans = receiver.spans();
    let of_trace =
        |name: &str| spans.iter().any(|span| span.name.contains(name) && span.trace_id == second.trace_id);
    assert!(of_trace("POST /api/dead-letters"), "the redelivery is not in the trace of its request");
}

fn second_attempt(spans: &[Span]) -> Option<Span> {
    let processed = spans.iter().filter(|span| span.name == "process keelson.cmd.steward.redrive");
    let delivered =
        |span: &&Span| span.attributes.get("messaging.nats.delivered").is_some_and(|times| times == "2");
    processed.clone().find(delivered).cloned()
}
