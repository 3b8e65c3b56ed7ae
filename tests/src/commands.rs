//! Commands that flow while things break. Each redrives one dead letter that holds a good sample, so each adds one sample to the export: an
//! effect that happened twice or not at all shows in a count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;
use keelson_schemas::codec;
use keelson_schemas::dead_letter::DeadLetter;
use keelson_schemas::subject::{self, partition_of};
use keelson_schemas::telemetry::BatchBuilder;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::client::{Client, now_ms};
use crate::ledger::{Sample, Series};
use crate::nats;

/// The service of those samples.
pub const SERVICE: &str = "redriven";
const PAUSE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);

/// Commands that are given until they are stopped.
pub struct Commands {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<String>>,
}

/// Puts a dead letter on the bus that holds one good sample; its sequence.
pub async fn bury_a_good_one(url: &str) -> u64 {
    let letter = DeadLetter {
        stream: "TELEMETRY".into(),
        consumer: "metrics".into(),
        sequence: 1,
        subject: subject::tel(partition_of(SERVICE)),
        headers: Vec::new(),
        payload: payload().into(),
        truncated: false,
        reason: "put here by a test".into(),
        attempts: 1,
        stored_at: Timestamp::now(),
        failed_at: Timestamp::now(),
    };
    let body = codec::encode(&letter).expect("encodes");
    let jetstream = nats::jetstream(url).await;
    let published = jetstream.publish("keelson.dlq.TELEMETRY.metrics", body.into()).await;
    published.expect("sent").await.expect("stored").sequence
}

/// The sample that each command adds.
pub fn sample() -> Sample {
    let series =
        Series { service: SERVICE.into(), method: "GET".into(), route: "/redriven".into(), status: 200 };
    Sample { ts: now_ms(), series, duration_us: Some(1_000) }
}

/// Asks for the dead letter to be redriven until the command is accepted; the path of the operation.
pub async fn redrive(client: &Client, letter: u64, key: &str) -> String {
    let path = format!("/api/dead-letters/{letter}/redrive");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let request = client.request(Method::POST, &path).header("idempotency-key", key);
        match request.header("content-type", "application/json").body("{}").send().await {
            Ok(response) if response.status() == StatusCode::ACCEPTED => {
                return response.headers()["location"].to_str().expect("a path").to_owned();
            }
            Ok(response) if !response.status().is_server_error() => {
                panic!("{}: {}", response.status(), response.text().await.unwrap_or_default())
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
        assert!(Instant::now() < deadline, "command {key} was not accepted");
    }
}

/// Waits until an operation has ended; its record.
pub async fn ended(client: &Client, path: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client.request(Method::GET, path).send().await;
        let record = match answer {
            Ok(answer) if answer.status().is_success() => answer.json::<Value>().await.unwrap_or_default(),
            _ => Value::Null,
        };
        if ["succeeded", "failed", "rejected", "unknown"].iter().any(|state| record["state"] == *state) {
            return record;
        }
        assert!(Instant::now() < deadline, "{path} has not ended: {record}");
        tokio::time::sleep(PAUSE).await;
    }
}

impl Commands {
    /// Starts to give commands.
    pub fn start(client: &Client, letter: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(give(client.clone(), letter, stop.clone()));
        Self { stop, task }
    }

    /// Stops, and waits for every operation to end; how many succeeded, and those that did not.
    pub async fn stop(self, client: &Client) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        let paths = self.task.await.expect("the commands");
        let records = join_all(paths.iter().map(|path| ended(client, path))).await;
        let (good, bad): (Vec<_>, Vec<_>) = records.iter().partition(|record| record["state"] == "succeeded");
        (good.len() as u64, bad.iter().map(|record| format!("operation: {record}")).collect())
    }
}

async fn give(client: Client, letter: u64, stop: Arc<AtomicBool>) -> Vec<String> {
    let run: u64 = rand::random();
    let mut operations = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        operations.push(redrive(&client, letter, &format!("{run:x}-{}", operations.len())).await);
        tokio::time::sleep(PAUSE).await;
    }
    operations
}

fn payload() -> Vec<u8> {
    let Sample { ts, series, duration_us } = sample();
    let mut builder = BatchBuilder::default();
    builder.http(ts, &series.method, &series.route, series.status, duration_us);
    codec::encode(&builder.build(SERVICE.into(), "".into())).expect("encodes")
}
