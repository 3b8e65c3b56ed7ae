//! A rule as it is written, in a rule file or in keelson.toml.

use keelson_schemas::alerting::Labels;
use serde::{Deserialize, Serialize};

/// A rule before it is checked. Every key may be missing, so that each can be tried by itself and all errors are told at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawRule {
    /// What its alerts are called (`alertname`).
    pub name: String,
    /// What it looks at: one of the signals that `crate::signal` lists.
    pub signal: String,
    /// The labels by which it looks at things apart. Those that the signal suggests
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Vec<String>>,
    /// What it looks at only: matchers (`http_route=~"/api/.*"`), all of which must match. Everything
    #[serde(rename = "where", skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    /// How far it looks back. 1m, for readings 5m
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// It fires when the value is greater. Either this or `below`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// It fires when the value is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// What fires goes on until the value is here or on the good side of it. The threshold
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear: Option<f64>,
    /// How long the condition must hold before it fires. 0s
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// How long it fires on after the condition ceased. 0s
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_firing_for: Option<String>,
    /// How many samples the window must hold before it begins to fire. 0
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_samples: Option<u64>,
    /// What becomes of it when nothing is known: `keep`, `alert`, `resolve`. keep
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_data: Option<String>,
    /// warning
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// Further labels of its alerts.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Templates: `{value}`, `{threshold}`, `{window}`, `{name}`, and every label.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// See `summary`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// See `summary`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runbook_url: String,
}
