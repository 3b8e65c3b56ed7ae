//! What the CDN worker is told and says: content that changed, purges, warm-ups, and what became of them.

mod answers;
mod commands;
mod events;

pub use answers::{AssetUrl, CdnStatus, FindAssetUrl, ProviderHealth, ProviderStatus, RecentPurge, Served};
pub use commands::{ProviderOutcome, Purge, PurgeReport, Warm, WarmReport};
pub use events::{
    ContentChanged, PurgeOutcome, PurgeOutcomes, PurgeRequested, PurgeState, Selectors, Version,
};
