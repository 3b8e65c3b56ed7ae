//! The totals as `GET /api/monitoring/metrics` shows them. What is not known is null, never 0.

mod shape;

use std::collections::BTreeMap;

use keelson_schemas::histogram::{Histogram, RELATIVE_ERROR};
use keelson_schemas::telemetry::DbSeries;
use keelson_schemas::totals::{InstanceReading, PartitionSummary, ServiceTotals, Windows};

use super::export::{memory_utilization, share};
use super::merge::{Calls, Merged, merge};

pub use shape::Summary;
use shape::{
    Cpu, Database, Disk, Endpoint, Machine, Memory, Operation, Requests, System, Times, View, WindowViews,
};

/// Endpoints, and operations, that are listed of each window: the busiest. The totals are of all.
const MAX_LISTED: usize = 500;

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
    let mut latency = Histogram::default();
    let (mut queries, mut slow, mut all) = (0, 0, Vec::new());
    for (name, service) in &merged.0 {
        for (series, calls) in &service.db {
            queries += calls.count;
            slow += calls.slow;
            latency.merge(&calls.latency);
            all.push((name.as_str(), series, calls));
        }
    }
    let (listed, left_out) = busiest(all, |(_, _, calls)| calls.count);
    Database {
        queries,
        slow,
        response_times: times(&latency),
        by_operation: listed
            .into_iter()
            .map(|(name, series, calls)| operation(name, series, calls))
            .collect(),
        operations_left_out: left_out,
    }
}

fn operation(service: &str, series: &DbSeries, calls: &Calls) -> Operation {
    Operation {
        service: service.to_owned(),
        system: series.system.clone(),
        namespace: series.namespace.clone(),
        operation: series.operation.clone(),
        queries: calls.count,
        slow: calls.slow,
        response_times: times(&calls.latency),
    }
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
    let machines: Vec<Machine> = merged.hosts().map(|(service, host)| machine(service, host)).collect();
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
mod tests;
