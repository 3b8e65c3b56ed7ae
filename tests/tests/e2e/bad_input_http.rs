//! Bad input over HTTP: each gets a problem that names the field, and the good requests between are counted, every one.

use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use keelson_schemas::limits::{MAX_BODY_BYTES, MAX_SAMPLES_PER_BATCH};
use keelson_tests::client::{Client, now_ms};
use keelson_tests::keelson::{SHOWN_WITHIN, Up};
use keelson_tests::ledger::{Ledger, Sample, Series};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

const JSON: &str = "application/json";
const MSGPACK: &str = "application/msgpack";
const PROTOBUF: &str = "application/x-protobuf";

#[tokio::test]
async fn bad_telemetry_is_refused_by_field_and_good_telemetry_is_counted() {
    let mut up = Up::start().await;
    let mut good = Good::new(up.client());
    for case in cases().await {
        good.send().await;
        check(&up.client(), &case).await;
    }
    good.send().await;
    up.client().assert_shows(&good.sent, SHOWN_WITHIN).await;
    assert!(!up.process().output().contains("panicked"), "something panicked");
}

#[tokio::test]
async fn bad_traces_are_answered_as_otlp_asks() {
    let up = Up::start().await;
    let mut good = Good::new(up.client());
    let post = async |kind: &str, body: Vec<u8>| {
        let request = up.client().request(Method::POST, "/v1/traces").header("content-type", kind);
        request.body(body).send().await.expect("an answer")
    };

    // A refusal is a google.rpc.Status in the encoding of the request.
    let refused = post(PROTOBUF, b"\xffno protobuf".to_vec()).await;
    assert_eq!((refused.status().as_u16(), content_type(&refused)), (400, PROTOBUF.to_owned()));
    let refused = post(JSON, b"{\"resourceSpans\":5}".to_vec()).await;
    assert_eq!((refused.status().as_u16(), content_type(&refused)), (400, JSON.to_owned()));
    assert!(refused.json::<Value>().await.expect("JSON")["message"].is_string());
    assert_eq!(post("text/plain", Vec::new()).await.status(), 415);
    good.send().await;

    // Odd spans are told of and the others are counted.
    let partial = post(JSON, spans(&[200, 1000, 99, 404]).to_string().into_bytes()).await;
    assert_eq!(partial.status(), 200);
    let partial = partial.json::<Value>().await.expect("JSON");
    assert_eq!(partial["partialSuccess"]["rejectedSpans"], "2", "{partial}");
    let page =
        up.client().scrape_until(SHOWN_WITHIN, |page| page.requests() >= good.sent.requests() + 2).await;
    assert_eq!(page.requests(), good.sent.requests() + 2);
    assert_eq!(page.by_status("traced"), [(200, 1), (404, 1)].into());
}

struct Case {
    name: &'static str,
    content_type: &'static str,
    encoding: &'static str,
    body: Vec<u8>,
    status: u16,
    /// What the problem has to name.
    names: &'static str,
}

async fn check(client: &Client, case: &Case) {
    let mut request =
        client.request(Method::POST, "/api/telemetry").header("content-type", case.content_type);
    if !case.encoding.is_empty() {
        request = request.header("content-encoding", case.encoding);
    }
    let response = request.body(case.body.clone()).send().await.expect(case.name);
    let (status, kind) = (response.status().as_u16(), content_type(&response));
    let problem = response.text().await.expect(case.name);
    assert_eq!(
        (status, kind.as_str()),
        (case.status, "application/problem+json"),
        "{}: {problem}",
        case.name
    );
    assert!(problem.contains(case.names), "{}: {problem} does not name {}", case.name, case.names);
}

async fn cases() -> Vec<Case> {
    let mut cases = field_cases();
    let plain = |name, content_type, body: &[u8], status, names| Case {
        name,
        content_type,
        encoding: "",
        body: body.to_vec(),
        status,
        names,
    };
    let msgpack = rmp_serde::to_vec_named(&row(&json!({}))).expect("encodes");
    let bomb = vec![b' '; 64 * 1024 * 1024];
    cases.extend([
        plain("no JSON", JSON, b"{\"service\":", 400, "malformed"),
        plain("no body", JSON, b"", 400, "malformed"),
        plain("more after the end", JSON, b"{\"service\":\"a\"} x", 400, "malformed"),
        plain("no MessagePack", MSGPACK, &msgpack[..msgpack.len() - 1], 400, "malformed"),
        plain("a content type of another kind", "text/plain", b"{}", 415, "content type"),
        plain("a body over the limit", JSON, &vec![b' '; MAX_BODY_BYTES + 1], 413, "8388608"),
        plain("too many samples", MSGPACK, &too_many(), 413, "are the most"),
    ]);
    let coded = |name, encoding, body, status, names| Case {
        name,
        content_type: JSON,
        encoding,
        body,
        status,
        names,
    };
    cases.extend([
        coded("a gzip bomb", "gzip", gzip(&bomb).await, 413, "8388608"),
        coded("a zstd bomb", "zstd", zstd(&bomb).await, 413, "8388608"),
        coded("no gzip", "gzip", b"{}".to_vec(), 400, "decompress"),
        coded("an encoding that is not known", "br", b"{}".to_vec(), 415, "br"),
    ]);
    cases
}

/// A good sample beside one with a field changed: the batch is refused whole.
fn field_cases() -> Vec<Case> {
    let long = "x".repeat(10_000);
    let ahead = now_ms() + 3_600_000;
    let fields: [(&'static str, Value, &'static str); 16] = [
        ("a status of 99", json!({"status": 99}), "http[1].status"),
        ("a status of 1000", json!({"status": 1000}), "http[1].status"),
        ("a status of 70000", json!({"status": 70000}), "http[1].status"),
        ("a status in words", json!({"status": "two hundred"}), "http[1].status"),
        ("a negative duration", json!({"duration_us": -1}), "http[1].duration_us"),
        ("a duration of a fraction", json!({"duration_us": 1.5}), "http[1].duration_us"),
        ("a duration of more than a day", json!({"duration_us": 86_400_000_001_u64}), "http[1].duration_us"),
        ("a time in the future", json!({"ts": ahead}), "http[1].ts"),
        ("a time in microseconds", json!({"ts": now_ms() * 1000}), "http[1].ts"),
        ("a negative time", json!({"ts": -1}), "http[1].ts"),
        ("an empty route", json!({"route": ""}), "http[1].route"),
        ("a route of 10 kB", json!({"route": long}), "http[1].route"),
        ("a route that is none", json!({"route": null}), "http[1].route"),
        ("an empty method", json!({"method": ""}), "http[1].method"),
        ("a method of 10 kB", json!({"method": long}), "http[1].method"),
        ("a field that is not known", json!({"colour": "red"}), "colour"),
    ];
    let tops: [(&'static str, Value, &'static str); 5] = [
        ("an empty service", json!({"service": ""}), "service"),
        ("a service of 10 kB", json!({"service": long}), "service"),
        ("a service that is a number", json!({"service": 5}), "service"),
        ("rows that are no list", json!({"http": {}}), "http"),
        (
            "a host that uses more than it has",
            json!({"host": [{"memory_used_bytes": 2, "memory_total_bytes": 1}]}),
            "host[0].memory_used_bytes",
        ),
    ];
    let of_rows = fields.into_iter().map(|(name, change, names)| (name, row(&change), names));
    let of_tops =
        tops.into_iter().map(|(name, change, names)| (name, changed(row(&json!({})), &change), names));
    let case = |(name, body, names): (&'static str, Value, &'static str)| {
        let body = body.to_string().into_bytes();
        Case { name, content_type: JSON, encoding: "", body, status: 422, names }
    };
    of_rows.chain(of_tops).map(case).collect()
}

/// A body of two rows, the second changed.
fn row(change: &Value) -> Value {
    let good = json!({"ts": now_ms(), "method": "GET", "route": "/never", "status": 200, "duration_us": 1});
    json!({"service": "refused", "http": [good.clone(), changed(good, change)]})
}

fn changed(mut value: Value, change: &Value) -> Value {
    for (key, to) in change.as_object().expect("an object") {
        value[key] = to.clone();
    }
    value
}

fn too_many() -> Vec<u8> {
    let good = json!({"method": "GET", "route": "/", "status": 200});
    let body = json!({"service": "refused", "http": vec![good; MAX_SAMPLES_PER_BATCH + 1]});
    rmp_serde::to_vec_named(&body).expect("encodes")
}

fn spans(statuses: &[u16]) -> Value {
    let end = now_ms() * 1_000_000;
    let span = |status: &u16| {
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        json!({
            "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "GET /a", "kind": 2,
            "startTimeUnixNano": (end - 5_000_000).to_string(), "endTimeUnixNano": end.to_string(),
            "attributes": [
                text("http.request.method", "GET"), text("http.route", "/a"),
                {"key": "http.response.status_code", "value": {"intValue": status.to_string()}},
            ],
        })
    };
    let spans: Vec<Value> = statuses.iter().map(span).collect();
    let name = json!({"key": "service.name", "value": {"stringValue": "traced"}});
    json!({"resourceSpans": [{"resource": {"attributes": [name]}, "scopeSpans": [{"spans": spans}]}]})
}

/// The good requests around the bad ones.
struct Good {
    client: Client,
    sent: Ledger,
}

impl Good {
    fn new(client: Client) -> Self {
        Self { client, sent: Ledger::default() }
    }

    async fn send(&mut self) {
        let series = Series { service: "good".into(), method: "GET".into(), route: "/".into(), status: 200 };
        let samples = vec![Sample { ts: now_ms(), series, duration_us: Some(7_000) }; 5];
        let key = format!("good-{}", self.sent.requests());
        assert_eq!(self.client.send(&key, "good", &samples).await, 1, "a good request had to be repeated");
        self.sent.add(&samples);
    }
}

fn content_type(response: &Response) -> String {
    let value = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

async fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(plain).await.expect("compresses");
    encoder.shutdown().await.expect("ends");
    encoder.into_inner()
}

async fn zstd(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZstdEncoder::new(Vec::new());
    encoder.write_all(plain).await.expect("compresses");
    encoder.shutdown().await.expect("ends");
    encoder.into_inner()
}
