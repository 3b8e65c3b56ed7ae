//! The samples of the benchmark: twenty services with eighty series each, durations with a long tail, times within ten seconds.

use keelson_schemas::codec;
use keelson_schemas::subject::{self, partition_of};
use keelson_schemas::telemetry::BatchBuilder;
use keelson_tests::client::{body_of, now_ms};
use keelson_tests::ledger::{Sample, Series};
use keelson_tests::seed;
use keelson_tests::traffic::heavy_tailed_us;
use rand::RngExt;
use rand::rngs::StdRng;

/// Samples a message and a request.
pub const BATCH: usize = 500;
const SERVICES: usize = 20;
const ROUTES: usize = 20;
const KINDS: [(&str, u16); 4] = [("GET", 200), ("GET", 404), ("POST", 201), ("GET", 500)];
/// Different batches; they are sent over and over.
const DISTINCT: usize = 100;

/// A batch as it lies on the bus.
pub struct Message {
    /// Where it is published.
    pub subject: String,
    /// The columns.
    pub body: Vec<u8>,
}

/// Batches as they lie on the bus.
pub fn messages() -> Vec<Message> {
    let message = |(service, samples): (String, Vec<Sample>)| {
        let mut builder = BatchBuilder::default();
        for Sample { ts, series, duration_us } in &samples {
            builder.http(*ts, &series.method, &series.route, series.status, *duration_us);
        }
        let batch = builder.build(service.as_str().into(), "one".into());
        let subject = subject::tel(partition_of(&service));
        Message { subject, body: codec::encode(&batch).expect("encodes") }
    };
    batches().map(message).collect()
}

/// The same batches as bodies of requests.
pub fn bodies() -> Vec<String> {
    batches().map(|(service, samples)| body_of(&service, &samples).to_string()).collect()
}

fn batches() -> impl Iterator<Item = (String, Vec<Sample>)> {
    let mut rng = seed::rng(1, 0);
    let now = now_ms();
    (0..DISTINCT).map(move |batch| {
        let service = format!("service-{}", batch % SERVICES);
        let samples = (0..BATCH).map(|_| sample(&mut rng, &service, now)).collect();
        (service, samples)
    })
}

fn sample(rng: &mut StdRng, service: &str, now: u64) -> Sample {
    let (method, status) = KINDS[rng.random_range(0..KINDS.len())];
    let route = format!("/route/{}/:id", rng.random_range(0..ROUTES));
    let series = Series { service: service.to_owned(), method: method.to_owned(), route, status };
    Sample { ts: now - rng.random_range(0..10_000), series, duration_us: Some(heavy_tailed_us(rng)) }
}
