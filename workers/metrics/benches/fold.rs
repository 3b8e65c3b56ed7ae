//! How fast one core decodes and folds telemetry: `cargo bench -p keelson-metrics`.

#![allow(missing_docs, clippy::print_stdout, clippy::expect_used)]

use std::time::Instant;

use keelson_metrics::delta::{Bounds, Delta};
use keelson_metrics::totals::Totals;
use keelson_schemas::codec;
use keelson_schemas::telemetry::{Batch, BatchBuilder};

const BATCHES: u64 = 10_000;
const SAMPLES: u64 = 500;
const NOW_MS: u64 = 1_764_000_000_000;

fn main() {
    let bodies: Vec<Vec<u8>> = (0..64).map(body).collect();
    let bytes: usize = bodies.iter().map(Vec::len).sum::<usize>() / bodies.len();
    let bounds = Bounds { http_series: 2_000, db_series: 500, instances: 256, slow_us: 100_000 };
    let mut rates: Vec<f64> = (0..5).map(|_| rate(&bodies, &bounds)).collect();
    rates.sort_by(f64::total_cmp);
    println!(
        "{bytes} bytes a batch of {SAMPLES} samples; decode, check and fold: {:.1} M samples/s (median of 5)",
        rates[2]
    );
}

fn rate(bodies: &[Vec<u8>], bounds: &Bounds) -> f64 {
    let (totals, mut delta) = (Totals::default(), Delta::default());
    let start = Instant::now();
    for i in 0..BATCHES {
        let batch: Batch =
            codec::decode(Some(codec::MSGPACK), &bodies[i as usize % bodies.len()]).expect("decodes");
        batch.check().expect("is right");
        let service = batch.service.clone();
        delta.add(&totals, bounds, &service, batch, NOW_MS);
        if delta.is_full() {
            delta.take();
        }
    }
    (BATCHES * SAMPLES) as f64 / start.elapsed().as_secs_f64() / 1e6
}

fn body(n: u64) -> Vec<u8> {
    let mut builder = BatchBuilder::default();
    let mut random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for i in 0..SAMPLES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let route = format!("/videos/:id/{}", random % 20);
        let status = if random.is_multiple_of(50) { 500 } else { 200 };
        builder.http(NOW_MS + i * 2, "GET", &route, status, Some(1_000 + random % 200_000));
    }
    codec::encode(&builder.build("content".into(), "content-1".into())).expect("encodes")
}
