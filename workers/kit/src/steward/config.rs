//! Section `[steward]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// Section `[steward]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StewardConfig {
    /// How often accepted commands are looked through, in milliseconds. 5 s
    pub sweep_every_ms: u64,
    /// How long a command may be merely accepted before it is looked for on its stream, in milliseconds. 10 s
    pub sweep_after_ms: u64,
}

impl Default for StewardConfig {
    fn default() -> Self {
        Self { sweep_every_ms: 5_000, sweep_after_ms: 10_000 }
    }
}

impl StewardConfig {
    pub(super) fn validate(&self) -> Vec<ConfigError> {
        let zero =
            (self.sweep_every_ms == 0).then(|| ConfigError::new("sweep_every_ms", "must be more than 0"));
        zero.into_iter().collect()
    }

    pub(super) fn sweep_every(&self) -> Duration {
        Duration::from_millis(self.sweep_every_ms)
    }

    pub(super) fn sweep_after(&self) -> Duration {
        Duration::from_millis(self.sweep_after_ms)
    }
}
