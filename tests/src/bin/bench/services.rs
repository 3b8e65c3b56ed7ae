//! What it takes to check 500 services every five seconds, and whether their checks come together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use keelson_tests::keelson::Up;
use keelson_tests::place::Place;
use keelson_tests::process::{cpu_seconds, resident_bytes};
use tokio::net::TcpListener;

const SERVICES: usize = 500;
const INTERVAL: Duration = Duration::from_secs(5);
/// Every one is up and its connection is open by then.
const WARM_UP: Duration = Duration::from_secs(15);
const SECONDS: usize = 60;

/// What one run gives.
pub struct Measured {
    /// Seconds of one core that a second of checks takes.
    pub cores: f64,
    /// Resident memory without nats-server.
    pub resident_mb: f64,
    /// Checks in the second with the most of them, over the mean.
    pub busiest: f64,
}

/// One run, of a minute.
pub async fn measure() -> Measured {
    let bins: Arc<[AtomicUsize]> = (0..SECONDS).map(|_| AtomicUsize::new(0)).collect();
    let from = Instant::now() + WARM_UP;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = bins.clone();
    let router = Router::new().fallback(move || {
        let second = Instant::now().checked_duration_since(from).map(|since| since.as_secs() as usize);
        if let Some(bin) = second.and_then(|second| seen.get(second)) {
            bin.fetch_add(1, Ordering::Relaxed);
        }
        std::future::ready(())
    });
    tokio::spawn(async move { axum::serve(listener, router).await });

    let services = (0..SERVICES).map(|index| {
        format!("[[services.register]]\nname = \"service-{index}\"\nurl = \"{url}\"\nhealth = \"/{index}\"\n")
    });
    let mut up = Up::start_in(Place::new().configured(&services.collect::<String>())).await;
    let pid = up.process().pid();
    tokio::time::sleep_until(from.into()).await;
    let before = cpu_seconds(pid);
    tokio::time::sleep(Duration::from_secs(SECONDS as u64)).await;
    let cores = (cpu_seconds(pid) - before) / SECONDS as f64;

    let counts: Vec<usize> = bins.iter().map(|bin| bin.load(Ordering::Relaxed)).collect();
    let (all, most) = (counts.iter().sum::<usize>(), counts.iter().max().copied().unwrap_or_default());
    let expected = SERVICES * SECONDS / INTERVAL.as_secs() as usize;
    assert!(all.abs_diff(expected) <= expected / 20, "{all} checks came, not {expected}");
    Measured {
        cores,
        resident_mb: resident_bytes(pid) as f64 / 1e6,
        busiest: most as f64 * SECONDS as f64 / all as f64,
    }
}
