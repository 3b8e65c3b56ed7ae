//! How the CDN stands, as it is shown: times in RFC 3339 beside Unix milliseconds, quantiles in the place of histograms.

use jiff::Timestamp;
use keelson_schemas::cdn::{CdnStatus, ProviderHealth, ProviderStatus, RecentPurge};
use keelson_schemas::histogram::Histogram;
use schemars::JsonSchema;
use serde::Serialize;

/// How every provider fares.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CdnPage {
    /// Whether a provider is configured.
    configured: bool,
    /// What is missing in the configuration.
    note: Option<String>,
    providers: Vec<ShownProvider>,
}

/// How a provider fares.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ShownProvider {
    /// Its name, with the address where one has several.
    provider: String,
    health: ProviderHealth,
    /// Why it is not up, in its own words.
    error: Option<String>,
    /// Since when it is so.
    #[schemars(with = "Option<String>")]
    since: Option<Timestamp>,
    /// Calls that may still be made now, as far as the provider says.
    quota_left: Option<u64>,
    /// Selectors that wait to be sent.
    waiting: u64,
    /// Purges under way: sent, to be sent again, or being verified.
    under_way: u64,
    /// Messages on the bus that were not read yet.
    behind: u64,
    /// From a change until readers were seen to get it.
    time_to_fresh: ShownTimes,
    /// Purges of late, the newest first.
    recent: Vec<RecentPurge>,
}

/// Durations, in seconds.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ShownTimes {
    count: u64,
    p50_seconds: Option<f64>,
    p95_seconds: Option<f64>,
    p99_seconds: Option<f64>,
    max_seconds: Option<f64>,
}

impl From<CdnStatus> for CdnPage {
    fn from(status: CdnStatus) -> Self {
        let CdnStatus { configured, note, providers } = status;
        Self { configured, note, providers: providers.into_iter().map(shown).collect() }
    }
}

fn shown(status: ProviderStatus) -> ShownProvider {
    let since = i64::try_from(status.since_ms).ok().filter(|since| *since > 0);
    ShownProvider {
        provider: status.provider,
        health: status.health,
        error: status.error,
        since: since.and_then(|since| Timestamp::from_millisecond(since).ok()),
        quota_left: status.quota_left,
        waiting: status.waiting,
        under_way: status.under_way,
        behind: status.behind,
        time_to_fresh: times(&status.time_to_fresh),
        recent: status.recent,
    }
}

fn times(histogram: &Histogram) -> ShownTimes {
    ShownTimes {
        count: histogram.count(),
        p50_seconds: histogram.quantile_seconds(0.5),
        p95_seconds: histogram.quantile_seconds(0.95),
        p99_seconds: histogram.quantile_seconds(0.99),
        max_seconds: histogram.max_us().map(|us| us as f64 / 1e6),
    }
}
