//! Looks at the export all the time while things break, and remembers whether anything was ever wrong with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};

use crate::client::Client;
use crate::commands;
use crate::scrape::Scrape;

const EVERY: Duration = Duration::from_millis(200);
/// A question to the dead may wait long; others are asked meanwhile, but not without end.
const MOST_AT_A_TIME: usize = 32;

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
    let (mut seen, mut latest) = (Seen::default(), Arc::new(Scrape::default()));
    let mut under_way = JoinSet::new();
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick(), if !stop.load(Ordering::SeqCst) && under_way.len() < MOST_AT_A_TIME => {
                let (client, earlier) = (client.clone(), latest.clone());
                under_way.spawn(async move { (client.try_scrape().await, earlier) });
            }
            Some(ended) = under_way.join_next() => match ended.expect("a scrape") {
                (Ok(page), earlier) => {
                    latest = Arc::new(page);
                    seen.look_at(&latest, &earlier, attempted());
                }
                (Err(_), _) => seen.unanswered += 1,
            },
            else => return seen,
        }
    }
}

impl Seen {
    /// Compares a page with the one that had been answered before it was asked for.
    fn look_at(&mut self, page: &Scrape, earlier: &Scrape, attempted: u64) {
        self.scrapes += 1;
        self.wrong.extend(page.falls_since(earlier));
        self.wrong.extend(page.check_histograms().err());
        let redriven = page.sum("http_server_requests_total", &[("service_name", commands::SERVICE)]) as u64;
        let shown = page.requests() - redriven;
        self.wrong.extend((shown > attempted).then(|| format!("{shown} requests shown, {attempted} sent")));
    }
}
