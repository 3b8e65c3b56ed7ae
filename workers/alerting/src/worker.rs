//! The role: one replica evaluates, one notifies, each by a fenced lease; the others stand by.

use keelson_kit::role::{Context, Role};

use crate::config::AlertingConfig;

/// The alerting worker.
pub struct Alerting;

impl Role for Alerting {
    const NAME: &'static str = "alerting";
    const SUMMARY: &'static str = "watches what is counted, and tells whoever has to know";
    type Config = AlertingConfig;

    async fn start(_config: Self::Config, _ctx: Context) -> anyhow::Result<()> {
        Ok(())
    }
}
