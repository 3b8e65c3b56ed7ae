use keelson_schemas::message::Message;
use keelson_schemas::telemetry::HttpSeries;
use keelson_schemas::totals::{HttpTotal, PartitionTotals};
use serde_json::{Value, json};

use super::*;

fn shown(partitions: Vec<PartitionSummary>) -> Value {
    serde_json::to_value(summarise(partitions)).expect("JSON")
}

fn request(route: &str, status: u16, requests: u64, latency_us: &[u64]) -> HttpTotal {
    let mut latency = Histogram::default();
    latency_us.iter().for_each(|us| latency.record(*us));
    let series = HttpSeries { method: "GET".into(), route: route.into(), status };
    HttpTotal { series, requests, latency }
}

fn summary_of(http: Vec<HttpTotal>) -> PartitionSummary {
    let service = ServiceTotals { http, ..ServiceTotals::named("content") };
    let total = PartitionTotals { services: vec![service], ..PartitionTotals::default() };
    PartitionSummary { windows: Some(Windows::default()), total }
}

#[test]
fn what_is_not_known_is_null() {
    let shown = shown(vec![PartitionSummary { windows: None, ..PartitionSummary::default() }]);
    assert_eq!(shown["windows"], Value::Null);
    assert_eq!(shown["requests"]["total"], 0);
    assert_eq!(shown["requests"]["errorRate"], Value::Null);
    assert_eq!(shown["responseTimes"]["p99"], Value::Null);
    for measure in ["cpu", "memory", "disk"] {
        assert_eq!(shown["system"][measure], Value::Null);
    }
}

#[test]
fn a_window_that_one_partition_does_not_know_is_not_known() {
    let known = PartitionSummary::example();
    let unknown = PartitionSummary { windows: None, ..PartitionSummary::example() };
    assert!(shown(vec![known.clone()])["windows"]["lastMinute"].is_object());
    assert_eq!(shown(vec![known, unknown])["windows"], Value::Null);
}

#[test]
fn requests_are_summed_by_endpoint_whatever_their_status() {
    let shown = shown(vec![summary_of(vec![
        request("/a", 200, 6, &[1_000; 5]),
        request("/a", 503, 2, &[9_000; 2]),
        request("/b", 404, 2, &[]),
    ])]);
    let requests = &shown["requests"];
    assert_eq!(
        (&requests["total"], &requests["errors"], &requests["errorRate"]),
        (&json!(10), &json!(2), &json!(0.2))
    );
    let first = &requests["byEndpoint"][0];
    assert_eq!(
        (&first["route"], &first["total"], &first["errorRate"]),
        (&json!("/a"), &json!(8), &json!(0.25))
    );
    assert_eq!(first["responseTimes"]["count"], 7);
    let avg = first["responseTimes"]["avg"].as_f64().expect("known");
    assert!((avg - 23.0 / 7.0).abs() < 1e-9, "{avg} ms");
    let p99 = first["responseTimes"]["p99"].as_f64().expect("known");
    assert!((p99 / 9.0 - 1.0).abs() <= RELATIVE_ERROR, "{p99} ms");
    assert_eq!(requests["byEndpoint"][1]["responseTimes"]["avg"], Value::Null);
}

#[test]
fn long_lists_show_the_busiest() {
    let many = (0..MAX_LISTED as u64 + 3).map(|i| request(&format!("/{i}"), 200, i, &[])).collect();
    let requests = &shown(vec![summary_of(many)])["requests"];
    assert_eq!(requests["endpointsLeftOut"], 3);
    assert_eq!(requests["byEndpoint"].as_array().map(Vec::len), Some(MAX_LISTED));
    assert_eq!(requests["byEndpoint"][0]["total"], MAX_LISTED as u64 + 2);
}

#[test]
fn the_whole_example_is_shown() {
    let shown = shown(vec![PartitionSummary::example()]);
    let example = ServiceTotals::example();
    let total = &shown;
    assert_eq!(total["database"]["slow"], example.db.iter().map(|db| db.slow).sum::<u64>());
    assert_eq!(
        (&total["late"], &total["overflow"]),
        (&json!(example.tally.late), &json!(example.tally.overflow))
    );
    assert_eq!(total["system"]["machines"].as_array().map(Vec::len), Some(example.hosts.len()));
}
