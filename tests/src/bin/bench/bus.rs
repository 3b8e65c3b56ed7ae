//! Bus to aggregated: messages that wait on the stream, from the start of a metrics worker until slices hold every sample.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, context::PublishAckFuture};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use keelson_schemas::codec;
use keelson_schemas::slice::Slice;
use keelson_tests::binary;
use keelson_tests::keelson::run;
use keelson_tests::nats::{self, NatsServer};
use keelson_tests::place::Place;
use keelson_tests::process::Process;

use crate::samples::{self, BATCH};

/// Forty million samples: some four seconds of work, so that the start of the process, which has its own row, weighs little.
const MESSAGES: usize = 80_000;
/// Publishes whose acknowledgement is awaited at a time.
const IN_FLIGHT: usize = 256;
const PATIENCE: Duration = Duration::from_secs(120);

/// What one run gives, in samples a second.
pub struct Measured {
    /// The prefill: acknowledged publishes, many in flight.
    pub published_per_second: f64,
    /// From the start of the process to the last slice.
    pub aggregated_per_second: f64,
    /// From the first slice to the last.
    pub sustained_per_second: f64,
}

/// One run on a fresh server.
pub async fn measure() -> Measured {
    let server = NatsServer::start().await;
    let place = Place::new().env("NATS_URL", server.url());
    run(&place, &["bus", "apply"]);
    let published_per_second = publish(&server.url(), MESSAGES, IN_FLIGHT).await;

    let client = nats::connect(&server.url()).await;
    let mut slices = client.subscribe("keelson.slice.*").await.expect("a subscription");
    client.flush().await.expect("sent");
    let mut command = place.command(binary::keelson());
    command.args(["run", "metrics"]);
    let start = Instant::now();
    let _worker = Process::spawn("metrics", command);

    let all = (MESSAGES * BATCH) as u64;
    let (mut counted, mut first) = (0, None);
    while counted < all {
        let next = tokio::time::timeout(PATIENCE, slices.next()).await;
        let message =
            next.unwrap_or_else(|_| panic!("{counted} of {all} samples in slices")).expect("a slice");
        let slice: Slice = codec::decode(None, &message.payload).expect("a slice decodes");
        counted += slice.services.iter().map(|service| service.tally.samples).sum::<u64>();
        first.get_or_insert((Instant::now(), counted));
    }
    assert_eq!(counted, all);
    let (since, before) = first.expect("there was a slice");
    Measured {
        published_per_second,
        aggregated_per_second: all as f64 / start.elapsed().as_secs_f64(),
        sustained_per_second: (all - before) as f64 / since.elapsed().as_secs_f64(),
    }
}

/// Publishes batches, every one acknowledged; samples a second.
pub async fn publish(url: &str, messages: usize, in_flight: usize) -> f64 {
    let mut jetstream = nats::jetstream(url).await;
    jetstream.set_timeout(PATIENCE);
    let distinct: Vec<(String, Bytes)> =
        samples::messages().into_iter().map(|message| (message.subject, message.body.into())).collect();
    let run: u64 = rand::random();
    let start = Instant::now();
    let mut acks = FuturesUnordered::new();
    for number in 0..messages {
        let (subject, body) = &distinct[number % distinct.len()];
        acks.push(send(&jetstream, subject, body, &format!("{run:x}-{number}")).await.into_future());
        if acks.len() >= in_flight {
            acks.next().await.expect("one").expect("stored");
        }
    }
    while let Some(ack) = acks.next().await {
        ack.expect("stored");
    }
    (messages * BATCH) as f64 / start.elapsed().as_secs_f64()
}

async fn send(jetstream: &jetstream::Context, subject: &str, body: &Bytes, id: &str) -> PublishAckFuture {
    let message = jetstream::message::PublishMessage::build().payload(body.clone()).message_id(id);
    jetstream.send_publish(subject.to_owned(), message).await.expect("sent")
}
