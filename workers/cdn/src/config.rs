//! The section `[cdn]` of keelson.toml.

use keelson_kit::config::{ConfigError, Secret, Span};
use serde::{Deserialize, Serialize};

use crate::limits::CloudflarePlan;
use crate::setup::Setup;

/// Environment variables that set a key of the section.
pub(crate) const ENV: &[(&str, &str)] = &[
    ("CDN_PROVIDER", "providers"),
    ("CDN_DOMAIN", "domain"),
    ("VARNISH_URLS", "varnish.urls"),
    ("CLOUDFLARE_API_KEY", "cloudflare.api_key"),
    ("CLOUDFLARE_EMAIL", "cloudflare.email"),
    ("CLOUDFLARE_ZONE_ID", "cloudflare.zone_id"),
    ("CLOUDFRONT_DISTRIBUTION_ID", "cloudfront.distribution_id"),
    ("FASTLY_API_TOKEN", "fastly.api_token"),
    ("FASTLY_SERVICE_ID", "fastly.service_id"),
];

/// Which caches are looked after, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CdnConfig {
    /// `varnish`, `cloudflare`, `cloudfront`, `fastly`, one or several. none
    pub providers: Vec<String>,
    /// Where readers ask: `cdn.example`, or `http://edge.example:6081`. none
    pub domain: String,
    /// Further hosts at the same CDN. none
    pub hosts: Vec<String>,
    /// Where the content comes from: `http://127.0.0.1:8000`. none
    pub origin: String,
    /// Where readers are sent while the CDN is down, before the origin. none
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_cache: Option<String>,
    /// How often it is looked whether the CDN is up. 5 s
    pub health_interval: Span,
    /// A path at the edge that is asked for that; Varnish has its own. `/`
    pub health_path: String,
    /// How long after a purge it is sent again, against fetches that were under way; 0 s is never. 2 s
    pub rebound: Span,
    /// The same for everything. 30 s
    pub rebound_all: Span,
    /// The longest that the origin takes to answer; no rebound is sooner. 2 s
    pub longest_fetch: Span,
    /// How often everything may be purged in an hour. 3
    pub most_purges_of_all_per_hour: u32,
    /// Selectors, and URLs to be looked at, under way at one provider; past it the stream waits. 200,000
    pub most_under_way: usize,
    /// How the edge is looked at.
    pub verify: VerifyConfig,
    /// How the edge is warmed.
    pub warm: WarmConfig,
    /// Varnish.
    pub varnish: VarnishConfig,
    /// Cloudflare.
    pub cloudflare: CloudflareConfig,
    /// CloudFront.
    pub cloudfront: CloudfrontConfig,
    /// Fastly.
    pub fastly: FastlyConfig,
}

/// Section `[cdn.verify]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyConfig {
    /// Whether purges are verified. true
    pub enabled: bool,
    /// How often a purge is sent while readers still get something old, the rebound not counted. 3
    pub attempts: u32,
    /// The header whose value an event's `version.header` is. none
    pub version_header: String,
    /// How long the edge or the origin may take to answer. 5 s
    pub timeout: Span,
    /// URLs that are looked at at once. 64
    pub at_once: usize,
    /// Where the edge is reached instead of the host of each URL. Varnish: its own address. the host itself
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<String>,
}

/// Section `[cdn.warm]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarmConfig {
    /// URLs that are fetched at once. 16
    pub at_once: usize,
    /// Values of Accept-Encoding that are fetched each. `gzip`
    pub encodings: Vec<String>,
}

/// Section `[cdn.varnish]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VarnishConfig {
    /// Every instance: `["http://127.0.0.1:6081"]`. Each is purged and verified on its own. VARNISH_URLS
    pub urls: Vec<String>,
}

/// Section `[cdn.cloudflare]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloudflareConfig {
    /// An API token; with `email` a global key. CLOUDFLARE_API_KEY
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// The account of a global key. CLOUDFLARE_EMAIL
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The zone. CLOUDFLARE_ZONE_ID
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// `free`, `pro`, `business` or `enterprise`: how much may be purged. free
    pub plan: CloudflarePlan,
    /// Where its API is. `https://api.cloudflare.com/client/v4`
    pub api_url: String,
}

/// Section `[cdn.cloudfront]`. Credentials and region come from where every AWS program has them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloudfrontConfig {
    /// The distribution. CLOUDFRONT_DISTRIBUTION_ID
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribution_id: Option<String>,
}

/// Section `[cdn.fastly]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FastlyConfig {
    /// A token that may purge. FASTLY_API_TOKEN
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_token: Option<Secret>,
    /// The service. FASTLY_SERVICE_ID
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
    /// Where its API is. `https://api.fastly.com`
    pub api_url: String,
}

impl Default for CdnConfig {
    fn default() -> Self {
        Self {
            providers: Vec::new(),
            domain: String::new(),
            hosts: Vec::new(),
            origin: String::new(),
            local_cache: None,
            health_interval: Span::seconds(5),
            health_path: "/".to_owned(),
            rebound: Span::seconds(2),
            rebound_all: Span::seconds(30),
            longest_fetch: Span::seconds(2),
            most_purges_of_all_per_hour: 3,
            most_under_way: 200_000,
            verify: VerifyConfig::default(),
            warm: WarmConfig::default(),
            varnish: VarnishConfig::default(),
            cloudflare: CloudflareConfig::default(),
            cloudfront: CloudfrontConfig::default(),
            fastly: FastlyConfig::default(),
        }
    }
}

impl Default for CloudflareConfig {
    fn default() -> Self {
        Self {
            api_key: None,
            email: None,
            zone_id: None,
            plan: CloudflarePlan::default(),
            api_url: "https://api.cloudflare.com/client/v4".to_owned(),
        }
    }
}

impl Default for FastlyConfig {
    fn default() -> Self {
        Self { api_token: None, service_id: None, api_url: "https://api.fastly.com".to_owned() }
    }
}

impl Default for VerifyConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            attempts: 3,
            version_header: String::new(),
            timeout: Span::seconds(5),
            at_once: 64,
            edge: None,
        }
    }
}

impl Default for WarmConfig {
    fn default() -> Self {
        Self { at_once: 16, encodings: vec!["gzip".to_owned()] }
    }
}

impl CdnConfig {
    /// What types cannot say. What is only missing is no error: the role is up and says so.
    pub(crate) fn errors(&self) -> Vec<ConfigError> {
        Setup::of(self).err().unwrap_or_default()
    }
}
