//! Messages that nobody can read, published while things break: each has to be a dead letter, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::nats;

const PAUSE: Duration = Duration::from_millis(100);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Garbage that is published until it is stopped.
pub struct Garbage {
    stop: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Garbage {
    /// Starts to publish, to one partition after the other.
    pub async fn start(url: &str) -> Self {
        let mut jetstream = nats::jetstream(url).await;
        jetstream.set_timeout(ANSWER_WITHIN);
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(publish(jetstream, stop.clone()));
        Self { stop, task }
    }

    /// Stops; how many messages the stream took.
    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the garbage")
    }
}

async fn publish(jetstream: async_nats::jetstream::Context, stop: Arc<AtomicBool>) -> u64 {
    let run: u64 = rand::random();
    let mut stored = 0;
    while !stop.load(Ordering::SeqCst) {
        let message = || {
            let build = async_nats::jetstream::message::PublishMessage::build();
            build.payload("garbage".into()).message_id(format!("garbage-{run:x}-{stored}"))
        };
        while !is_stored(&jetstream, format!("keelson.tel.{}", stored % 16), message()).await {
            tokio::time::sleep(PAUSE).await;
        }
        stored += 1;
        tokio::time::sleep(PAUSE).await;
    }
    stored
}

async fn is_stored(
    jetstream: &async_nats::jetstream::Context,
    subject: String,
    message: async_nats::jetstream::message::PublishMessage,
) -> bool {
    match jetstream.send_publish(subject, message).await {
        Ok(ack) => ack.await.is_ok(),
        Err(_) => false,
    }
}
