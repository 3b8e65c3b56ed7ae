//! What the tests against a real server share.

#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

pub mod proxy;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keelson_bus_config::ConsumerSpec;
use keelson_kit::bus::Bus;
use keelson_kit::clock::Clock;
use keelson_kit::consume::{ConsumeOptions, Handler};
use keelson_kit::publish::Outgoing;
use keelson_kit::tasks::Tasks;
use keelson_kit::testing::NatsServer;

/// A server of one's own with everything in bus-config, and a connection to it.
pub async fn prepared() -> (NatsServer, Bus) {
    let server = NatsServer::start().await.unwrap();
    let bus = server.prepared_bus().await.unwrap();
    (server, bus)
}

pub fn outgoing(subject: &str, id: &str) -> Outgoing {
    Outgoing::new(subject, id, "keelson.test.v1", id.as_bytes().to_vec())
}

pub fn saying(text: &str, n: usize) -> Outgoing {
    Outgoing::new("keelson.evt.test.said", format!("said-{n}"), "keelson.test.v1", text.as_bytes().to_vec())
}

/// Publishes 1, 2, 3 … in order, each until it is stored.
pub async fn publish_numbers(bus: Bus, count: u64) {
    for n in 1..=count {
        let message = outgoing("keelson.evt.test.n", &n.to_string());
        bus.publish_within(&message, Duration::from_secs(20)).await.unwrap();
    }
}

/// A durable consumer of the test's events.
pub fn consumer() -> ConsumerSpec {
    ConsumerSpec {
        name: "test".into(),
        stream: "EVENTS".into(),
        description: String::new(),
        filter_subjects: vec!["keelson.evt.test.>".into()],
        ack_wait_s: 2,
        max_deliver: -1,
        max_ack_pending: 100,
    }
}

pub fn consume<H: Handler + Clone>(
    bus: &Bus,
    spec: ConsumerSpec,
    options: ConsumeOptions,
    handler: H,
) -> (Tasks, H) {
    let tasks = Tasks::new(Clock::system());
    tasks.consume(bus, spec, options, handler.clone());
    (tasks, handler)
}

/// One request of a foreign client.
pub async fn request(server: &NatsServer, subject: &str, body: &str) -> serde_json::Value {
    let client = async_nats::connect(server.url()).await.unwrap();
    let answer = client.request(subject.to_owned(), body.to_owned().into()).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    assert!(answer["error"].is_null(), "{subject}: {answer}");
    answer
}

pub async fn consumer_info(server: &NatsServer) -> serde_json::Value {
    request(server, "$JS.API.CONSUMER.INFO.EVENTS.test", "").await
}

/// Waits for something that must come within the five seconds in which work has to resume.
pub async fn eventually(what: &str, done: impl Fn() -> bool) {
    within(Duration::from_secs(5), what, done).await;
}

pub async fn within(limit: Duration, what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Things that were seen, in any order.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub fn add(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn contains(&self, text: &str) -> bool {
        self.0.lock().unwrap().iter().any(|seen| seen == text)
    }

    pub fn sorted(&self) -> Vec<String> {
        let mut all = self.0.lock().unwrap().clone();
        all.sort();
        all
    }
}
