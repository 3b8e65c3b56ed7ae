//! The totals as `GET /api/monitoring/metrics` shows them. What is not known is null, never 0.

use std::collections::BTreeMap;

use keelson_schemas::histogram::{Histogram, RELATIVE_ERROR};
use keelson_schemas::totals::{InstanceReading, PartitionSummary, ServiceTotals, Windows};
use serde::Serialize;
use utoipa::ToSchema;

use super::export::{memory_utilization, share};
use super::merge::{Merged, merge};

/// Endpoints, and operations, that are listed of each window: the busiest. The totals are of all.
const MAX_LISTED: usize = 500;

/// What was measured, over spans of event time that end now, and in total.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Spans of event time; null while a worker that took over still reads the last hour again.
    #[schema(required)]
    windows: Option<WindowViews>,
    /// Since the beginning.
    total: View,
}

/// The same measures over several spans.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WindowViews {
    /// The last minute.
    last_minute: View,
    /// The last five minutes.
    last_five_minutes: View,
    /// The last hour.
    last_hour: View,
}

/// The measures of one span.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct View {
    requests: Requests,
    response_times: Times,
    system: System,
    database: Database,
    /// Samples that came more than five minutes after their own time.
    late: u64,
    /// Samples that were counted under `__overflow__` because a bound was reached.
    overflow: u64,
}

/// Requests that services answered.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Requests {
    total: u64,
    /// Those with a status of 500 or above.
    errors: u64,
    /// Errors by total; null without requests.
    #[schema(required)]
    error_rate: Option<f64>,
    /// The endpoints with the most requests.
    by_endpoint: Vec<Endpoint>,
    /// Endpoints that are not listed.
    endpoints_left_out: usize,
}

/// Requests of one endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    service: String,
    method: String,
    route: String,
    total: u64,
    errors: u64,
    #[schema(required)]
    error_rate: Option<f64>,
    response_times: Times,
}

/// Durations in milliseconds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Times {
    /// How many durations are known.
    count: u64,
    /// Mean, exact; null when no duration is known.
    #[schema(required)]
    avg: Option<f64>,
    /// 95th percentile.
    #[schema(required)]
    p95: Option<f64>,
    /// 99th percentile.
    #[schema(required)]
    p99: Option<f64>,
    /// The largest relative error of the percentiles.
    error_bound: f64,
    /// `ms`
    unit: &'static str,
}

/// The machines: of each measure the highest among them, and all of them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct System {
    #[schema(required)]
    cpu: Option<Cpu>,
    #[schema(required)]
    memory: Option<Memory>,
    #[schema(required)]
    disk: Option<Disk>,
    machines: Vec<Machine>,
}

/// CPUs in use.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Cpu {
    /// Share of all CPUs, 0 to 1.
    utilization: f64,
}

/// Memory in use.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Memory {
    /// Share, 0 to 1.
    utilization: f64,
    used_bytes: u64,
    total_bytes: u64,
}

/// The fullest filesystem.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Disk {
    mountpoint: String,
    /// Share, 0 to 1.
    utilization: f64,
    used_bytes: u64,
    total_bytes: u64,
}

/// One machine, by the service instance that reported it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Machine {
    service: String,
    instance: String,
    /// Unix milliseconds of the reading.
    ts: u64,
    #[schema(required)]
    cpu: Option<Cpu>,
    #[schema(required)]
    memory: Option<Memory>,
    #[schema(required)]
    disk: Option<Disk>,
}

/// Database calls that services made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Database {
    queries: u64,
    /// Those that took longer than the threshold for slow queries.
    slow: u64,
    response_times: Times,
    /// The operations with the most calls.
    by_operation: Vec<Operation>,
    /// Operations that are not listed.
    operations_left_out: usize,
}

/// Calls of one operation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DatabaseOperation)]
struct Operation {
    service: String,
    system: String,
    namespace: String,
    operation: String,
    queries: u64,
    slow: u64,
    response_times: Times,
}

/// Puts the summaries of all partitions together. Windows that one of them does not know are not known.
#[must_use]
pub fn summarise(partitions: Vec<PartitionSummary>) -> Summary {
    let (windows, totals): (Vec<_>, Vec<_>) =
        partitions.into_iter().map(|partition| (partition.windows, partition.total.services)).unzip();
    let windows: Option<Vec<Windows>> = windows.into_iter().collect();
    Summary { windows: windows.map(window_views), total: view(totals) }
}

fn window_views(windows: Vec<Windows>) -> WindowViews {
    let (mut minute, mut five_minutes, mut hour) = (Vec::new(), Vec::new(), Vec::new());
    for window in windows {
        minute.push(window.minute);
        five_minutes.push(window.five_minutes);
        hour.push(window.hour);
    }
    WindowViews { last_minute: view(minute), last_five_minutes: view(five_minutes), last_hour: view(hour) }
}

fn view(partitions: Vec<Vec<ServiceTotals>>) -> View {
    let merged = merge(partitions.into_iter().flatten());
    let (requests, response_times) = requests(&merged);
    View {
        requests,
        response_times,
        system: system(&merged),
        database: database(&merged),
        late: merged.0.values().map(|service| service.tally.late).sum(),
        overflow: merged.0.values().map(|service| service.tally.overflow).sum(),
    }
}

/// Requests, errors and durations of any set of series.
#[derive(Default)]
struct Load {
    total: u64,
    errors: u64,
    latency: Histogram,
}

impl Load {
    fn add(&mut self, status: u16, count: u64, latency: &Histogram) {
        self.total += count;
        self.errors += if status >= 500 { count } else { 0 };
        self.latency.merge(latency);
    }
}

fn requests(merged: &Merged) -> (Requests, Times) {
    let mut all = Load::default();
    let mut endpoints = BTreeMap::<[&str; 3], Load>::new();
    for (name, service) in &merged.0 {
        for (series, requests) in &service.http {
            let endpoint = endpoints.entry([name, &series.method, &series.route]).or_default();
            endpoint.add(series.status, requests.count, &requests.latency);
            all.add(series.status, requests.count, &requests.latency);
        }
    }
    let (listed, left_out) = busiest(endpoints.into_iter().collect(), |(_, load)| load.total);
    let requests = Requests {
        total: all.total,
        errors: all.errors,
        error_rate: share(all.errors, all.total),
        by_endpoint: listed.into_iter().map(|(names, load)| endpoint(names, &load)).collect(),
        endpoints_left_out: left_out,
    };
    (requests, times(&all.latency))
}

fn endpoint([service, method, route]: [&str; 3], load: &Load) -> Endpoint {
    Endpoint {
        service: service.to_owned(),
        method: method.to_owned(),
        route: route.to_owned(),
        total: load.total,
        errors: load.errors,
        error_rate: share(load.errors, load.total),
        response_times: times(&load.latency),
    }
}

fn database(merged: &Merged) -> Database {
    let of_service = |(name, service): (_, &'_ super::merge::Service)| {
        let calls = service.db.iter();
        calls
            .map(move |(series, calls)| (name, series.clone(), calls.clone()))
            .collect::<Vec<(&String, _, _)>>()
    };
    let all: Vec<_> = merged.0.iter().flat_map(of_service).collect();
    let mut latency = Histogram::default();
    all.iter().for_each(|(_, _, calls)| latency.merge(&calls.latency));
    let (queries, slow) =
        (all.iter().map(|(_, _, c)| c.count).sum(), all.iter().map(|(_, _, c)| c.slow).sum());
    let (listed, left_out) = busiest(all, |(_, _, calls)| calls.count);
    let by_operation = listed.into_iter().map(|(service, series, calls)| Operation {
        service: service.clone(),
        system: series.system,
        namespace: series.namespace,
        operation: series.operation,
        queries: calls.count,
        slow: calls.slow,
        response_times: times(&calls.latency),
    });
    let by_operation = by_operation.collect();
    Database { queries, slow, response_times: times(&latency), by_operation, operations_left_out: left_out }
}

/// The entries with the highest counts, highest first, and how many are left out.
fn busiest<T>(mut all: Vec<T>, count: impl Fn(&T) -> u64) -> (Vec<T>, usize) {
    all.sort_by_key(|entry| std::cmp::Reverse(count(entry)));
    let left_out = all.len().saturating_sub(MAX_LISTED);
    all.truncate(MAX_LISTED);
    (all, left_out)
}

fn times(latency: &Histogram) -> Times {
    let ms = |seconds: f64| seconds * 1_000.0;
    Times {
        count: latency.count(),
        avg: latency.mean_seconds().map(ms),
        p95: latency.quantile_seconds(0.95).map(ms),
        p99: latency.quantile_seconds(0.99).map(ms),
        error_bound: RELATIVE_ERROR,
        unit: "ms",
    }
}

fn system(merged: &Merged) -> System {
    let of_service = |(name, service): (&String, &super::merge::Service)| -> Vec<Machine> {
        service.hosts.values().map(|host| machine(name, host)).collect()
    };
    let machines: Vec<Machine> = merged.0.iter().flat_map(of_service).collect();
    System {
        cpu: highest(machines.iter().filter_map(|machine| machine.cpu.clone()), |cpu| cpu.utilization),
        memory: highest(machines.iter().filter_map(|machine| machine.memory.clone()), |memory| {
            memory.utilization
        }),
        disk: highest(machines.iter().filter_map(|machine| machine.disk.clone()), |disk| disk.utilization),
        machines,
    }
}

fn machine(service: &str, host: &InstanceReading) -> Machine {
    let reading = &host.reading;
    let memory = memory_utilization(reading).map(|utilization| Memory {
        utilization,
        used_bytes: reading.memory_used_bytes.unwrap_or_default(),
        total_bytes: reading.memory_total_bytes.unwrap_or_default(),
    });
    let disks = reading.filesystems.iter().filter_map(|filesystem| {
        Some(Disk {
            mountpoint: filesystem.mountpoint.clone(),
            utilization: share(filesystem.used_bytes, filesystem.total_bytes)?,
            used_bytes: filesystem.used_bytes,
            total_bytes: filesystem.total_bytes,
        })
    });
    Machine {
        service: service.to_owned(),
        instance: host.instance.clone(),
        ts: reading.ts,
        cpu: reading.cpu_utilization.map(|utilization| Cpu { utilization }),
        memory,
        disk: highest(disks, |disk| disk.utilization),
    }
}

fn highest<T>(all: impl Iterator<Item = T>, measure: impl Fn(&T) -> f64) -> Option<T> {
    all.max_by(|a, b| measure(a).total_cmp(&measure(b)))
}

#[cfg(test)]
mod tests {
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
        assert_eq!(shown["total"]["requests"]["total"], 0);
        assert_eq!(shown["total"]["requests"]["errorRate"], Value::Null);
        assert_eq!(shown["total"]["responseTimes"]["p99"], Value::Null);
        for measure in ["cpu", "memory", "disk"] {
            assert_eq!(shown["total"]["system"][measure], Value::Null);
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
        let requests = &shown["total"]["requests"];
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
        let requests = &shown(vec![summary_of(many)])["total"]["requests"];
        assert_eq!(requests["endpointsLeftOut"], 3);
        assert_eq!(requests["byEndpoint"].as_array().map(Vec::len), Some(MAX_LISTED));
        assert_eq!(requests["byEndpoint"][0]["total"], MAX_LISTED as u64 + 2);
    }

    #[test]
    fn the_whole_example_is_shown() {
        let shown = shown(vec![PartitionSummary::example()]);
        let example = ServiceTotals::example();
        let total = &shown["total"];
        assert_eq!(total["database"]["slow"], example.db.iter().map(|db| db.slow).sum::<u64>());
        assert_eq!(
            (&total["late"], &total["overflow"]),
            (&json!(example.tally.late), &json!(example.tally.overflow))
        );
        assert_eq!(total["system"]["machines"].as_array().map(Vec::len), Some(example.hosts.len()));
    }
}
