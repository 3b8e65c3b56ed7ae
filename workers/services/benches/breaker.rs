//! What a breaker's decision costs, beside a closed breaker of tower-resilience: `cargo bench -p keelson-services`.

#![allow(missing_docs, clippy::print_stdout, clippy::expect_used)]

use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use keelson_services::breaker::{Breaker, Ended, Policy};
use keelson_services::config::BreakerConfig;
use tower::{Layer, Service, service_fn};
use tower_resilience_circuitbreaker::CircuitBreakerLayer;

const CALLS: u32 = 1_000_000;
const RUNS: usize = 5;
const SUCCEEDED: Ended = Ended { failed: false, took: Duration::from_millis(1) };

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bare = median(|| runtime.block_on(bare()));
    let theirs = median(|| runtime.block_on(theirs()));
    let closed = median(|| ours(|_| {}));
    let open = median(|| ours(|breaker| breaker.open_for(Duration::from_secs(60), None, Instant::now())));
    println!(
        "closed, a call let through and counted: {closed:.0} ns; open, a call turned away: {open:.0} ns"
    );
    println!(
        "tower-resilience, closed: {:.0} ns ({theirs:.0} ns with the service under it, {bare:.0} ns without the breaker)",
        theirs - bare
    );
    println!("closed, ours to theirs: {:.2}", closed / (theirs - bare));
}

fn median(mut run: impl FnMut() -> f64) -> f64 {
    let mut all: Vec<f64> = (0..RUNS).map(|_| run()).collect();
    all.sort_by(f64::total_cmp);
    all[RUNS / 2]
}

fn per_call(began: Instant) -> f64 {
    began.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

/// As calls use it: behind a lock, with the time asked for at each step.
fn ours(prepare: impl Fn(&mut Breaker)) -> f64 {
    let policy: Policy = BreakerConfig { failure_rate: 0.5, ..BreakerConfig::default() }.policy();
    let mut breaker = Breaker::new(policy);
    prepare(&mut breaker);
    let breaker = Mutex::new(breaker);
    let lock = || breaker.lock().expect("nobody panics");
    let began = Instant::now();
    for _ in 0..CALLS {
        let admitted = lock().admit(Instant::now());
        if let Ok(ticket) = black_box(admitted) {
            lock().ended(ticket, SUCCEEDED, Instant::now());
        }
    }
    per_call(began)
}

async fn bare() -> f64 {
    let mut service = service_fn(|call: u32| async move { Ok::<_, u32>(call) });
    let began = Instant::now();
    for call in 0..CALLS {
        black_box(service.call(black_box(call)).await).expect("it succeeds");
    }
    per_call(began)
}

async fn theirs() -> f64 {
    let layer = CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(100)
        .wait_duration_in_open(Duration::from_secs(60))
        .permitted_calls_in_half_open(3)
        .build()
        .expect("a breaker");
    let mut service = layer.layer(service_fn(|call: u32| async move { Ok::<_, u32>(call) }));
    let began = Instant::now();
    for call in 0..CALLS {
        assert!(black_box(service.call(black_box(call)).await).is_ok());
    }
    per_call(began)
}
