//! `keelson telemetry import` against a receiver that behaves as told.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use support::{keelson, text};
use tempfile::tempdir;

/// Takes batches once a key, as Keelson does; first it answers what it was told to.
#[derive(Clone, Default)]
struct Receiver {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    answers_before: VecDeque<(u16, Option<&'static str>)>,
    batches: BTreeMap<String, Value>,
    requests: usize,
    at_once: usize,
    most_at_once: usize,
}

impl Receiver {
    async fn start(answers_before: &[(u16, Option<&'static str>)]) -> (Self, String) {
        let receiver = Self::default();
        receiver.seen.lock().unwrap().answers_before = answers_before.iter().copied().collect();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/api/telemetry", post(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    fn statuses(&self) -> BTreeMap<u64, usize> {
        let mut statuses = BTreeMap::new();
        for batch in self.seen.lock().unwrap().batches.values() {
            for request in batch["http"].as_array().unwrap() {
                *statuses.entry(request["status"].as_u64().unwrap()).or_default() += 1;
            }
        }
        statuses
    }

    fn keys(&self) -> Vec<String> {
        self.seen.lock().unwrap().batches.keys().cloned().collect()
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, Json(batch): Json<Value>) -> Response {
    let told = {
        let mut seen = receiver.seen.lock().unwrap();
        seen.requests += 1;
        seen.at_once += 1;
        seen.most_at_once = seen.most_at_once.max(seen.at_once);
        seen.answers_before.pop_front()
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut seen = receiver.seen.lock().unwrap();
    seen.at_once -= 1;
    if let Some((status, retry_after)) = told {
        let problem = Json(json!({"title": "as told", "detail": "told to"}));
        let headers = retry_after.map(|seconds| [("Retry-After", seconds)]);
        return (StatusCode::from_u16(status).unwrap(), headers.unwrap_or([("X-None", "")]), problem)
            .into_response();
    }
    assert_eq!(headers["authorization"], "Bearer secret");
    let accepted = batch["http"].as_array().unwrap().len();
    let first = seen.batches.insert(headers["idempotency-key"].to_str().unwrap().to_owned(), batch.clone());
    assert!(first.is_none_or(|first| first == batch), "the same key means the same lines");
    (StatusCode::ACCEPTED, Json(json!({"accepted": accepted}))).into_response()
}

fn import(place: &Path, url: &str, arguments: &[&str]) -> Command {
    let mut command = keelson(place);
    command.args(["telemetry", "import"]).args(arguments).args(["--service", "web"]);
    command.env("KEELSON_URL", url).env("KEELSON_TOKEN", "secret").stdin(Stdio::null());
    command
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn log(lines: usize) -> String {
    (0..lines)
        .map(|n| {
            format!(
                "h - - [17/May/2015:10:05:03 +0000] \"GET /{} HTTP/1.1\" {} 1 \"-\" \"-\" 0.001\n",
                n % 7,
                200 + n % 3
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_counted_by_its_status() {
    let place = tempdir().unwrap();
    fs::write(place.path().join("access.log"), log(12_000)).unwrap();
    let (receiver, url) = Receiver::start(&[]).await;
    let done = output(import(place.path(), &url, &["access.log", "--json"])).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&report["imported"], &report["malformed"]), (&json!(12_000), &json!(0)));
    assert_eq!(receiver.statuses(), BTreeMap::from([(200, 4_000), (201, 4_000), (202, 4_000)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_lines_are_named_and_the_others_are_imported() {
    let place = tempdir().unwrap();
    let text_of_log = format!("{}garbage\n{}", log(2), log(1));
    fs::write(place.path().join("access.log"), text_of_log).unwrap();
    let (receiver, url) = Receiver::start(&[]).await;
    let done = output(import(place.path(), &url, &["access.log"])).await;
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(3), "{said}");
    assert!(said.contains("line 3: there is no [time] in it"), "{said}");
    assert_eq!(receiver.statuses(), BTreeMap::from([(200, 2), (201, 1)]));
    let allowed = output(import(place.path(), &url, &["access.log", "--allow-malformed"])).await;
    assert_eq!(allowed.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_sends_the_same_keys() {
    let place = tempdir().unwrap();
    fs::write(place.path().join("access.log"), log(12_000)).unwrap();
    let (receiver, url) = Receiver::start(&[]).await;
    output(import(place.path(), &url, &["access.log"])).await;
    let first = receiver.keys();
    output(import(place.path(), &url, &["access.log", "--concurrency", "1"])).await;
    assert_eq!(first.len(), 3);
    assert_eq!(receiver.keys(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again_when_the_receiver_says_so() {
    let place = tempdir().unwrap();
    fs::write(place.path().join("access.log"), log(3)).unwrap();
    let (receiver, url) = Receiver::start(&[(503, Some("1")), (429, None)]).await;
    let started = Instant::now();
    let done = output(import(place.path(), &url, &["access.log"])).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(started.elapsed() > Duration::from_secs(1), "Retry-After was not honoured");
    let requests = receiver.seen.lock().unwrap().requests;
    assert_eq!((requests, receiver.keys().len()), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_ends_the_import_and_says_how_to_go_on() {
    let place = tempdir().unwrap();
    fs::write(place.path().join("access.log"), log(3)).unwrap();
    for (status, hints) in
        [(403, ["told to", "lines 1 to 3"]), (503, ["gave up", "again within ten minutes"])]
    {
        let (_receiver, url) = Receiver::start(&[(status, None); 50]).await;
        let failed = output(import(place.path(), &url, &["access.log", "--give-up-after", "1s"])).await;
        let said = text(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{said}");
        assert!(hints.iter().all(|hint| said.contains(hint)), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_batches_are_under_way_than_allowed() {
    let place = tempdir().unwrap();
    fs::write(place.path().join("access.log"), log(60_000)).unwrap();
    let (receiver, url) = Receiver::start(&[]).await;
    output(import(place.path(), &url, &["access.log", "--concurrency", "2"])).await;
    assert_eq!(receiver.seen.lock().unwrap().most_at_once, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_and_standard_input_are_read_too() {
    let place = tempdir().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(log(3).as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    fs::write(place.path().join("access.log.gz"), &gzip).unwrap();
    let (receiver, url) = Receiver::start(&[]).await;
    let done = output(import(place.path(), &url, &["access.log.gz", "--instance", "a"])).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(receiver.statuses().values().sum::<usize>(), 3);

    let (receiver, url) = Receiver::start(&[]).await;
    let mut command = import(place.path(), &url, &["-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&gzip).unwrap();
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert!(status.success());
    assert_eq!(receiver.statuses().values().sum::<usize>(), 3);
}
