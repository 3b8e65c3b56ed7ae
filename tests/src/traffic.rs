//! Telemetry that flows while things break: several senders, each with its own randomness, all in one ledger.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use tokio::task::JoinSet;

use crate::client::{Client, now_ms};
use crate::ledger::{Ledger, Sample, Series};
use crate::seed;

/// How much, and of what kind.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Where all randomness comes from.
    pub seed: u64,
    /// Senders at the same time.
    pub senders: u64,
    /// Services, over which the samples are spread.
    pub services: u64,
    /// Samples a request.
    pub batch: usize,
    /// The wait of a sender between two requests.
    pub pause: Duration,
    /// The share of accepted requests that is sent once more, as by a client that did not get the answer.
    pub echo: f64,
}

impl Default for Load {
    fn default() -> Self {
        Self { seed: 1, senders: 4, services: 20, batch: 100, pause: Duration::from_millis(20), echo: 0.05 }
    }
}

/// Traffic that runs until it is stopped.
pub struct Traffic {
    shared: Arc<Shared>,
    senders: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    attempted: AtomicU64,
    retries: AtomicU64,
    ledger: Mutex<Ledger>,
}

impl Traffic {
    /// Starts the senders.
    pub fn start(client: &Client, load: Load) -> Self {
        let shared = Arc::new(Shared::default());
        let mut senders = JoinSet::new();
        for sender in 0..load.senders {
            senders.spawn(shared.clone().send(client.clone(), load, sender));
        }
        Self { shared, senders }
    }

    /// Samples that were begun to be sent: no export may ever show more.
    pub fn attempted(&self) -> u64 {
        self.shared.attempted.load(Ordering::SeqCst)
    }

    /// A handle that gives [`Traffic::attempted`].
    pub fn attempts(&self) -> impl Fn() -> u64 + Send + 'static {
        let shared = self.shared.clone();
        move || shared.attempted.load(Ordering::SeqCst)
    }

    /// Samples that were accepted.
    pub fn accepted(&self) -> u64 {
        self.shared.ledger.lock().expect("the ledger").requests()
    }

    /// Lets every sender finish its last batch; what was accepted, and how often a request had to be repeated.
    pub async fn stop(mut self) -> (Ledger, u64) {
        self.shared.stop.store(true, Ordering::SeqCst);
        while let Some(sender) = self.senders.join_next().await {
            sender.expect("a sender failed");
        }
        let ledger = self.shared.ledger.lock().expect("the ledger").clone();
        (ledger, self.shared.retries.load(Ordering::SeqCst))
    }
}

impl Shared {
    async fn send(self: Arc<Self>, client: Client, load: Load, sender: u64) {
        let mut rng = seed::rng(load.seed, sender);
        let run = rng.next_u64();
        for number in 0_u64.. {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let service = format!("service-{}", rng.random_range(0..load.services));
            let samples: Vec<Sample> = (0..load.batch).map(|_| sample(&mut rng, &service)).collect();
            let key = format!("{run:x}-{number}");
            self.attempted.fetch_add(samples.len() as u64, Ordering::SeqCst);
            let tries = client.send(&key, &service, &samples).await;
            self.retries.fetch_add(u64::from(tries - 1), Ordering::SeqCst);
            self.ledger.lock().expect("the ledger").add(&samples);
            if rng.random_bool(load.echo) {
                client.send(&key, &service, &samples).await;
            }
            tokio::time::sleep(load.pause).await;
        }
    }
}

/// A random request to a service; one in ten has no duration.
pub fn sample(rng: &mut StdRng, service: &str) -> Sample {
    const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
    const STATUSES: [u16; 5] = [200, 200, 201, 404, 500];
    let series = Series {
        service: service.to_owned(),
        method: METHODS[rng.random_range(0..METHODS.len())].to_owned(),
        route: format!("/route/{}/:id", rng.random_range(0..5)),
        status: STATUSES[rng.random_range(0..STATUSES.len())],
    };
    let duration_us = rng.random_bool(0.9).then(|| heavy_tailed_us(rng));
    Sample { ts: now_ms() - rng.random_range(0..3_000), series, duration_us }
}

/// A duration with a median of 5 ms and a long tail (log-normal by the sum of uniforms).
pub fn heavy_tailed_us(rng: &mut StdRng) -> u64 {
    let normal: f64 = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    (5_000.0 * (1.2 * normal).exp()) as u64
}
