//! Services that come, break and go, over HTTP, each step repeated under its key until it is said to be done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::Store;
use keelson_tests::client::Client;
use keelson_tests::nats;
use keelson_tests::place::free_port;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A step that is not done by then is never.
const DONE_WITHIN: Duration = Duration::from_secs(60);
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What there has to be in the end.
#[derive(Default)]
pub struct Lived {
    /// The state of each service's breaker; none of those that were deregistered.
    pub services: BTreeMap<String, Option<&'static str>>,
    /// Commands that were done.
    pub commands: usize,
    /// What was not done.
    pub wrong: Vec<String>,
}

/// They go on until they are stopped.
pub struct Lives {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Lived>,
}

impl Lives {
    /// Starts them.
    pub async fn start(client: Client, bus: &str, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let breakers = nats::jetstream(bus).await.get_key_value("breakers").await.expect("the bucket");
        let url = format!("http://127.0.0.1:{}", free_port());
        let world = World { client, breakers, seed, url, lived: Lived::default() };
        let task = tokio::spawn(world.live(stop.clone()));
        Self { stop, task }
    }

    /// Stops when the last is whole; all of them.
    pub async fn stop(self) -> Lived {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the lives")
    }
}

struct World {
    client: Client,
    breakers: Store,
    seed: u64,
    /// Where nobody listens.
    url: String,
    lived: Lived,
}

impl World {
    async fn live(mut self, stop: Arc<AtomicBool>) -> Lived {
        for number in 0.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let name = format!("service-{number}");
            if let Err(wrong) = self.life(&name, number % 5).await {
                self.lived.wrong.push(wrong);
            }
        }
        self.lived
    }

    async fn life(&mut self, name: &str, kind: u32) -> Result<(), String> {
        let register = json!({"name": name, "url": self.url, "allow": ["GET /*"]});
        self.done(Method::POST, "/register", name, &register).await?;
        let one = format!("/{name}");
        let state = match kind {
            0 => Some("closed"),
            1 => {
                self.done(Method::POST, &format!("{one}/trip"), name, &json!({})).await?;
                Some("open")
            }
            2 => {
                self.done(Method::POST, &format!("{one}/trip"), name, &json!({})).await?;
                self.done(Method::POST, &format!("{one}/reset"), name, &json!({})).await?;
                Some("closed")
            }
            3 => {
                self.done(Method::DELETE, &one, name, &Value::Null).await?;
                None
            }
            _ => {
                self.broken(name).await?;
                Some("open")
            }
        };
        self.lived.services.insert(name.to_owned(), state);
        Ok(())
    }

    /// A command that has succeeded when this returns. Who asks again asks under the same key.
    async fn done(&mut self, method: Method, path: &str, name: &str, body: &Value) -> Result<(), String> {
        let key = format!("{}-{method}-{path}-{name}", self.seed);
        let deadline = Instant::now() + DONE_WITHIN;
        loop {
            let request = self.client.request(method.clone(), &format!("/api/microservices{path}"));
            let request = request.header("idempotency-key", &key).header("prefer", "wait=5");
            let request = if body.is_null() { request } else { request.json(body) };
            let said = match request.send().await {
                Ok(answer) => (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default()),
                Err(error) => (0, error.to_string().into()),
            };
            if said.0 == 200 && said.1["state"] == "succeeded" {
                self.lived.commands += 1;
                return Ok(());
            }
            // Accepted and not done yet, or the bus or the worker are away.
            let may_pass = matches!(said.0, 0 | 202 | 429 | 503 | 504);
            if !may_pass || Instant::now() > deadline {
                return Err(format!("{method} {path} of {name}: {} {}", said.0, said.1));
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Called in vain until its breaker opens by itself, and that is kept.
    async fn broken(&self, name: &str) -> Result<(), String> {
        let deadline = Instant::now() + DONE_WITHIN;
        let call = json!({"path": "/", "timeout_ms": 1_000});
        loop {
            let request = self.client.request(Method::POST, &format!("/api/microservices/{name}/call"));
            let problem = match request.json(&call).send().await {
                Ok(answer) => answer.json::<Value>().await.unwrap_or_default(),
                Err(error) => error.to_string().into(),
            };
            let is_open = problem["type"] == "urn:keelson:problem:breaker-open";
            // Who dies before that has opened it for nobody else.
            if is_open && matches!(self.breakers.get(format!("{name}.service")).await, Ok(Some(_))) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("the breaker of {name} does not open: {problem}"));
            }
        }
    }
}
