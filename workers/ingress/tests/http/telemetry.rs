use keelson_schemas::telemetry::Batch;
use serde_json::{Value, json};

use crate::fixture::{Fixture, header, problem};

fn body(routes: &[&str]) -> Value {
    let http: Vec<Value> = routes
        .iter()
        .map(|route| json!({"method":"GET","route":route,"status":200,"duration_us":5}))
        .collect();
    json!({"service":"content","instance":"content-1","http":http})
}

#[tokio::test]
async fn a_batch_is_on_its_stream_before_the_202() {
    let fixture = Fixture::start().await;
    let packed = rmp_serde::to_vec_named(&body(&["/b"])).expect("packs");
    let requests = [
        fixture.post_json("/api/telemetry", &body(&["/a", "/a"])),
        fixture.post("/api/telemetry", "application/msgpack", packed),
    ];
    for (i, request) in requests.into_iter().enumerate() {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 202);
        assert!(!header(&response, "x-request-id").is_empty());
        assert_eq!(response.json::<Value>().await.expect("JSON"), json!({"accepted": 2 - i}));
        assert_eq!(fixture.batches().await.len(), i + 1);
    }
    let stored = fixture.stored("TELEMETRY").await;
    assert_eq!(stored[0].subject(), "keelson.tel.4", "the partition of its service");
    let batches = fixture.batches().await;
    assert_eq!(batches.iter().map(Batch::len).sum::<usize>(), 3);
}

#[tokio::test]
async fn the_same_key_and_body_count_once() {
    let fixture = Fixture::start().await;
    let send = |key: &'static str, routes: &'static [&'static str], token: &'static str| {
        let request = fixture.post_json("/api/telemetry", &body(routes));
        request.header("idempotency-key", key).bearer_auth(token).send()
    };
    for (key, routes, token) in [
        ("k1", &["/a"][..], "t-telemetry"),
        ("k1", &["/a"], "t-telemetry"),
        ("k1", &["/b"], "t-telemetry"), // another body under a key that was used: it is counted too
        ("k2", &["/a"], "t-telemetry"),
        ("k1", &["/a"], "t-admin"), // somebody else's key
    ] {
        assert_eq!(send(key, routes, token).await.expect("an answer").status(), 202);
    }
    assert_eq!(fixture.batches().await.len(), 4);
    for _ in 0..2 {
        assert_eq!(
            fixture.post_json("/api/telemetry", &body(&["/c"])).send().await.expect("an answer").status(),
            202
        );
    }
    assert_eq!(fixture.batches().await.len(), 6, "without a key every sending counts");
}

#[tokio::test]
async fn a_bad_batch_is_refused_whole_and_named() {
    let fixture = Fixture::start().await;
    let mut bad = body(&["/a", "/b"]);
    bad["http"][1]["status"] = json!(1000);
    let (status, said) = problem(fixture.post_json("/api/telemetry", &bad)).await;
    assert_eq!((status, &said["field"]), (422, &json!("http[1].status")));
    assert_eq!(said["type"], "urn:keelson:problem:invalid-field");
    assert_eq!(fixture.batches().await.len(), 0);
}

#[tokio::test]
async fn while_the_bus_is_away_nothing_is_accepted() {
    let mut fixture = Fixture::start().await;
    fixture.server.kill();
    let mut link = fixture.bus.link();
    link.wait_for(|link| !link.up).await.expect("the link breaks");
    let response = fixture.post_json("/api/telemetry", &body(&["/a"])).send().await.expect("an answer");
    assert_eq!(response.status(), 503);
    assert!(header(&response, "retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0));
    assert_eq!(problem(fixture.get("/readyz")).await.0, 503);
    assert_eq!(fixture.get("/healthz").send().await.expect("an answer").status(), 200);

    fixture.server.resume_after_kill().await.expect("the server comes back");
    fixture.bus.connected().await;
    assert_eq!(fixture.get("/readyz").send().await.expect("an answer").status(), 200);
    let response = fixture.post_json("/api/telemetry", &body(&["/a"])).send().await.expect("an answer");
    assert_eq!(response.status(), 202);
}

#[tokio::test]
async fn a_draining_process_says_so_and_finishes() {
    let fixture = Fixture::start().await;
    let drained = fixture.tasks.shutdown(std::time::Duration::from_secs(5)).await;
    assert_eq!(drained, keelson_kit::tasks::Drained::Completely);
    assert!(fixture.get("/healthz").send().await.is_err(), "nobody listens any more");
}
