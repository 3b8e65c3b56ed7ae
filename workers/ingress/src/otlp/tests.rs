use keelson_schemas::limits::{MAX_SAMPLES_PER_BATCH, UNKNOWN, UNROUTED};
use keelson_schemas::telemetry::Batch;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW_MS: u64 = 1_764_000_000_000;
const START_NANO: u64 = (NOW_MS - 100) * 1_000_000;

const SERVER: i32 = 2;
const CLIENT: i32 = 3;

fn attribute((key, value): (&str, Value)) -> Value {
    let value = match value {
        Value::String(text) => json!({"stringValue": text}),
        Value::Number(number) => json!({"intValue": number.to_string()}),
        other => panic!("{other}"),
    };
    json!({"key": key, "value": value})
}

fn span<const N: usize>(kind: i32, name: &str, attributes: [(&str, Value); N]) -> Value {
    json!({"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":name,"kind":kind,
        "startTimeUnixNano":START_NANO.to_string(),"endTimeUnixNano":(START_NANO + 12_500_999).to_string(),
        "attributes":attributes.map(attribute).to_vec(),"status":{}})
}

fn resource(service: &str, spans: &[Value]) -> Value {
    let attributes = [("service.name", json!(service)), ("service.instance.id", json!("i-1"))].map(attribute);
    json!({"resource":{"attributes":attributes.to_vec()},"scopeSpans":[{"scope":{"name":"test"},"spans":spans}]})
}

/// Converts a request given in JSON, by way of both encodings.
fn convert_json(resources: &[Value]) -> Converted {
    let body = json!({"resourceSpans": resources}).to_string();
    let from_json = decode(body.as_bytes(), Encoding::Json).expect("JSON");
    let from_protobuf = decode(&from_json.encode_to_vec(), Encoding::Protobuf).expect("protobuf");
    assert_eq!(from_json, from_protobuf);
    convert(&from_json, NOW_MS)
}

fn only_batch(span: Value) -> Batch {
    let mut converted = convert_json(&[resource("content", std::slice::from_ref(&span))]);
    assert_eq!((converted.odd, converted.reason.take()), (0, None), "{span}");
    assert_eq!(converted.batches.len(), 1, "{span}");
    let batch = converted.batches.remove(0);
    assert_eq!(batch.check(), Ok(()));
    batch
}

#[test]
fn server_spans_become_requests_under_old_and_new_names() {
    let new = [
        ("http.request.method", json!("GET")),
        ("http.response.status_code", json!(200)),
        ("http.route", json!("/videos/:id")),
        ("url.path", json!("/videos/17")),
    ];
    let old = [
        ("http.method", json!("GET")),
        ("http.status_code", json!(200)),
        ("http.route", json!("/videos/:id")),
        ("http.target", json!("/videos/17?x=1")),
    ];
    let as_text = [
        ("http.method", json!("GET")),
        ("http.status_code", json!("200")),
        ("http.route", json!("/videos/:id")),
    ];
    for span in [span(SERVER, "GET", new), span(SERVER, "GET", old), span(SERVER, "GET", as_text)] {
        let batch = only_batch(span);
        assert_eq!((batch.service.as_str(), batch.instance.as_str()), ("content", "i-1"));
        assert_eq!(batch.base_ms, NOW_MS - 100 + 12, "the time of a sample is its span's end");
        assert_eq!(batch.http.duration_us, [Some(12_500)]);
        let series = &batch.http.series[0];
        assert_eq!(
            (series.method.as_str(), series.route.as_str(), series.status),
            ("GET", "/videos/:id", 200)
        );
    }
}

#[test]
fn a_path_never_becomes_a_route() {
    let cases = [
        ("GET /videos/:id", "/videos/17", "/videos/:id"),
        ("GET /videos/{id}", "/videos/17", "/videos/{id}"),
        ("/videos/<int:id>", "/videos/17", "/videos/<int:id>"),
        ("GET /login", "/login", "/login"),
        ("GET /videos/17", "/videos/17", UNROUTED),
        ("GET /a-very-long-title-of-some-video", "/a-very-long-title-of-some-video", UNROUTED),
        ("GET /search?q=cats", "/search", UNROUTED),
        ("GET", "/videos/17", UNROUTED),
        ("HTTP GET", "/videos/17", UNROUTED),
        ("", "/videos/17", UNROUTED),
    ];
    for (name, path, route) in cases {
        let attributes =
            [("http.method", json!("GET")), ("http.status_code", json!(200)), ("http.target", json!(path))];
        assert_eq!(only_batch(span(SERVER, name, attributes)).http.series[0].route, route, "{name:?}");
    }
}

#[test]
fn database_spans_become_calls_under_old_and_new_names() {
    let new = span(
        CLIENT,
        "find videos",
        [
            ("db.system.name", json!("mongodb")),
            ("db.namespace", json!("click")),
            ("db.collection.name", json!("videos")),
            ("db.operation.name", json!("find")),
        ],
    );
    let old = span(
        CLIENT,
        "mongodb.find",
        [
            ("db.system", json!("mongodb")),
            ("db.name", json!("click")),
            ("db.mongodb.collection", json!("videos")),
            ("db.operation", json!("find")),
            ("db.statement", json!("{\"find\":\"?\"}")),
        ],
    );
    let sql = span(
        CLIENT,
        "SELECT",
        [
            ("db.system", json!("postgresql")),
            ("db.name", json!("click")),
            ("db.statement", json!("select * from users where id = 17")),
        ],
    );
    let redis = span(CLIENT, "x", [("db.system", json!("redis")), ("db.statement", json!("GET user:17"))]);
    let bare = span(CLIENT, "x", [("db.system", json!("mongodb")), ("db.statement", json!("{}"))]);
    let cases = [
        (new, ["mongodb", "click.videos", "find"]),
        (old, ["mongodb", "click.videos", "find"]),
        (sql, ["postgresql", "click", "SELECT"]),
        (redis, ["redis", UNKNOWN, "GET"]),
        (bare, ["mongodb", UNKNOWN, UNKNOWN]),
    ];
    for (span, expected) in cases {
        let batch = only_batch(span);
        let series = &batch.db.series[0];
        assert_eq!([series.system.as_str(), &series.namespace, &series.operation], expected);
        assert_eq!(batch.db.duration_us, [Some(12_500)]);
    }
}

#[test]
fn a_request_that_failed_without_a_status_is_an_error() {
    let mut failed = span(SERVER, "GET", [("http.method", json!("GET")), ("http.route", json!("/a"))]);
    failed["status"] = json!({"code": 2});
    assert_eq!(only_batch(failed).http.series[0].status, 500);
}

#[test]
fn spans_that_are_neither_are_accepted_and_not_counted() {
    let rpc = span(SERVER, "grpc.Service/Call", [("rpc.system", json!("grpc"))]);
    let outgoing = span(CLIENT, "GET", [("http.method", json!("GET")), ("http.status_code", json!(200))]);
    let internal = span(1, "work", [("http.method", json!("GET"))]);
    let converted = convert_json(&[resource("content", &[rpc, outgoing, internal])]);
    assert_eq!(converted, Converted::default());
}

#[test]
fn odd_spans_are_left_out_and_the_good_ones_stay() {
    let http = |status: i64| {
        span(
            SERVER,
            "GET /a",
            [("http.method", json!("GET")), ("http.status_code", json!(status)), ("http.route", json!("/a"))],
        )
    };
    let with = |key: &str, value: Value| {
        let mut odd = http(200);
        odd[key] = value;
        odd
    };
    let long = span(CLIENT, "x", [("db.system", json!("mongodb")), ("db.name", json!("n".repeat(10_000)))]);
    let cases = [
        (http(99), "http.response.status_code"),
        (http(1000), "http.response.status_code"),
        (http(-200), "http.response.status_code"),
        (span(SERVER, "GET", [("http.method", json!("GET"))]), "http.response.status_code"),
        (with("endTimeUnixNano", json!("1")), "endTimeUnixNano"),
        (with("startTimeUnixNano", json!("0")), "endTimeUnixNano"),
        (with("endTimeUnixNano", json!(((NOW_MS + 300_002) * 1_000_000).to_string())), "endTimeUnixNano"),
        (with("startTimeUnixNano", json!("1")), "endTimeUnixNano - startTimeUnixNano"),
        (long, "db.namespace"),
    ];
    for (odd, field) in cases {
        let converted = convert_json(&[resource("content", &[http(200), odd.clone(), http(204)])]);
        assert_eq!(converted.odd, 1, "{odd}");
        let reason = converted.reason.expect("a reason");
        assert!(reason.contains(&format!(": {field}: ")), "{reason}");
        assert_eq!(converted.batches[0].len(), 2);
    }
}

#[test]
fn a_service_whose_name_cannot_be_kept_is_odd_with_all_its_spans() {
    let good = span(
        SERVER,
        "GET",
        [("http.method", json!("GET")), ("http.status_code", json!(200)), ("http.route", json!("/a"))],
    );
    let internal = span(1, "work", []);
    let long = resource(&"s".repeat(10_000), &[good.clone(), internal, good.clone()]);
    let converted = convert_json(&[long, resource("content", &[good])]);
    assert_eq!((converted.odd, converted.batches.len()), (2, 1));
    assert!(converted.reason.expect("a reason").starts_with("service.name: "));
}

#[test]
fn one_batch_for_each_instance_and_a_further_one_when_it_is_full() {
    let good = span(
        SERVER,
        "GET",
        [("http.method", json!("GET")), ("http.status_code", json!(200)), ("http.route", json!("/a"))],
    );
    let nameless = json!({"scopeSpans":[{"spans":[good.clone()]}]});
    let converted = convert_json(&[
        resource("b", std::slice::from_ref(&good)),
        nameless,
        resource("a", std::slice::from_ref(&good)),
        resource("b", std::slice::from_ref(&good)),
    ]);
    let services: Vec<_> =
        converted.batches.iter().map(|batch| (batch.service.as_str(), batch.len())).collect();
    assert_eq!(services, [("a", 1), ("b", 2), ("unknown_service", 1)]);
    let many = vec![good; MAX_SAMPLES_PER_BATCH + 1];
    let sizes: Vec<_> = convert_json(&[resource("a", &many)]).batches.iter().map(Batch::len).collect();
    assert_eq!(sizes, [MAX_SAMPLES_PER_BATCH, 1]);
}

#[tokio::test]
async fn replies_speak_the_requests_encoding() {
    use crate::problem::{Kind, Problem};
    use axum::body::to_bytes;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
    let body = |response: axum::response::Response| async {
        to_bytes(response.into_body(), 10_000).await.expect("a body")
    };
    let as_json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");

    assert!(body(reply::taken(Encoding::Protobuf, 0, None)).await.is_empty());
    assert_eq!(as_json(&body(reply::taken(Encoding::Json, 0, None)).await), json!({}));
    let partial =
        ExportTraceServiceResponse::decode(body(reply::taken(Encoding::Protobuf, 3, Some("why"))).await);
    assert_eq!(partial.expect("protobuf").partial_success.map(|partial| partial.rejected_spans), Some(3));
    let partial = as_json(&body(reply::taken(Encoding::Json, 3, Some("why"))).await);
    assert_eq!(partial["partialSuccess"]["rejectedSpans"], "3");

    let problem = Problem::new(Kind::BusUnavailable, "away");
    let refused = reply::refused(Encoding::Protobuf, &problem, Some(&2.into()));
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()), (503, &b"2"[..]));
    let status = reply::Status::decode(body(refused).await).expect("protobuf");
    assert_eq!((status.code, status.message.as_str()), (14, "away"));
    let status = as_json(&body(reply::refused(Encoding::Json, &problem, None)).await);
    assert_eq!(status, json!({"code": 14, "message": "away"}));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..512)) {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            if let Ok(request) = decode(&body, encoding) {
                let _ = convert(&request, NOW_MS);
            }
        }
    }

    #[test]
    fn a_damaged_request_never_panics_and_what_is_taken_can_be_counted(at: usize, byte: u8) {
        let good = span(SERVER, "GET /a", [("http.method", json!("GET")), ("http.status_code", json!(200))]);
        let text = json!({"resourceSpans": [resource("content", &[good])]}).to_string().into_bytes();
        let packed = decode(&text, Encoding::Json).expect("JSON").encode_to_vec();
        for (mut body, encoding) in [(text, Encoding::Json), (packed, Encoding::Protobuf)] {
            let at = at % body.len();
            body[at] = byte;
            if let Ok(request) = decode(&body, encoding) {
                let converted = convert(&request, NOW_MS);
                prop_assert!(converted.batches.iter().all(|batch| batch.check().is_ok()));
            }
        }
    }
}
