//! What the CDN worker answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PurgeOutcome;
use crate::histogram::Histogram;
use crate::message::Message;

/// Asks `keelson.qry.cdn.url` where a path is best read from now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindAssetUrl {
    /// A path with its query: `/videos/42?size=l`.
    pub path: String,
}

/// Who serves a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Served {
    /// The CDN.
    Cdn,
    /// The local cache.
    Cache,
    /// The origin itself.
    Origin,
}

/// Where a path is read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssetUrl {
    /// The whole URL.
    pub url: String,
    /// Who serves it.
    pub served_by: Served,
}

/// The answer to `keelson.qry.cdn.status`: what one replica knows of what it owns; the ingress puts the replicas together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CdnStatus {
    /// Whether a provider is configured; if not, `note` says how one is.
    pub configured: bool,
    /// For people.
    #[serde(default)]
    pub note: Option<String>,
    /// Every provider.
    pub providers: Vec<ProviderStatus>,
}

/// How a provider fares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStatus {
    /// Its name.
    pub provider: String,
    /// Whether it can be asked and serves.
    pub health: ProviderHealth,
    /// Why it cannot, in its own words.
    #[serde(default)]
    pub error: Option<String>,
    /// Unix milliseconds since when.
    pub since_ms: u64,
    /// Calls that may still be made now, by what the provider or its documentation says.
    #[serde(default)]
    pub quota_left: Option<u64>,
    /// Purges that wait to be sent.
    pub waiting: u64,
    /// Purges under way: sent, to be sent again, or being verified.
    pub under_way: u64,
    /// Messages on the bus that were not read yet.
    pub behind: u64,
    /// Microseconds from a cause to the moment when readers were seen to get the new content.
    #[serde(default)]
    pub time_to_fresh: Histogram,
    /// The newest ones first.
    pub recent: Vec<RecentPurge>,
}

/// Whether a provider can be asked and serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderHealth {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// It does.
    Up,
    /// It does not.
    Down,
    /// It refuses our credentials.
    Refused,
}

/// A purge of late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecentPurge {
    /// What became of it so far.
    #[serde(flatten)]
    pub outcome: PurgeOutcome,
    /// Who asked, or `content.changed`.
    pub requested_by: String,
}

impl Message for FindAssetUrl {
    const TYPE: &'static str = "keelson.cdn.find-url.v1";

    fn example() -> Self {
        Self { path: "/videos/42?size=l".into() }
    }
}

impl Message for AssetUrl {
    const TYPE: &'static str = "keelson.cdn.url.v1";

    fn example() -> Self {
        Self { url: "https://cdn.example/videos/42?size=l".into(), served_by: Served::Cache }
    }
}

impl Message for CdnStatus {
    const TYPE: &'static str = "keelson.cdn.status.v1";

    fn example() -> Self {
        let mut time_to_fresh = Histogram::default();
        [2_100_000, 2_400_000].into_iter().for_each(|us| time_to_fresh.record(us));
        let provider = ProviderStatus {
            provider: "varnish".into(),
            health: ProviderHealth::Down,
            error: Some("connection refused".into()),
            since_ms: 1_764_000_000_000,
            quota_left: Some(1_000),
            waiting: 2,
            under_way: 5,
            behind: 7,
            time_to_fresh,
            recent: vec![RecentPurge { outcome: PurgeOutcome::example(), requested_by: "ops".into() }],
        };
        Self { configured: true, note: Some("set CDN_PROVIDER".into()), providers: vec![provider] }
    }
}
