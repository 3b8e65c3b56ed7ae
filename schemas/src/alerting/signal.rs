//! Values that workers measure and rules can look at, beside what telemetry tells.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Labels;
use crate::message::Message;

/// `keelson.evt.<worker>.signals`: the newest values of a worker's own signals. Said when one changes, and at least once a minute while it matters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signals {
    /// The values.
    pub readings: Vec<Reading>,
}

/// A value at a time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// The signal: `breaker_open`, `backup_age_seconds`, `consumer_lag`, `dead_letters`.
    pub signal: String,
    /// What it is about: `service_name`, `instance`, …
    #[serde(default)]
    pub labels: Labels,
    /// The value, in the unit that the signal's name ends in.
    pub value: f64,
    /// Unix milliseconds at which it was measured; left out, the time at which the message was stored.
    #[serde(default)]
    pub ts: u64,
}

impl Message for Signals {
    const TYPE: &'static str = "keelson.signals.v1";

    fn example() -> Self {
        let reading = Reading {
            signal: "breaker_open".into(),
            labels: [("service_name".to_owned(), "content".to_owned())].into(),
            value: 1.0,
            ts: 1_764_000_000_000,
        };
        Self { readings: vec![reading] }
    }
}
