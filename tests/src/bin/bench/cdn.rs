//! Changed content to a purge that Varnish has acknowledged: `keelson up` beside nats-server, Varnish, its origin and whoever publishes, on the same cores. Each event is about
//! a URL of its own, so that nothing is saved by sending one purge for many; each is sent again after the rebound and verified through the edge.
//!
//! KEELSON_BENCH_CDN_RATE and KEELSON_BENCH_CDN_SECONDS set events a second, and for how long.

use std::time::{Duration, Instant};

use async_nats::jetstream;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use keelson_schemas::cdn::{ContentChanged, PurgeOutcomes, Version};
use keelson_schemas::codec;
use keelson_tests::keelson::Up;
use keelson_tests::nats;
use keelson_tests::place::Place;
use keelson_tests::varnish::Varnish;
use reqwest::{Client, Method};

/// Events a second, and for how many seconds.
const RATE: usize = 5_000;
const SECONDS: usize = 60;
/// Publishes whose acknowledgement is awaited at a time.
const IN_FLIGHT: usize = 512;
/// For how long bare purges are made.
const BARE: Duration = Duration::from_secs(3);
/// What has not ended for so long will not.
const PATIENCE: Duration = Duration::from_secs(120);
const HOST: &str = "edge.example:6081";

/// What one run gives.
pub struct Measured {
    /// PURGE requests a second, one after another, by themselves.
    pub bare_per_second: f64,
    /// Events stored a second.
    pub events_per_second: f64,
    /// From the event's storage to Varnish's acknowledgement, seconds.
    pub acknowledged_median: f64,
    /// The same.
    pub acknowledged_99: f64,
    /// From the last event until every purge was sent again and verified, seconds.
    pub drained: f64,
}

/// One run.
pub async fn measure() -> Measured {
    let varnish = Varnish::start().await;
    let bare_per_second = bare(varnish.url()).await;
    let section = format!(
        "[cdn]\nproviders = [\"varnish\"]\ndomain = \"{HOST}\"\norigin = \"{}\"\n[cdn.varnish]\nurls = [\"{}\"]\n",
        varnish.origin(),
        varnish.url()
    );
    let up = Up::start_in(Place::new().configured(&section)).await;
    let (rate, seconds) = (setting("RATE", RATE), setting("SECONDS", SECONDS));
    let outcomes = tokio::spawn(outcomes(up.nats_url(), rate * seconds));
    let start = Instant::now();
    publish(&up.nats_url(), rate, rate * seconds).await;
    let published = Instant::now();
    let mut after = outcomes.await.expect("the outcomes");
    let drained = published.elapsed().as_secs_f64();
    after.sort_unstable();
    let share = |share: usize| after[(after.len() - 1) * share / 100] as f64 / 1e3;
    Measured {
        bare_per_second,
        events_per_second: (rate * seconds) as f64 / (published - start).as_secs_f64(),
        acknowledged_median: share(50),
        acknowledged_99: share(99),
        drained,
    }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(format!("KEELSON_BENCH_CDN_{name}")).map_or(default, |text| text.parse().expect("a number"))
}

async fn bare(url: &str) -> f64 {
    let client = Client::builder().no_proxy().build().expect("a client");
    let (start, mut made) = (Instant::now(), 0_u32);
    while start.elapsed() < BARE {
        let method = Method::from_bytes(b"PURGE").expect("a method");
        let answer = client.request(method, format!("{url}/bare/{made}")).header("host", HOST).send().await;
        answer.expect("an answer").error_for_status().expect("a purge").bytes().await.expect("a body");
        made += 1;
    }
    f64::from(made) / start.elapsed().as_secs_f64()
}

async fn publish(url: &str, rate: usize, count: usize) {
    let mut jetstream = nats::jetstream(url).await;
    jetstream.set_timeout(PATIENCE);
    let start = Instant::now();
    let mut acks = FuturesUnordered::new();
    for number in 0..count {
        let due = start + Duration::from_secs_f64(number as f64 / rate as f64);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let event = ContentChanged {
            urls: vec![format!("http://{HOST}/load/{number}")],
            version: Some(Version { etag: Some("1".to_owned()), ..Version::default() }),
            ..ContentChanged::default()
        };
        let body = codec::encode(&event).expect("an event");
        let message = jetstream::message::PublishMessage::build().payload(body.into());
        let message = message.message_id(format!("load-{number}"));
        let sent = jetstream.send_publish("keelson.evt.content.changed", message).await.expect("sent");
        acks.push(sent.into_future());
        if acks.len() >= IN_FLIGHT {
            acks.next().await.expect("one").expect("stored");
        }
    }
    while let Some(ack) = acks.next().await {
        ack.expect("stored");
    }
}

/// How long each purge took to be acknowledged, in milliseconds, once all have ended. Each has to end verified.
async fn outcomes(url: String, count: usize) -> Vec<u64> {
    let client = nats::connect(&url).await;
    let mut ended = client.subscribe("keelson.evt.cdn.verified").await.expect("a subscription");
    let mut after = Vec::with_capacity(count);
    while after.len() < count {
        let next = tokio::time::timeout(PATIENCE, ended.next()).await;
        let message = next.unwrap_or_else(|_| panic!("{} of {count} ended", after.len())).expect("a message");
        let outcomes: PurgeOutcomes = codec::decode(None, &message.payload).expect("outcomes");
        after.extend(outcomes.outcomes.iter().filter_map(|outcome| outcome.acknowledged_after_ms));
    }
    after
}
