//! A service that goes well or badly as it is told, and says so in telemetry several times a second, one batch after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::client::{Client, now_ms};
use crate::ledger::{Sample, Series};

/// Requests a batch.
const BATCH: usize = 5;
/// The wait between two batches.
const PAUSE: Duration = Duration::from_millis(200);

/// A service that runs until it is stopped.
pub struct Service {
    name: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    fails: AtomicBool,
    stop: AtomicBool,
}

impl Service {
    /// Starts one that goes well.
    pub fn start(client: &Client, name: impl Into<String>) -> Self {
        let (name, shared) = (name.into(), Arc::<Shared>::default());
        let task = tokio::spawn(run(client.clone(), name.clone(), shared.clone()));
        Self { name, shared, task }
    }

    /// Starts one whose requests all fail.
    pub fn start_failing(client: &Client, name: impl Into<String>) -> Self {
        let service = Self::start(client, name);
        service.fail();
        service
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on every request fails.
    pub fn fail(&self) {
        self.shared.fails.store(true, Ordering::SeqCst);
    }

    /// From now on every request succeeds.
    pub fn recover(&self) {
        self.shared.fails.store(false, Ordering::SeqCst);
    }

    /// Falls silent, once its last batch was accepted.
    pub async fn stop(self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the service");
    }
}

/// Requests to a service that were made just now, all with this status.
pub fn requests(service: &str, status: u16, count: usize) -> Vec<Sample> {
    let series = Series { service: service.to_owned(), method: "GET".into(), route: "/".into(), status };
    vec![Sample { ts: now_ms(), series, duration_us: Some(1_000) }; count]
}

async fn run(client: Client, name: String, shared: Arc<Shared>) {
    let run: u64 = rand::random();
    for number in 0_u64.. {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let status = if shared.fails.load(Ordering::SeqCst) { 500 } else { 200 };
        client.send(&format!("{run:x}-{number}"), &name, &requests(&name, status, BATCH)).await;
        tokio::time::sleep(PAUSE).await;
    }
}
