//! HTTP to durable: JSON of 500 samples a request until 202, on `keelson up`, whose metrics worker counts meanwhile.

use std::time::{Duration, Instant};

use keelson_tests::keelson::{SHOWN_WITHIN, Up};
use keelson_tests::nats::NatsServer;
use keelson_tests::place::Place;

use crate::samples::{self, BATCH};
use crate::{bus, generator};

const CONNECTIONS: usize = 16;
const WARM_UP: Duration = Duration::from_secs(2);
const DURATION: Duration = Duration::from_secs(8);
const RAW_MESSAGES: usize = 40_000;

/// Samples accepted in a second; and every one of them is counted in the end.
pub async fn measure() -> f64 {
    let up = Up::start().await;
    let address = up.place().url().replace("http://", "");
    let (accepted, rate) = tokio::task::spawn_blocking(move || load(&address)).await.expect("the load");
    let accepted = accepted * BATCH as u64;
    let page = up.client().scrape_until(SHOWN_WITHIN, |page| page.requests() >= accepted).await;
    assert_eq!(page.requests(), accepted, "what was accepted is what is counted");
    rate
}

/// Samples in acknowledged publishes of the same messages, as many at a time as there were connections.
pub async fn measure_raw() -> f64 {
    let server = NatsServer::start().await;
    keelson_tests::keelson::run(&Place::new().env("NATS_URL", server.url()), &["bus", "apply"]);
    bus::publish(&server.url(), RAW_MESSAGES, CONNECTIONS).await
}

fn load(address: &str) -> (u64, f64) {
    let bodies = samples::bodies();
    let warm = generator::run(address, &bodies, CONNECTIONS, WARM_UP);
    let start = Instant::now();
    let accepted = generator::run(address, &bodies, CONNECTIONS, DURATION);
    (warm + accepted, (accepted * BATCH as u64) as f64 / start.elapsed().as_secs_f64())
}
