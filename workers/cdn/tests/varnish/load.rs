//! How fast it is: `cargo test --release -p keelson-cdn --test varnish -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use keelson_kit::follow::{FollowOptions, Start};
use keelson_kit::publish::{Outgoing, fresh_id};
use keelson_schemas::cdn::{ContentChanged, PurgeOutcomes, Version};
use keelson_schemas::codec;

use crate::fixture::{HOST, Place};

/// Publishes so many events a second for so long, each about a URL of its own, and prints how long acknowledgements took.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn distinct_first_purges_a_second() {
    let setting = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (rate, seconds) = (setting("CDN_RATE", 5_000), setting("CDN_SECONDS", 60));
    let place = Place::new().await;
    let worker = place.worker("").await;
    let count = usize::try_from(rate * seconds).unwrap();
    let started = Instant::now();
    let publishing = tokio::spawn(publish(place.bus.clone(), rate, count));
    let (mut after, mut ended, mut verified) = (Vec::with_capacity(count), 0, 0);
    let mut inbox = place.bus.follow(FollowOptions::new("EVENTS", "keelson.evt.cdn.>", Start::After(0)));
    while ended < count {
        let message =
            tokio::time::timeout(Duration::from_secs(120), inbox.next()).await.expect("it goes on").unwrap();
        for outcome in message.decode::<PurgeOutcomes>().unwrap_or_default().outcomes {
            ended += 1;
            verified += usize::from(outcome.fresh_after_ms.is_some());
            after.extend(outcome.acknowledged_after_ms);
        }
    }
    publishing.await.unwrap();
    after.sort_unstable();
    let share = |q: f64| after[((after.len() - 1) as f64 * q) as usize];
    println!(
        "{count} purges at {rate}/s: acknowledged after p50 {} ms, p99 {} ms, most {} ms; {verified} verified; all ended {:.1} s after the last event",
        share(0.5),
        share(0.99),
        share(1.0),
        (started.elapsed().as_secs_f64() - seconds as f64)
    );
    worker.stop().await;
}

async fn publish(bus: keelson_kit::bus::Bus, rate: u64, count: usize) {
    let started = Instant::now();
    let mut under_way = tokio::task::JoinSet::new();
    for n in 0..count {
        let due = started + Duration::from_secs_f64(n as f64 / rate as f64);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let event = ContentChanged {
            urls: vec![format!("http://{HOST}/load/{n}")],
            version: Some(Version { etag: Some("1".into()), ..Version::default() }),
            ..ContentChanged::default()
        };
        let outgoing =
            Outgoing::new("keelson.evt.content.changed", fresh_id(), "test", codec::encode(&event).unwrap());
        let bus = bus.clone();
        under_way.spawn(async move { bus.publish(&outgoing).await.unwrap() });
        while under_way.len() > 512 {
            under_way.join_next().await;
        }
    }
    under_way.join_all().await;
}
