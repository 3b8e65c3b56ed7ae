//! Looks at the export all the time while things break, and remembers whether anything was ever wrong with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::client::Client;
use crate::commands;
use crate::scrape::Scrape;

const EVERY: Duration = Duration::from_millis(200);

/// A watch that runs until it is ended.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Seen>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Scrapes that were answered.
    pub scrapes: u64,
    /// Scrapes that were not: 503, or nobody there.
    pub unanswered: u64,
    /// Everything that was wrong: falls, losses, more than was sent, histograms that do not add up.
    pub wrong: Vec<String>,
}

impl Watcher {
    /// Starts to watch; `attempted` tells how much has been sent at most.
    pub fn start(client: &Client, attempted: impl Fn() -> u64 + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(watch(client.clone(), attempted, stop.clone()));
        Self { stop, task }
    }

    /// Ends the watch.
    pub async fn end(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the watch does not fail")
    }
}

async fn watch(client: Client, attempted: impl Fn() -> u64, stop: Arc<AtomicBool>) -> Seen {
    let (mut seen, mut last) = (Seen::default(), Scrape::default());
    while !stop.load(Ordering::SeqCst) {
        match client.try_scrape().await {
            Some(page) => {
                seen.scrapes += 1;
                seen.wrong.extend(page.falls_since(&last));
                seen.wrong.extend(page.check_histograms().err());
                let redriven =
                    page.sum("http_server_requests_total", &[("service_name", commands::SERVICE)]) as u64;
                let (shown, sent) = (page.requests() - redriven, attempted());
                seen.wrong.extend((shown > sent).then(|| format!("{shown} requests shown, {sent} sent")));
                last = page;
            }
            None => seen.unanswered += 1,
        }
        tokio::time::sleep(EVERY).await;
    }
    seen
}
