//! What a service does to report: collect, and once a second send a batch, again under the same key until it is taken.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keelson_kit::tasks::Tasks;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::debug;
use url::Url;

const EVERY: Duration = Duration::from_secs(1);
/// Samples that may wait; a sample service sheds what is over rather than slow its visitors down.
const MAX_WAITING: usize = 10_000;
const ATTEMPTS: u32 = 20;

/// Where a service's handlers leave what they measured.
#[derive(Clone, Debug)]
pub struct Reporter {
    samples: mpsc::Sender<Sample>,
}

/// A database call.
#[derive(Debug)]
pub struct Query {
    pub namespace: &'static str,
    pub operation: &'static str,
    pub took: Duration,
}

#[derive(Debug)]
enum Sample {
    Http(Value),
    Db(Value),
}

impl Reporter {
    /// Starts to report under the service's name.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn start(tasks: &Tasks, service: &'static str, target: Url, token: &str) -> anyhow::Result<Self> {
        let (samples, waiting) = mpsc::channel(MAX_WAITING);
        let sender = Sender {
            http: reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?,
            target,
            token: token.to_owned(),
            service,
        };
        tasks.spawn_once(format!("demo.{service}.report"), sender.run(waiting, tasks.clone()));
        Ok(Self { samples })
    }

    /// A request was answered.
    pub fn request(&self, method: &str, route: String, status: u16, took: Duration) {
        let sample = json!({"ts": now_ms(), "method": method, "route": route, "status": status, "duration_us": micros(took)});
        let _ = self.samples.try_send(Sample::Http(sample));
    }

    /// The database was asked.
    pub fn query(&self, query: Query) {
        let sample = json!({
            "ts": now_ms(), "system": "mongodb", "namespace": query.namespace, "operation": query.operation,
            "duration_us": micros(query.took),
        });
        let _ = self.samples.try_send(Sample::Db(sample));
    }
}

struct Sender {
    http: reqwest::Client,
    target: Url,
    token: String,
    service: &'static str,
}

impl Sender {
    async fn run(self, mut waiting: mpsc::Receiver<Sample>, tasks: Tasks) -> anyhow::Result<()> {
        while !tasks.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = tasks.cancelled() => {}
            }
            let (http, db) = drain(&mut waiting);
            if !http.is_empty() || !db.is_empty() {
                let body = json!({"service": self.service, "instance": format!("{}-1", self.service), "http": http, "db": db});
                self.deliver(&body, &tasks).await;
            }
        }
        Ok(())
    }

    async fn deliver(&self, body: &Value, tasks: &Tasks) {
        let key = format!("demo-{:032x}", rand::random::<u128>());
        for _ in 0..ATTEMPTS {
            match self.attempt(body, &key).await {
                Ok(status) if status.is_success() => return,
                outcome => debug!(demo.service = self.service, "telemetry was not taken: {outcome:?}"),
            }
            if tasks.is_cancelled() {
                return;
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn attempt(&self, body: &Value, key: &str) -> reqwest::Result<StatusCode> {
        let request =
            self.http.post(self.target.clone()).bearer_auth(&self.token).header("Idempotency-Key", key);
        Ok(request.json(body).send().await?.status())
    }
}

fn drain(waiting: &mut mpsc::Receiver<Sample>) -> (Vec<Value>, Vec<Value>) {
    let (mut http, mut db) = (Vec::new(), Vec::new());
    while let Ok(sample) = waiting.try_recv() {
        match sample {
            Sample::Http(value) => http.push(value),
            Sample::Db(value) => db.push(value),
        }
    }
    (http, db)
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
