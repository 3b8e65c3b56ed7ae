//! What `GET /api/monitoring/metrics` answers, as it is documented to clients.

use serde::Serialize;
use utoipa::ToSchema;

/// What was measured since the beginning, and over spans of event time that end now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Since the beginning.
    #[serde(flatten)]
    pub(super) total: View,
    /// Spans of event time; null while a worker that took over still reads the last hour again.
    #[schema(required)]
    pub(super) windows: Option<WindowViews>,
}

/// The same measures over several spans.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WindowViews {
    /// The last minute.
    pub(super) last_minute: View,
    /// The last five minutes.
    pub(super) last_five_minutes: View,
    /// The last hour.
    pub(super) last_hour: View,
}

/// The measures of one span.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    pub(super) requests: Requests,
    pub(super) response_times: Times,
    pub(super) system: System,
    pub(super) database: Database,
    /// Samples that came, within the span, more than five minutes after their own time.
    pub(super) late: u64,
    /// Samples that came, within the span, and were counted under `__overflow__` because a bound was reached.
    pub(super) overflow: u64,
}

/// Requests that services answered.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Requests {
    pub(super) total: u64,
    /// Those with a status of 500 or above.
    pub(super) errors: u64,
    /// Errors by total; null without requests.
    #[schema(required)]
    pub(super) error_rate: Option<f64>,
    /// The endpoints with the most requests.
    pub(super) by_endpoint: Vec<Endpoint>,
    /// Endpoints that are not listed.
    pub(super) endpoints_left_out: usize,
}

/// Requests of one endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub(super) service: String,
    pub(super) method: String,
    pub(super) route: String,
    pub(super) total: u64,
    pub(super) errors: u64,
    #[schema(required)]
    pub(super) error_rate: Option<f64>,
    pub(super) response_times: Times,
}

/// Durations in milliseconds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Times {
    /// How many durations are known.
    pub(super) count: u64,
    /// Mean, exact; null when no duration is known.
    #[schema(required)]
    pub(super) avg: Option<f64>,
    /// 95th percentile.
    #[schema(required)]
    pub(super) p95: Option<f64>,
    /// 99th percentile.
    #[schema(required)]
    pub(super) p99: Option<f64>,
    /// The largest relative error of the percentiles.
    pub(super) error_bound: f64,
    /// `ms`
    pub(super) unit: &'static str,
}

/// The machines: of each measure the highest among them, and all of them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct System {
    #[schema(required)]
    pub(super) cpu: Option<Cpu>,
    #[schema(required)]
    pub(super) memory: Option<Memory>,
    #[schema(required)]
    pub(super) disk: Option<Disk>,
    pub(super) machines: Vec<Machine>,
}

/// CPUs in use.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Cpu {
    /// Share of all CPUs, 0 to 1.
    pub(super) utilization: f64,
}

/// Memory in use.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Memory {
    /// Share, 0 to 1.
    pub(super) utilization: f64,
    pub(super) used_bytes: u64,
    pub(super) total_bytes: u64,
}

/// The fullest filesystem.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Disk {
    pub(super) mountpoint: String,
    /// Share, 0 to 1.
    pub(super) utilization: f64,
    pub(super) used_bytes: u64,
    pub(super) total_bytes: u64,
}

/// One machine, by the service instance that reported it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Machine {
    pub(super) service: String,
    pub(super) instance: String,
    /// Unix milliseconds of the reading.
    pub(super) ts: u64,
    #[schema(required)]
    pub(super) cpu: Option<Cpu>,
    #[schema(required)]
    pub(super) memory: Option<Memory>,
    #[schema(required)]
    pub(super) disk: Option<Disk>,
}

/// Database calls that services made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Database {
    pub(super) queries: u64,
    /// Those that took longer than the threshold for slow queries.
    pub(super) slow: u64,
    pub(super) response_times: Times,
    /// The operations with the most calls.
    pub(super) by_operation: Vec<Operation>,
    /// Operations that are not listed.
    pub(super) operations_left_out: usize,
}

/// Calls of one operation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DatabaseOperation)]
pub(super) struct Operation {
    pub(super) service: String,
    pub(super) system: String,
    pub(super) namespace: String,
    pub(super) operation: String,
    pub(super) queries: u64,
    pub(super) slow: u64,
    pub(super) response_times: Times,
}
