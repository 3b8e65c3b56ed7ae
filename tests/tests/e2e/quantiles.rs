//! Quantiles of a million heavy-tailed durations, against the exact ones.

use keelson_schemas::histogram::Histogram;
use keelson_tests::client::now_ms;
use keelson_tests::keelson::{SHOWN_WITHIN, Up};
use keelson_tests::ledger::{Ledger, Sample, Series};
use keelson_tests::traffic::heavy_tailed_us;
use keelson_tests::{seed, slices};

const SAMPLES: usize = 1_000_000;
const BATCH: usize = 10_000;
/// The promise.
const RELATIVE_ERROR: f64 = 0.011;

#[tokio::test]
async fn quantiles_of_a_million_samples_are_within_their_bound() {
    let mut rng = seed::rng(seed::seed(), 0);
    let mut durations: Vec<u64> = (0..SAMPLES).map(|_| heavy_tailed_us(&mut rng)).collect();
    let up = Up::start().await;
    let mut sent = Ledger::default();
    for (number, batch) in durations.chunks(BATCH).enumerate() {
        let samples: Vec<Sample> = batch.iter().map(|us| sample(*us)).collect();
        up.client().send(&format!("batch-{number}"), "content", &samples).await;
        sent.add(&samples);
    }
    up.client().assert_shows(&sent, SHOWN_WITHIN).await;

    durations.sort_unstable();
    let histogram = latency_of_all(&up).await;
    for q in [0.5, 0.75, 0.9, 0.95, 0.99, 0.999] {
        let exact = durations[(q * SAMPLES as f64).ceil() as usize - 1] as f64 / 1e6;
        let estimate = histogram.quantile_seconds(q).expect("not empty");
        let error = (estimate - exact).abs() / exact;
        println!(
            "P{:<5} exact {exact:.6} s, shown {estimate:.6} s, off by {:.3} %",
            q * 100.0,
            error * 100.0
        );
        assert!(error <= RELATIVE_ERROR, "P{}: {error}", q * 100.0);
    }
}

/// The histogram that all slices add up to.
async fn latency_of_all(up: &Up) -> Histogram {
    let mut sum = Histogram::default();
    for slice in slices::read_all(&up.nats_url()).await {
        let deltas = slice.services.iter().flat_map(|service| &service.http);
        deltas.flat_map(|delta| &delta.cells).for_each(|cell| sum.merge(&cell.latency));
    }
    sum
}

fn sample(us: u64) -> Sample {
    let series =
        Series { service: "content".into(), method: "GET".into(), route: "/videos/:id".into(), status: 200 };
    Sample { ts: now_ms(), series, duration_us: Some(us) }
}
