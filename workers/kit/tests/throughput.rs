//! How fast a stream can be followed. Ignored, since a number means something only in a release build on a quiet machine:
//! `cargo test --release -p keelson-kit --test throughput -- --ignored --nocapture`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod support;

use std::time::{Duration, Instant};

use futures::StreamExt;
use keelson_kit::follow::{FollowOptions, Start};
use keelson_kit::publish::Outgoing;
use support::prepared;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn following() {
    for (count, size) in [(200_000_u64, 64_usize), (60_000, 5_300)] {
        let (_server, bus) = prepared().await;
        let started = Instant::now();
        let publishing = futures::stream::iter(0..count).map(|n| {
            let message = Outgoing::new("keelson.tel.0", n.to_string(), "keelson.test.v1", vec![0; size]);
            let bus = bus.clone();
            async move { bus.publish_within(&message, Duration::from_secs(30)).await.unwrap() }
        });
        publishing.buffer_unordered(1024).for_each(|_| async {}).await;
        tell("published", count, size, started);
        let started = Instant::now();
        let mut follow = bus.follow(FollowOptions::new("TELEMETRY", "keelson.tel.0", Start::After(0)));
        let mut read = 0;
        while follow.next_if_any().await.unwrap().is_some() {
            read += 1;
        }
        assert_eq!(read, count);
        tell("followed", count, size, started);
    }
}

fn tell(what: &str, count: u64, size: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let (rate, megabytes) = (count as f64 / seconds, (count * size as u64) as f64 / seconds / 1e6);
    eprintln!("{what} {count} messages of {size} bytes: {rate:.0}/s, {megabytes:.0} MB/s");
}
