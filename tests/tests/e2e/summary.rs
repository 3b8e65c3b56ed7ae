//! `/api/monitoring/metrics`: totals and windows as JSON; what is not known is null and not 0.

use std::time::{Duration, Instant};

use keelson_tests::client::{Client, now_ms};
use keelson_tests::keelson::{SHOWN_WITHIN, Up};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn what_is_not_known_is_null() {
    let up = Up::start().await;
    let summary = summary(&up.client(), |_| true).await;
    for view in [&summary, &summary["windows"]["lastMinute"], &summary["windows"]["lastHour"]] {
        assert_eq!(
            (&view["requests"]["total"], &view["requests"]["errorRate"]),
            (&json!(0), &Value::Null),
            "{view}"
        );
        let times = &view["responseTimes"];
        assert_eq!((&times["avg"], &times["p95"], &times["p99"]), (&Value::Null, &Value::Null, &Value::Null));
    }
}

#[tokio::test]
async fn the_summary_counts_requests_errors_queries_and_machines() {
    let up = Up::start().await;
    let (status, answer) = up.client().post("/api/telemetry", &body()).await;
    assert_eq!(status, 202, "{answer}");

    let all = |summary: &Value| summary["requests"]["total"] == 11;
    let summary = summary(&up.client(), all).await;
    let (minute, hour, total) =
        (&summary["windows"]["lastMinute"], &summary["windows"]["lastHour"], &summary);

    assert_eq!(minute["requests"]["total"], 10, "{minute}");
    assert_eq!((&minute["requests"]["errors"], &minute["requests"]["errorRate"]), (&json!(2), &json!(0.2)));
    assert_eq!(minute["responseTimes"]["avg"], 10.0, "{minute}");
    for percentile in ["p95", "p99"] {
        let shown = minute["responseTimes"][percentile].as_f64().expect("a number");
        assert!((shown - 10.0).abs() <= 0.11, "{percentile}: {shown} ms");
    }
    assert_eq!(
        (&hour["requests"]["total"], &hour["late"], &total["late"]),
        (&json!(11), &json!(1), &json!(1))
    );

    let endpoint = &minute["requests"]["byEndpoint"][0];
    assert_eq!(
        (&endpoint["route"], &endpoint["total"], &endpoint["errors"]),
        (&json!("/a"), &json!(10), &json!(2))
    );
    assert_eq!(
        (&minute["database"]["queries"], &minute["database"]["slow"]),
        (&json!(3), &json!(1)),
        "{minute}"
    );
    let machine = minute["system"]["machines"].as_array().expect("machines").iter();
    let machine =
        machine.clone().find(|machine| machine["instance"] == "content-1").expect("the reported machine");
    assert_eq!(
        (&machine["cpu"]["utilization"], &machine["memory"]["utilization"]),
        (&json!(0.5), &json!(0.25))
    );
    assert_eq!(machine["disk"]["utilization"], 0.75, "{machine}");
}

/// Ten requests of now, two of them errors, and one of ten minutes ago; three queries, one of them slow; one machine.
fn body() -> Value {
    let now = now_ms();
    let request = |ts: u64, status: u16| json!({"ts": ts, "method": "GET", "route": "/a", "status": status, "duration_us": 10_000});
    let query = |us: u64| json!({"ts": now, "system": "mongodb", "namespace": "click.videos", "operation": "find", "duration_us": us});
    let mut http: Vec<Value> =
        [200, 200, 200, 200, 200, 200, 200, 404, 500, 503].map(|status| request(now, status)).into();
    http.push(request(now - 600_000, 200));
    json!({
        "service": "content", "instance": "content-1", "http": http,
        "db": [query(9_000), query(90_000), query(150_000)],
        "host": [{
            "ts": now, "cpu_utilization": 0.5, "memory_used_bytes": 1, "memory_total_bytes": 4,
            "filesystems": [{"mountpoint": "/", "used_bytes": 3, "total_bytes": 4}, {"mountpoint": "/b", "used_bytes": 1, "total_bytes": 4}],
        }],
    })
}

/// The summary, as soon as it is `enough`; windows may be unknown for a moment after the start.
async fn summary(client: &Client, enough: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + SHOWN_WITHIN;
    loop {
        let answer = client.request(Method::GET, "/api/monitoring/metrics").send().await;
        if let Ok(answer) = answer.and_then(reqwest::Response::error_for_status) {
            let summary: Value = answer.json().await.expect("JSON");
            if summary["windows"].is_object() && enough(&summary) {
                return summary;
            }
        }
        assert!(Instant::now() < deadline, "the summary is not as expected");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
