//! How soon `keelson up` is ready, and what it takes when it has nothing to do.

use std::time::{Duration, Instant};

use keelson_tests::keelson::Up;
use keelson_tests::place::Place;
use keelson_tests::process::resident_bytes;

const IDLE: Duration = Duration::from_secs(5);

/// What one run gives.
pub struct Measured {
    /// On an empty directory.
    pub fresh_seconds: f64,
    /// After kill -9, on what that left.
    pub again_seconds: f64,
    /// Resident memory without nats-server, after some seconds.
    pub resident_mb: f64,
}

/// One run.
pub async fn measure() -> Measured {
    let start = Instant::now();
    let mut up = Up::start_in(Place::new()).await;
    let fresh_seconds = start.elapsed().as_secs_f64();
    tokio::time::sleep(IDLE).await;
    let resident_mb = resident_bytes(up.process().pid()) as f64 / 1e6;
    let start = Instant::now();
    up.restart().await;
    Measured { fresh_seconds, again_seconds: start.elapsed().as_secs_f64(), resident_mb }
}
