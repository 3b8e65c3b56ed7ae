//! CDN providers as their documentation describes them, with their limits: what is over one is refused and remembered. The providers' own SDKs
//! are run against them, so that they are right.

pub mod cloudflare;
pub mod cloudfront;
pub mod fastly;
pub mod varnish;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// A provider that listens.
#[derive(Clone)]
pub struct Fake {
    url: String,
    kept: Arc<Mutex<Kept>>,
}

/// A call that was taken.
#[derive(Debug, Clone)]
pub struct Call {
    /// `files`, `tags`, `prefixes`, `all`.
    pub kind: &'static str,
    /// What it names.
    pub items: Vec<String>,
    /// Whether it was soft.
    pub soft: bool,
    /// When.
    pub at: Instant,
}

impl Call {
    fn now(kind: &'static str, items: Vec<String>, soft: bool) -> Self {
        Self { kind, items, soft, at: Instant::now() }
    }
}

/// What a provider knows.
#[derive(Debug, Default)]
pub struct Kept {
    /// Calls that were taken.
    pub calls: Vec<Call>,
    /// What was over a limit, or was no call at all.
    pub wrong: Vec<String>,
    /// With what it answers everything, instead.
    pub answers: Option<u16>,
    /// How many a call may name: older plans take fewer.
    pub most_items: Option<usize>,
    taken: VecDeque<(Instant, usize)>,
    named: VecDeque<(Instant, usize)>,
}

impl Fake {
    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it knows.
    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("what is kept")
    }

    /// From now on it answers everything with this status; or as it should.
    pub fn answer_all(&self, status: Option<u16>) {
        self.kept().answers = status;
    }

    /// All that was named by calls of a kind.
    pub fn seen(&self, kind: &str) -> BTreeSet<String> {
        let kept = self.kept();
        kept.calls.iter().filter(|call| call.kind == kind).flat_map(|call| call.items.clone()).collect()
    }

    async fn serve(router: impl FnOnce(Self) -> Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let fake = Self { url, kept: Arc::default() };
        let app = router(fake.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        fake
    }

    fn forced(&self) -> Option<StatusCode> {
        self.kept().answers.and_then(|status| StatusCode::from_u16(status).ok())
    }
}

impl Kept {
    /// Whether so many may be taken now: at most `burst` and what came back within the time over which it is counted.
    fn has_room(&mut self, tokens: usize, burst: usize, every: Duration) -> bool {
        let now = Instant::now();
        let window = every * u32::try_from(burst).expect("a small number");
        while self.taken.front().is_some_and(|(at, _)| now.duration_since(*at) > window) {
            self.taken.pop_front();
        }
        // A bucket that is replayed from full.
        let (mut missing, mut last) = (Duration::ZERO, now);
        for (at, taken) in &self.taken {
            missing = missing.saturating_sub(at.saturating_duration_since(last));
            last = *at;
            missing += every * u32::try_from(*taken).expect("a small number");
        }
        missing = missing.saturating_sub(now.saturating_duration_since(last));
        let fits = missing + every * u32::try_from(tokens).expect("a small number") <= window;
        if fits {
            self.taken.push_back((now, tokens));
        }
        fits
    }

    /// Whether so many may be named now: at most `most` in any `window`.
    fn has_room_within(&mut self, count: usize, most: usize, window: Duration) -> bool {
        let now = Instant::now();
        while self.named.front().is_some_and(|(at, _)| now.duration_since(*at) >= window) {
            self.named.pop_front();
        }
        let fits = self.named.iter().map(|(_, count)| count).sum::<usize>() + count <= most;
        if fits {
            self.named.push_back((now, count));
        }
        fits
    }
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|item| Some(item.as_str()?.to_owned())).collect()
}

fn json(status: StatusCode, body: &Value) -> Response {
    (status, [("content-type", "application/json")], body.to_string()).into_response()
}
