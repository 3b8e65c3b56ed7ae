//! A slice: all that one contiguous range of a partition's messages added, with its spread over event time.
//!
//! Publishing a slice is what commits its samples: the totals of a partition are the fold of its slices, so slices sum to the totals and nothing is outside a
//! slice. Ranges of one partition follow each other without a gap: the `after` of a slice is the `through` of the one before.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::message::Message;
use crate::telemetry::{DbSeries, HttpSeries};
use crate::totals::{InstanceReading, ServiceTotals, Tally};

/// The counts that the messages with a sequence in `(after, through]` added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Slice {
    /// Which partition.
    pub partition: u8,
    /// Which making of the telemetry stream the sequences belong to: its creation time in Unix milliseconds.
    pub stream: u64,
    /// The sequence up to which the slice before reached; zero for the first.
    pub after: u64,
    /// The last sequence in it.
    pub through: u64,
    /// The lease's epoch under which it was cut.
    pub epoch: u64,
    /// Unix milliseconds at which it was cut.
    pub cut_at_ms: u64,
    /// Messages in the range that could not be counted and went to the dead letters.
    #[serde(default)]
    pub rejected: u64,
    /// What was added, one entry a service.
    pub services: Vec<ServiceSlice>,
}

/// What a slice adds to one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceSlice {
    /// The service's name, or `__overflow__`.
    pub service: String,
    /// Requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpDelta>,
    /// Database calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub db: Vec<DbDelta>,
    /// Readings of the machines of its instances, in the order they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<InstanceReading>,
    /// Counts about the counting.
    #[serde(default)]
    pub tally: Tally,
    /// Some of the routes and namespaces that were folded into `__overflow__`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folded: Vec<String>,
}

/// Requests of one series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpDelta {
    /// Which requests.
    pub series: HttpSeries,
    /// How many, by the second in which they happened.
    pub cells: Vec<Cell>,
}

/// Database calls of one series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DbDelta {
    /// Which calls.
    pub series: DbSeries,
    /// How many, by the second in which they happened.
    pub cells: Vec<Cell>,
}

/// What happened within one second of event time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// The Unix second.
    pub second: u64,
    /// How many, with and without a known duration.
    pub count: u64,
    /// How many were slow; only database calls are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub slow: u64,
    /// Their durations, where known.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub latency: Histogram,
}

impl Message for Slice {
    const TYPE: &'static str = "keelson.metrics.slice.v1";

    fn example() -> Self {
        let totals = ServiceTotals::example();
        let http = totals.http.into_iter().map(|total| HttpDelta {
            series: total.series,
            cells: vec![Cell {
                second: 1_764_000_000,
                count: total.requests,
                slow: 0,
                latency: total.latency,
            }],
        });
        let db = totals.db.into_iter().map(|total| DbDelta {
            series: total.series,
            cells: vec![Cell {
                second: 1_764_000_000,
                count: total.calls,
                slow: total.slow,
                latency: total.latency,
            }],
        });
        let service = ServiceSlice {
            service: totals.service,
            http: http.collect(),
            db: db.collect(),
            hosts: totals.hosts,
            tally: totals.tally,
            folded: totals.folded,
        };
        Self {
            partition: 4,
            stream: 1_764_000_000_000,
            after: 41,
            through: 57,
            epoch: 3,
            cut_at_ms: 1_764_000_000_500,
            rejected: 1,
            services: vec![service],
        }
    }
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn is_empty(latency: &Histogram) -> bool {
    latency.count() == 0
}
