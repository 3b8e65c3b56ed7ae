//! The section `[alerting]` of keelson.toml.

use std::net::SocketAddr;

use keelson_kit::config::ConfigError;
use serde::{Deserialize, Serialize};

use crate::notify::config::{Flap, Inhibit, NotifyConfig, Receiver, Route, Smtp};
use crate::rules::{RawRule, RuleSet};

/// What is alerted about, and who is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertingConfig {
    /// Whether the rules that Keelson ships with run. true
    pub default_rules: bool,
    /// Files with rules, `[[rules]]` in each; wildcards are allowed, and names are relative to the folder of keelson.toml. none
    pub rule_files: Vec<String>,
    /// Rules that stand here. none
    pub rules: Vec<RawRule>,
    /// Where links in notifications lead: the address under which people reach Keelson. That of its HTTP
    pub external_url: String,
    /// Who is told of what. Everybody of everything
    pub route: Route,
    /// Who can be told. none
    pub receivers: Vec<Receiver>,
    /// Alerts that keep others quiet. none
    pub inhibit: Vec<Inhibit>,
    /// When an alert is held because it goes up and down.
    pub flap: Flap,
    /// How mail is sent. not at all
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp: Option<Smtp>,
}

impl Default for AlertingConfig {
    fn default() -> Self {
        Self {
            default_rules: true,
            rule_files: Vec::new(),
            rules: Vec::new(),
            external_url: String::new(),
            route: Route::default(),
            receivers: Vec::new(),
            inhibit: Vec::new(),
            flap: Flap::default(),
            smtp: None,
        }
    }
}

impl AlertingConfig {
    /// What types cannot say. The files are looked at when the role starts.
    pub(crate) fn errors(&self) -> Vec<ConfigError> {
        let wrong = RuleSet::parse(&[], &self.rules, self.default_rules).err().unwrap_or_default();
        let wrong = wrong.into_iter().map(|error| ConfigError::new(error.key, error.message));
        wrong.chain(self.notify(SocketAddr::from(([127, 0, 0, 1], 0))).errors()).collect()
    }

    /// What the notifier goes by, where HTTP listens at `http`.
    pub(crate) fn notify(&self, http: SocketAddr) -> NotifyConfig {
        let external_url =
            if self.external_url.is_empty() { format!("http://{http}") } else { self.external_url.clone() };
        NotifyConfig {
            external_url: external_url.trim_end_matches('/').to_owned(),
            route: self.route.clone(),
            receivers: self.receivers.clone(),
            inhibit: self.inhibit.clone(),
            flap: self.flap.clone(),
            smtp: self.smtp.clone(),
        }
    }
}
