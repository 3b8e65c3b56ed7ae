//! What was counted, by series: the content of checkpoints, of the export, and of every window of the summary.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::message::Message;
use crate::telemetry::{Batch, DbSeries, HostReading, HttpSeries};

/// All that is known of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceTotals {
    /// The service's name, or `__overflow__` for those past the bound.
    pub service: String,
    /// Its requests, one entry a series.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpTotal>,
    /// Its database calls, one entry a series.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub db: Vec<DbTotal>,
    /// The newest reading of each instance's machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<InstanceReading>,
    /// Counts about the counting.
    #[serde(default)]
    pub tally: Tally,
    /// Some of the routes and namespaces that were last folded into `__overflow__`, for whoever must mend the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folded: Vec<String>,
}

/// A series of requests and what was counted of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpTotal {
    /// Which requests.
    pub series: HttpSeries,
    /// How many, with and without a known duration.
    pub requests: u64,
    /// Their durations, where known.
    pub latency: Histogram,
}

/// A series of database calls and what was counted of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DbTotal {
    /// Which calls.
    pub series: DbSeries,
    /// How many, with and without a known duration.
    pub calls: u64,
    /// How many took longer than the threshold for slow queries.
    pub slow: u64,
    /// Their durations, where known.
    pub latency: Histogram,
}

/// The newest reading of one instance's machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceReading {
    /// The instance's name; may be empty.
    pub instance: String,
    /// What was read.
    pub reading: HostReading,
}

/// Counts about the counting itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tally {
    /// Samples of all kinds.
    pub samples: u64,
    /// Samples that came more than five minutes after their own time.
    pub late: u64,
    /// Samples that were counted under `__overflow__`, or host readings that were left out, because a bound was reached.
    pub overflow: u64,
}

impl Tally {
    /// Adds all of `other`.
    pub fn add(&mut self, other: Self) {
        self.samples += other.samples;
        self.late += other.late;
        self.overflow += other.overflow;
    }
}

impl ServiceTotals {
    /// A service of which nothing is known yet.
    pub fn named(service: impl Into<String>) -> Self {
        Self { service: service.into(), ..Self::default() }
    }
}

/// What the owner of a partition answers to `keelson.qry.metrics.export.<partition>`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartitionTotals {
    /// Which partition.
    pub partition: u8,
    /// The lease's epoch under which the answer was given.
    pub epoch: u64,
    /// Everything of the stream up to this sequence is in it, and nothing after.
    pub through: u64,
    /// Messages that could not be counted and went to the dead letters.
    pub rejected: u64,
    /// What was counted, in the order in which services were first seen.
    pub services: Vec<ServiceTotals>,
}

/// What the owner of a partition answers to `keelson.qry.metrics.summary.<partition>`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartitionSummary {
    /// Counts over spans of event time; none while an owner that took over still reads the last hour's slices again.
    pub windows: Option<Windows>,
    /// Since the beginning.
    pub total: PartitionTotals,
}

/// Counts over spans of event time that end now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Windows {
    /// The last minute.
    pub minute: Vec<ServiceTotals>,
    /// The last five minutes.
    pub five_minutes: Vec<ServiceTotals>,
    /// The last hour.
    pub hour: Vec<ServiceTotals>,
}

impl Message for ServiceTotals {
    const TYPE: &'static str = "keelson.metrics.service-totals.v1";

    fn example() -> Self {
        let batch = Batch::example();
        let mut latency = Histogram::default();
        [0, 12_500, 12_500, 3_000_000].into_iter().for_each(|us| latency.record(us));
        let http = batch.http.series.into_iter().map(|series| HttpTotal {
            series,
            requests: 5,
            latency: latency.clone(),
        });
        let db = batch.db.series.into_iter().map(|series| DbTotal {
            series,
            calls: 4,
            slow: 1,
            latency: latency.clone(),
        });
        let hosts = batch
            .host
            .into_iter()
            .map(|reading| InstanceReading { instance: batch.instance.clone(), reading });
        Self {
            service: batch.service,
            http: http.collect(),
            db: db.collect(),
            hosts: hosts.collect(),
            tally: Tally { samples: 15, late: 2, overflow: 1 },
            folded: vec!["/videos/8231".into()],
        }
    }
}

impl Message for PartitionTotals {
    const TYPE: &'static str = "keelson.metrics.totals.v1";

    fn example() -> Self {
        Self { partition: 4, epoch: 3, through: 57, rejected: 1, services: vec![ServiceTotals::example()] }
    }
}

impl Message for PartitionSummary {
    const TYPE: &'static str = "keelson.metrics.summary.v1";

    fn example() -> Self {
        let services = vec![ServiceTotals::example()];
        let windows = Windows { minute: services.clone(), five_minutes: services.clone(), hour: services };
        Self { windows: Some(windows), total: PartitionTotals::example() }
    }
}
