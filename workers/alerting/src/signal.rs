//! The signals that rules can look at: the one table of them.
//!
//! Telemetry gives most of them, by way of slices. The others are readings that workers tell of themselves.

/// A signal.
#[derive(Debug, PartialEq)]
pub struct Signal {
    /// Its name.
    pub name: &'static str,
    /// What it is made of.
    pub source: Source,
    /// How its value comes of what a window holds.
    pub measure: Measure,
    /// What its value is in.
    pub unit: Unit,
    /// The labels that it can be told apart or filtered by.
    pub labels: &'static [&'static str],
    /// Those of them by which a rule tells it apart that does not say.
    pub by: &'static [&'static str],
    /// What it is, in words that follow a service's name.
    pub meaning: &'static str,
}

/// What signals are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Requests that services answered.
    Http,
    /// Database calls that services made.
    Db,
    /// Memory of machines.
    Memory,
    /// CPUs of machines.
    Cpu,
    /// Filesystems of machines.
    Filesystem,
    /// Readings under the signal's name.
    Reading,
}

/// How a value comes of what a window holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// Samples.
    Count,
    /// Marked samples: failed requests, slow database calls.
    Marked,
    /// Samples a second.
    Rate,
    /// The share of marked samples.
    Ratio,
    /// The mean of durations or of readings.
    Mean,
    /// The duration below which this share of them lies.
    Quantile(f64),
    /// The sum of readings, each of which tells how many came anew.
    Sum,
    /// The newest reading.
    Last,
}

/// What a value is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Things a second.
    PerSecond,
    /// A share, 0 to 1.
    Ratio,
    /// Seconds.
    Seconds,
}

impl Signal {
    /// The signal of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        SIGNALS.iter().find(|signal| signal.name == name)
    }

    /// Its own name for a label; none if it lacks it.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&'static str> {
        self.labels.iter().copied().find(|label| *label == name)
    }

    /// How far a rule looks back that does not say, in seconds. Readings may come once a minute only.
    #[must_use]
    pub fn default_window_s(&self) -> u64 {
        if self.source == Source::Reading { 300 } else { 60 }
    }
}

/// The name of the label that tells services apart.
pub const SERVICE: &str = "service_name";
/// The name of the label that tells machines apart.
pub const INSTANCE: &str = "instance";
/// The name of the label that tells filesystems apart.
pub const MOUNTPOINT: &str = "mountpoint";

const HTTP: &[&str] = &[SERVICE, "http_request_method", "http_route", "http_response_status_code"];
const DB: &[&str] = &[SERVICE, "db_system_name", "db_namespace", "db_operation_name"];
const HOST: &[&str] = &[SERVICE, INSTANCE];
const DISK: &[&str] = &[SERVICE, INSTANCE, MOUNTPOINT];
const CONSUMER: &[&str] = &["stream", "consumer"];
const PROVIDER: &[&str] = &["provider"];
const RECEIVER: &[&str] = &["receiver", "integration"];

/// Every signal.
pub const SIGNALS: &[Signal] = &[
    http("requests", Measure::Count, Unit::Count, "requests"),
    http("request_rate", Measure::Rate, Unit::PerSecond, "request rate"),
    http("errors", Measure::Marked, Unit::Count, "failed requests"),
    http("error_ratio", Measure::Ratio, Unit::Ratio, "share of failed requests"),
    http("latency_avg", Measure::Mean, Unit::Seconds, "average response time"),
    http("latency_p50", Measure::Quantile(0.5), Unit::Seconds, "median response time"),
    http("latency_p90", Measure::Quantile(0.9), Unit::Seconds, "P90 response time"),
    http("latency_p95", Measure::Quantile(0.95), Unit::Seconds, "P95 response time"),
    http("latency_p99", Measure::Quantile(0.99), Unit::Seconds, "P99 response time"),
    http("latency_p999", Measure::Quantile(0.999), Unit::Seconds, "P99.9 response time"),
    db("queries", Measure::Count, Unit::Count, "database calls"),
    db("query_rate", Measure::Rate, Unit::PerSecond, "rate of database calls"),
    db("slow_queries", Measure::Marked, Unit::Count, "slow database calls"),
    db("query_latency_avg", Measure::Mean, Unit::Seconds, "average time of database calls"),
    db("query_latency_p95", Measure::Quantile(0.95), Unit::Seconds, "P95 time of database calls"),
    db("query_latency_p99", Measure::Quantile(0.99), Unit::Seconds, "P99 time of database calls"),
    host("memory_utilization", Source::Memory, HOST, "memory in use"),
    host("cpu_utilization", Source::Cpu, HOST, "CPU in use"),
    host("filesystem_utilization", Source::Filesystem, DISK, "disk in use"),
    reading("dead_letters", Measure::Sum, Unit::Count, CONSUMER, "new dead letters"),
    reading("consumer_lag", Measure::Last, Unit::Count, CONSUMER, "messages that wait"),
    reading("breaker_open", Measure::Last, Unit::Count, &[SERVICE], "open circuit breaker"),
    reading("service_down", Measure::Last, Unit::Count, &[SERVICE], "a service of which no instance is well"),
    reading(
        "certificate_expiring",
        Measure::Last,
        Unit::Count,
        &[SERVICE],
        "a certificate that is soon valid no longer",
    ),
    reading("backup_age_seconds", Measure::Last, Unit::Seconds, &[], "age of the newest backup"),
    reading("backup_overdue_seconds", Measure::Last, Unit::Seconds, &[], "time since a backup was due"),
    reading("backups_failed", Measure::Sum, Unit::Count, &[], "backups that failed"),
    reading("backup_gaps", Measure::Sum, Unit::Count, &[], "backups from which the oplog did not go on"),
    reading(
        "drill_overdue_seconds",
        Measure::Last,
        Unit::Seconds,
        &[],
        "time since a restore was to be rehearsed",
    ),
    reading("drills_failed", Measure::Sum, Unit::Count, &[], "rehearsals of a restore that failed"),
    reading(
        "purges_stale",
        Measure::Sum,
        Unit::Count,
        PROVIDER,
        "purges after which readers got something old",
    ),
    reading("purges_failed", Measure::Sum, Unit::Count, PROVIDER, "purges that failed"),
    reading("cdn_provider_down", Measure::Last, Unit::Count, PROVIDER, "a CDN provider that takes no purges"),
    reading("notification_failures", Measure::Sum, Unit::Count, RECEIVER, "notifications that failed"),
];

const fn http(name: &'static str, measure: Measure, unit: Unit, meaning: &'static str) -> Signal {
    Signal { name, source: Source::Http, measure, unit, labels: HTTP, by: &[SERVICE], meaning }
}

const fn db(name: &'static str, measure: Measure, unit: Unit, meaning: &'static str) -> Signal {
    Signal { name, source: Source::Db, measure, unit, labels: DB, by: &[SERVICE], meaning }
}

const fn host(
    name: &'static str,
    source: Source,
    labels: &'static [&'static str],
    meaning: &'static str,
) -> Signal {
    Signal { name, source, measure: Measure::Mean, unit: Unit::Ratio, labels, by: labels, meaning }
}

const fn reading(
    name: &'static str,
    measure: Measure,
    unit: Unit,
    labels: &'static [&'static str],
    meaning: &'static str,
) -> Signal {
    Signal { name, source: Source::Reading, measure, unit, labels, by: labels, meaning }
}
