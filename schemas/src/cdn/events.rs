//! Facts about content and its copies at the edge.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::message::Message;

/// What is to be purged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Selectors {
    /// Absolute URLs as readers ask for them.
    pub urls: Vec<String>,
    /// Surrogate keys that the origin put on its answers.
    pub tags: Vec<String>,
    /// Beginnings of paths: `/videos/`.
    pub prefixes: Vec<String>,
    /// Everything.
    pub all: bool,
}

/// What the edge has to serve after a change. Any one of them that is given is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Version {
    /// The `ETag`, compared weakly.
    pub etag: Option<String>,
    /// SHA-256 of the body, in hexadecimal.
    pub sha256: Option<String>,
    /// The value of the header that `[cdn.verify] version_header` names.
    pub header: Option<String>,
}

/// `keelson.evt.content.changed`: content changed at the origin. Any application publishes it, by hand in JSON if need be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ContentChanged {
    /// What changed, in the application's own words: `video:42`.
    pub asset: String,
    /// The URLs under which it is read. With `tags` given as well, the worker learns which URLs a tag covers.
    pub urls: Vec<String>,
    /// The surrogate keys on the answers that it is part of.
    pub tags: Vec<String>,
    /// Beginnings of paths below which all changed.
    pub prefixes: Vec<String>,
    /// What its URLs serve now.
    pub version: Option<Version>,
    /// Whether copies may be served stale while they are fetched anew.
    pub soft: bool,
}

/// `keelson.evt.cdn.requested`: a purge command was taken up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PurgeRequested {
    /// The command's operation.
    pub operation: String,
    /// What is to be purged, as it was checked.
    pub selectors: Selectors,
    /// Whether copies may be served stale while they are fetched anew.
    #[serde(default)]
    pub soft: bool,
    /// At which providers; none are all.
    #[serde(default)]
    pub providers: Vec<String>,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Who asked.
    pub requested_by: String,
}

/// Where a purge stands at a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PurgeState {
    /// It waits to be sent.
    Waiting,
    /// The provider has taken it.
    Accepted,
    /// The provider says that it is done.
    Completed,
    /// Readers were seen to get what the origin serves.
    Verified,
    /// Readers still got something else after the last attempt.
    Stale,
    /// It is done, and there is nothing to compare with.
    Unverifiable,
    /// The provider refuses it, or cannot be asked for it.
    Failed,
}

impl PurgeState {
    /// The fact that it is, as it stands in subjects.
    pub const fn fact(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Accepted => "accepted",
            Self::Completed => "completed",
            Self::Verified => "verified",
            Self::Stale => "stale",
            Self::Unverifiable => "unverifiable",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing follows it.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Verified | Self::Stale | Self::Unverifiable | Self::Failed)
    }
}

/// `keelson.evt.cdn.<verified|unverifiable|stale|failed>`: what became of purges that events caused, several at a time when there are many; and
/// `keelson.evt.cdn.<verified|unverifiable|stale|failed>.<operation>` for one that a command caused. It may be said again after a crash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PurgeOutcomes {
    /// All of the state that the subject names, of one provider.
    pub outcomes: Vec<PurgeOutcome>,
}

/// What became of a purge at a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PurgeOutcome {
    /// Which purge: derived from the message that caused it.
    pub purge: String,
    /// The operation that it belongs to, if a command caused it.
    #[serde(default)]
    pub operation: Option<String>,
    /// What changed, if an event caused it.
    #[serde(default)]
    pub asset: Option<String>,
    /// At which provider.
    pub provider: String,
    /// How it ended.
    pub state: PurgeState,
    /// How many selectors it had there, after those that the provider lacks were put into others.
    pub selectors: u64,
    /// How often it was sent, rebounds included.
    pub attempts: u32,
    /// The provider's own names for the calls, at most ten.
    #[serde(default)]
    pub request_ids: Vec<String>,
    /// Unix milliseconds at which the cause was stored.
    pub caused_at_ms: u64,
    /// Milliseconds from then to the provider's first acknowledgement.
    #[serde(default)]
    pub acknowledged_after_ms: Option<u64>,
    /// Milliseconds from then until readers were seen to get the new content.
    #[serde(default)]
    pub fresh_after_ms: Option<u64>,
    /// Why it is stale, unverifiable or failed.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Selectors {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.urls.len() + self.tags.len() + self.prefixes.len() + usize::from(self.all)
    }

    pub(super) fn example() -> Self {
        Self {
            urls: vec!["https://cdn.example/videos/42".into()],
            tags: vec!["video:42".into()],
            prefixes: vec!["/thumbnails/42/".into()],
            all: true,
        }
    }
}

impl Message for ContentChanged {
    const TYPE: &'static str = "keelson.content.changed.v1";

    fn example() -> Self {
        let Selectors { urls, tags, prefixes, .. } = Selectors::example();
        let version = Version {
            etag: Some("\"33a64df5\"".into()),
            sha256: Some("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".into()),
            header: Some("17".into()),
        };
        Self { asset: "video:42".into(), urls, tags, prefixes, version: Some(version), soft: true }
    }
}

impl Message for PurgeRequested {
    const TYPE: &'static str = "keelson.cdn.requested.v1";

    fn example() -> Self {
        Self {
            operation: "0af7651916cd43dd8448eb211c80319c".into(),
            selectors: Selectors::example(),
            soft: true,
            providers: vec!["varnish".into()],
            reason: "a wrong price was published".into(),
            requested_by: "ops".into(),
        }
    }
}

impl Message for PurgeOutcomes {
    const TYPE: &'static str = "keelson.cdn.outcomes.v1";

    fn example() -> Self {
        Self { outcomes: vec![PurgeOutcome::example()] }
    }
}

impl PurgeOutcome {
    pub(super) fn example() -> Self {
        Self {
            purge: "9d2f7c1e5a7d3a9f6b2f4a1c0e8d1122".into(),
            operation: Some("0af7651916cd43dd8448eb211c80319c".into()),
            asset: Some("video:42".into()),
            provider: "varnish".into(),
            state: PurgeState::Stale,
            selectors: 3,
            attempts: 4,
            request_ids: vec!["32770".into()],
            caused_at_ms: 1_764_000_000_000,
            acknowledged_after_ms: Some(12),
            fresh_after_ms: Some(2_310),
            reason: Some("https://cdn.example/videos/42 serves ETag \"old\", not \"33a64df5\"".into()),
        }
    }
}
