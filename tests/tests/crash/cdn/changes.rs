//! Content that changes, commands that purge, and messages that nobody can read, each published until the stream has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::{Context, message::PublishMessage};
use keelson_schemas::cdn::{ContentChanged, PurgeRequested, Selectors};
use keelson_tests::{nats, seed};
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::to_vec;
use tokio::task::JoinHandle;

const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const CHANGED: &str = "keelson.evt.content.changed";
const REQUESTED: &str = "keelson.evt.cdn.requested";

/// A purge that has to be seen.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `files` for everyone, `tags` for those who have tags.
    pub kind: &'static str,
    /// How it ends in every provider's words.
    pub name: String,
    /// Not after the message was stored.
    pub at: Instant,
}

/// They go on until they are stopped.
pub struct Changes {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(Vec<Asked>, u64)>,
}

impl Changes {
    /// Starts them.
    pub async fn start(url: &str, seed: u64) -> Self {
        let mut jetstream = nats::jetstream(url).await;
        jetstream.set_timeout(ANSWER_WITHIN);
        let stop = Arc::new(AtomicBool::new(false));
        let source = Source { jetstream, rng: seed::rng(seed, 8_100), asked: Vec::new(), garbage: 0 };
        let task = tokio::spawn(source.publish(stop.clone()));
        Self { stop, task }
    }

    /// Stops; what was asked for, and how many messages nobody can read.
    pub async fn stop(self) -> (Vec<Asked>, u64) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the changes")
    }
}

/// A purge at some providers.
pub async fn request(url: &str, providers: &[&str], selectors: Selectors) {
    let request = requested("operation".to_owned(), providers, selectors);
    let payload = to_vec(&request).expect("JSON");
    let jetstream = nats::jetstream(url).await;
    jetstream.publish(REQUESTED, payload.into()).await.expect("sent").await.expect("stored");
}

fn requested(operation: String, providers: &[&str], selectors: Selectors) -> PurgeRequested {
    PurgeRequested {
        operation,
        selectors,
        soft: false,
        providers: providers.iter().map(|name| (*name).to_owned()).collect(),
        reason: String::new(),
        requested_by: "tests".to_owned(),
    }
}

struct Source {
    jetstream: Context,
    rng: StdRng,
    asked: Vec<Asked>,
    garbage: u64,
}

impl Source {
    async fn publish(mut self, stop: Arc<AtomicBool>) -> (Vec<Asked>, u64) {
        for number in 0.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            match number % 20 {
                7 | 14 => self.request(number).await,
                19 => self.litter(number).await,
                _ => self.change(number).await,
            }
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(2..40))).await;
        }
        (self.asked, self.garbage)
    }

    /// One URL; at times one that changed before, since a purge that was sent already stands for no later change.
    async fn change(&mut self, number: u64) {
        let of = if self.rng.random_bool(0.1) { self.rng.random_range(0..=number) } else { number };
        let event =
            ContentChanged { urls: vec![format!("https://cdn.example/v/{of}")], ..ContentChanged::default() };
        self.note("files", format!("/v/{of}"));
        self.store(CHANGED, number, &to_vec(&event).expect("JSON")).await;
    }

    async fn request(&mut self, number: u64) {
        let selectors = Selectors { tags: vec![format!("t{number}")], ..Selectors::default() };
        let request = requested(format!("operation-{number}"), &["varnish", "fastly"], selectors);
        self.note("tags", format!("t{number}"));
        self.store(REQUESTED, number, &to_vec(&request).expect("JSON")).await;
    }

    async fn litter(&mut self, number: u64) {
        self.store(CHANGED, number, b"{\"urls\": 1}").await;
        self.garbage += 1;
    }

    fn note(&mut self, kind: &'static str, name: String) {
        self.asked.push(Asked { kind, name, at: Instant::now() });
    }

    async fn store(&self, subject: &'static str, number: u64, payload: &[u8]) {
        loop {
            let message = PublishMessage::build().payload(payload.to_vec().into());
            let message = message.message_id(format!("change-{number}"));
            let stored = match self.jetstream.send_publish(subject, message).await {
                Ok(ack) => ack.await.is_ok(),
                Err(_) => false,
            };
            if stored {
                return;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}
