//! The section `[alerting]` of keelson.toml.

use serde::{Deserialize, Serialize};

/// What is alerted about, and who is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertingConfig {
    /// Whether the rules that Keelson ships with run. true
    pub default_rules: bool,
}

impl Default for AlertingConfig {
    fn default() -> Self {
        Self { default_rules: true }
    }
}
