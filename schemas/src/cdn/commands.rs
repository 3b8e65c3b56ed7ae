//! What the CDN worker can be told to do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PurgeOutcome, Selectors};
use crate::message::{Command, Message};

/// Removes copies at the edge. The operation's result is a [`PurgeReport`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Purge {
    /// Absolute URLs as readers ask for them.
    pub urls: Vec<String>,
    /// Surrogate keys.
    pub tags: Vec<String>,
    /// Beginnings of paths.
    pub prefixes: Vec<String>,
    /// Everything: needs `confirm` and `reason`.
    pub all: bool,
    /// Whether copies may be served stale while they are fetched anew.
    pub soft: bool,
    /// Only says what would be sent, to whom, in how many calls.
    pub dry_run: bool,
    /// At which providers; none are all.
    pub providers: Vec<String>,
    /// Why.
    pub reason: String,
    /// For `all`: the CDN's domain, so that nobody empties the wrong one.
    pub confirm: String,
}

/// What became of a purge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PurgeReport {
    /// Whether nothing was sent because nothing was to be.
    pub dry_run: bool,
    /// At each provider.
    pub providers: Vec<ProviderOutcome>,
}

/// What became, or with a dry run would become, of a purge at a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderOutcome {
    /// The provider.
    pub provider: String,
    /// What is sent to it, after selectors that it lacks were put into others.
    pub selectors: Selectors,
    /// In how many calls.
    pub calls: u64,
    /// How it ended; none with a dry run.
    #[serde(default)]
    pub outcome: Option<PurgeOutcome>,
}

/// Fetches URLs through the edge, so that the first reader finds them there. The operation's result is a [`WarmReport`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Warm {
    /// Absolute URLs as readers ask for them.
    pub urls: Vec<String>,
}

/// What became of a warm-up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarmReport {
    /// URLs that were fetched and then seen to be served from the edge.
    pub hits: u64,
    /// URLs that were fetched, and whose answer may not or does not stay at the edge.
    pub uncached: Vec<String>,
    /// URLs that could not be fetched, each with the reason.
    pub failed: Vec<(String, String)>,
}

impl Purge {
    /// What is to be purged.
    #[must_use]
    pub fn selectors(&self) -> Selectors {
        Selectors {
            urls: self.urls.clone(),
            tags: self.tags.clone(),
            prefixes: self.prefixes.clone(),
            all: self.all,
        }
    }
}

impl Command for Purge {
    const WORKER: &'static str = "cdn";
    const VERB: &'static str = "purge";
}

impl Command for Warm {
    const WORKER: &'static str = "cdn";
    const VERB: &'static str = "warm";
}

impl Message for Purge {
    const TYPE: &'static str = "keelson.cdn.purge.v1";

    fn example() -> Self {
        let Selectors { urls, tags, prefixes, all } = Selectors::example();
        Self {
            urls,
            tags,
            prefixes,
            all,
            soft: true,
            dry_run: true,
            providers: vec!["varnish".into()],
            reason: "a wrong price was published".into(),
            confirm: "cdn.example".into(),
        }
    }
}

impl Message for PurgeReport {
    const TYPE: &'static str = "keelson.cdn.purge-report.v1";

    fn example() -> Self {
        let provider = ProviderOutcome {
            provider: "varnish".into(),
            selectors: Selectors::example(),
            calls: 3,
            outcome: Some(PurgeOutcome::example()),
        };
        Self { dry_run: true, providers: vec![provider] }
    }
}

impl Message for Warm {
    const TYPE: &'static str = "keelson.cdn.warm.v1";

    fn example() -> Self {
        Self { urls: vec!["https://cdn.example/videos/42".into()] }
    }
}

impl Message for WarmReport {
    const TYPE: &'static str = "keelson.cdn.warm-report.v1";

    fn example() -> Self {
        Self {
            hits: 7,
            uncached: vec!["https://cdn.example/me".into()],
            failed: vec![("https://cdn.example/gone".into(), "404 Not Found".into())],
        }
    }
}
