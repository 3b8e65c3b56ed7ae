use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use keelson_ingress::config::Config;
use keelson_schemas::limits::MAX_BODY_BYTES;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::fixture::{Fixture, header, problem};

const TELEMETRY: &str = "/api/telemetry";

fn small() -> Value {
    json!({"service":"a","http":[{"method":"GET","route":"/","status":200}]})
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused_with_their_status() {
    let fixture = Fixture::start().await;
    let bomb = vec![b' '; 4 * MAX_BODY_BYTES];
    let mut gzip = GzipEncoder::new(Vec::new());
    gzip.write_all(&bomb).await.expect("compresses");
    gzip.shutdown().await.expect("ends");
    let mut zstd = ZstdEncoder::new(Vec::new());
    zstd.write_all(&bomb).await.expect("compresses");
    zstd.shutdown().await.expect("ends");
    let json_type = "application/json";
    let cases = [
        (fixture.post(TELEMETRY, json_type, "{"), 400),
        (fixture.post(TELEMETRY, "application/msgpack", "\u{1}"), 422),
        (fixture.post(TELEMETRY, "application/msgpack", vec![0xc1]), 400),
        (fixture.post(TELEMETRY, "text/plain", small().to_string()), 415),
        (fixture.client.post(fixture.url(TELEMETRY)).body(small().to_string()), 415),
        (fixture.post(TELEMETRY, json_type, "x").header("content-encoding", "br"), 415),
        (fixture.post(TELEMETRY, json_type, "x").header("content-encoding", "gzip"), 400),
        (fixture.post(TELEMETRY, json_type, gzip.into_inner()).header("content-encoding", "gzip"), 413),
        (fixture.post(TELEMETRY, json_type, zstd.into_inner()).header("content-encoding", "zstd"), 413),
        (fixture.post_json(TELEMETRY, &small()).header("idempotency-key", "two words"), 422),
        (fixture.get("/api/nothing"), 404),
        (fixture.get(TELEMETRY), 405),
    ];
    for (i, (request, expected)) in cases.into_iter().enumerate() {
        assert_eq!(problem(request).await.0, expected, "case {i}");
    }
    let allowed = fixture.get(TELEMETRY).send().await.expect("an answer");
    assert_eq!(header(&allowed, "allow"), "POST");
    assert_eq!(fixture.batches().await.len(), 0);
    assert_eq!(fixture.post_json(TELEMETRY, &small()).send().await.expect("an answer").status(), 202);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_by_its_declared_length() {
    let fixture = Fixture::start().await;
    let request = fixture.post(TELEMETRY, "application/json", vec![b' '; MAX_BODY_BYTES + 1]);
    // The answer comes before the body is through, so a client may also see the connection close.
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), 413);
    }
}

#[tokio::test]
async fn tokens_are_asked_for_and_checked() {
    let fixture = Fixture::start().await;
    let unknown = fixture.get("/healthz").bearer_auth("unknown").send().await.expect("an answer");
    assert_eq!((unknown.status().as_u16(), header(&unknown, "www-authenticate")), (401, "Bearer"));
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_back() {
    let fixture = Fixture::start_with(Config { max_requests_per_second: 1, ..Config::default() }).await;
    let first = fixture.post_json(TELEMETRY, &small()).send().await.expect("an answer");
    assert_eq!(first.status(), 202);
    let second = fixture.post_json(TELEMETRY, &small()).send().await.expect("an answer");
    assert_eq!((second.status().as_u16(), header(&second, "retry-after")), (429, "1"));
    let other = fixture.post_json(TELEMETRY, &small()).bearer_auth("t-telemetry").send().await;
    assert_eq!(other.expect("an answer").status(), 202, "another principal has a bucket of its own");
    assert_eq!(fixture.get("/healthz").send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off() {
    let fixture = Fixture::start_with(Config { deadline_ms: 100, ..Config::default() }).await;
    let endless = reqwest::Body::wrap_stream(futures::stream::pending::<std::io::Result<Vec<u8>>>());
    let (status, said) = problem(fixture.post(TELEMETRY, "application/json", endless)).await;
    assert_eq!((status, &said["type"]), (503, &json!("urn:keelson:problem:deadline-exceeded")));
}
