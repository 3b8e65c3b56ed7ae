//! What checks have found, as it is kept for all: one entry a service.

use std::collections::BTreeMap;

use keelson_schemas::services::Health;
use serde::{Deserialize, Serialize};

use crate::uptime::History;

/// What is known of the instances of a service: `health.<name>` in the bucket `services`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// By URL.
    pub instances: BTreeMap<String, Found>,
}

/// What is known of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What it is.
    pub health: Health,
    /// What it was before.
    pub before: Health,
    /// Unix milliseconds since when.
    pub since_ms: u64,
    /// How often that has changed.
    pub number: u64,
    /// What the last check found that was not well.
    pub reason: Option<String>,
    /// Unix milliseconds of the last check.
    pub checked_at_ms: u64,
    /// How long it took, in microseconds.
    pub latency_us: u64,
    /// Unix milliseconds until when its certificate is valid, as the last check over https that was answered found.
    #[serde(default)]
    pub certificate_ends_ms: Option<u64>,
    /// What all checks found.
    pub history: History,
}
