//! The totals as metric families. Names and labels are those of the OpenTelemetry semantic conventions in Prometheus form.

use std::borrow::Cow;

use keelson_schemas::telemetry::{DbSeries, HostReading, HttpSeries};
use keelson_schemas::totals::{InstanceReading, PartitionTotals};

use super::merge::{Merged, Service, merge};
use crate::exposition::{Family, Kind, Label, Value};

/// The families of an export.
#[must_use]
pub fn families(partitions: Vec<PartitionTotals>) -> Vec<Family> {
    let rejected = rejected(&partitions);
    let merged = merge(partitions.into_iter().flat_map(|partition| partition.services));
    let mut families = Vec::from(requests(&merged));
    families.extend(calls(&merged));
    families.extend(hosts(&merged));
    families.extend(tallies(&merged));
    families.push(rejected);
    families
}

fn requests(merged: &Merged) -> [Family; 2] {
    let mut total =
        Family::new("http_server_requests_total", Kind::Counter, "Requests that services answered.");
    let mut duration = Family::new(
        "http_server_request_duration_seconds",
        Kind::Histogram,
        "Duration of the requests whose duration is known.",
    );
    for (name, service) in &merged.0 {
        for (series, requests) in &service.http {
            let labels = request_labels(name, series);
            if requests.latency.count() > 0 {
                duration.push(labels.clone(), Value::Histogram(Box::new(requests.latency.clone())));
            }
            total.push(labels, Value::Counter(requests.count));
        }
    }
    [total, duration]
}

fn request_labels(service: &str, series: &HttpSeries) -> Vec<Label> {
    vec![
        label("service_name", service),
        label("http_request_method", &series.method),
        label("http_route", &series.route),
        label("http_response_status_code", series.status.to_string()),
    ]
}

fn calls(merged: &Merged) -> [Family; 3] {
    let mut total =
        Family::new("db_client_operations_total", Kind::Counter, "Database calls that services made.");
    let mut slow = Family::new(
        "keelson_db_slow_operations_total",
        Kind::Counter,
        "Database calls that took longer than the threshold for slow queries.",
    );
    let mut duration = Family::new(
        "db_client_operation_duration_seconds",
        Kind::Histogram,
        "Duration of the database calls whose duration is known.",
    );
    for (name, service) in &merged.0 {
        for (series, calls) in &service.db {
            let labels = call_labels(name, series);
            if calls.latency.count() > 0 {
                duration.push(labels.clone(), Value::Histogram(Box::new(calls.latency.clone())));
            }
            slow.push(labels.clone(), Value::Counter(calls.slow));
            total.push(labels, Value::Counter(calls.count));
        }
    }
    [total, slow, duration]
}

fn call_labels(service: &str, series: &DbSeries) -> Vec<Label> {
    vec![
        label("service_name", service),
        label("db_system_name", &series.system),
        label("db_namespace", &series.namespace),
        label("db_operation_name", &series.operation),
    ]
}

/// One family of ratios and how it is read off a machine.
type Ratio = (&'static str, &'static str, fn(&HostReading) -> Option<f64>);

const RATIOS: [Ratio; 2] = [
    ("system_cpu_utilization_ratio", "Share of all CPUs in use, 0 to 1.", |reading| reading.cpu_utilization),
    ("system_memory_utilization_ratio", "Share of the memory in use, 0 to 1.", memory_utilization),
];

fn hosts(merged: &Merged) -> Vec<Family> {
    let mut families: Vec<Family> = RATIOS.iter().map(|ratio| machines(merged, *ratio)).collect();
    families.push(filesystems(merged));
    families
}

fn machines(merged: &Merged, (name, help, read): Ratio) -> Family {
    let mut family = Family::new(name, Kind::Gauge, help);
    for (service, host) in merged.hosts() {
        if let Some(value) = read(&host.reading) {
            family.push(host_labels(service, host), Value::Gauge(value));
        }
    }
    family
}

fn filesystems(merged: &Merged) -> Family {
    let mut family = Family::new(
        "system_filesystem_utilization_ratio",
        Kind::Gauge,
        "Share of the filesystem in use, 0 to 1.",
    );
    for (service, host) in merged.hosts() {
        for filesystem in &host.reading.filesystems {
            if let Some(value) = share(filesystem.used_bytes, filesystem.total_bytes) {
                let mut labels = host_labels(service, host);
                labels.push(label("system_filesystem_mountpoint", &filesystem.mountpoint));
                family.push(labels, Value::Gauge(value));
            }
        }
    }
    family
}

fn host_labels(service: &str, host: &InstanceReading) -> Vec<Label> {
    vec![label("service_name", service), label("service_instance_id", &host.instance)]
}

/// The share of a machine's memory that is in use, where both sides of it are known.
#[must_use]
pub fn memory_utilization(reading: &HostReading) -> Option<f64> {
    share(reading.memory_used_bytes?, reading.memory_total_bytes?)
}

/// A part of a whole; of nothing there is none.
#[must_use]
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// One family of counts about the counting and how it is read off a service.
type Count = (&'static str, &'static str, fn(&Service) -> u64);

const TALLIES: [Count; 3] = [
    ("keelson_telemetry_samples_total", "Samples of all kinds that were counted.", |service| {
        service.tally.samples
    }),
    (
        "keelson_telemetry_late_samples_total",
        "Samples that came more than five minutes after their own time.",
        |service| service.tally.late,
    ),
    (
        "keelson_telemetry_overflow_samples_total",
        "Samples that were folded into __overflow__ because a bound was reached.",
        |service| service.tally.overflow,
    ),
];

fn tallies(merged: &Merged) -> impl Iterator<Item = Family> {
    TALLIES.into_iter().map(|(name, help, read)| {
        let mut family = Family::new(name, Kind::Counter, help);
        for (service, totals) in &merged.0 {
            family.push(vec![label("service_name", service)], Value::Counter(read(totals)));
        }
        family
    })
}

fn rejected(partitions: &[PartitionTotals]) -> Family {
    let help = "Telemetry messages that could not be counted and went to the dead letters.";
    let count = partitions.iter().map(|partition| partition.rejected).sum();
    Family::single("keelson_telemetry_rejected_messages_total", Kind::Counter, help, Value::Counter(count))
}

pub(super) fn label(name: &'static str, value: impl Into<String>) -> Label {
    (name, Cow::Owned(value.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use keelson_schemas::limits::OVERFLOW;
    use keelson_schemas::message::Message;
    use keelson_schemas::totals::ServiceTotals;

    use super::*;
    use crate::exposition::{Format, encode, tests::promtool};

    fn partitions() -> Vec<PartitionTotals> {
        let overflow = |partition| PartitionTotals {
            partition,
            services: vec![ServiceTotals { service: OVERFLOW.into(), ..ServiceTotals::example() }],
            ..PartitionTotals::example()
        };
        vec![PartitionTotals::example(), overflow(1), overflow(2), PartitionTotals::default()]
    }

    #[test]
    fn no_series_occurs_twice() {
        for family in families(partitions()) {
            let labels: BTreeSet<_> = family.series.iter().map(|series| &series.labels).collect();
            assert_eq!(labels.len(), family.series.len(), "{}", family.name);
        }
    }

    #[test]
    fn the_overflow_of_all_partitions_is_summed() {
        let page = String::from_utf8(encode(&families(partitions()), Format::Text)).expect("UTF-8");
        let samples =
            |service: &str| format!("keelson_telemetry_samples_total{{service_name=\"{service}\"}} ");
        let example = ServiceTotals::example();
        assert!(page.contains(&format!("{}{}\n", samples(OVERFLOW), 2 * example.tally.samples)), "{page}");
        assert!(page.contains(&format!("{}{}\n", samples(&example.service), example.tally.samples)));
        assert!(page.contains("keelson_telemetry_rejected_messages_total 3\n"));
    }

    #[test]
    fn promtool_has_nothing_to_say_of_the_whole_page() {
        if let Some(said) = promtool(&encode(&families(partitions()), Format::Text)) {
            assert_eq!(said, "");
        }
    }

    #[test]
    fn a_duration_that_is_not_known_is_in_no_histogram() {
        let mut partition = PartitionTotals::example();
        for total in &mut partition.services[0].http {
            total.latency = keelson_schemas::histogram::Histogram::default();
        }
        let families = families(vec![partition]);
        let series =
            |name: &str| families.iter().find(|family| family.name == name).map(|family| family.series.len());
        assert_eq!(series("http_server_request_duration_seconds"), Some(0));
        assert_ne!(series("http_server_requests_total"), Some(0));
    }
}
