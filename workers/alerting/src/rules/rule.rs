//! A rule that takes effect.

use std::fmt;
use std::time::Duration;

use keelson_schemas::alerting::Labels;

use super::template::{Filling, Template};
use crate::signal::Signal;
use keelson_kit::matcher::Matchers;

/// A rule in which nothing is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What its alerts are called.
    pub name: String,
    /// Where it stands: a file, `keelson.toml`, or `default`.
    pub source: String,
    /// What it looks at.
    pub signal: &'static Signal,
    /// The labels by which it looks at things apart, each once.
    pub by: Vec<&'static str>,
    /// What it looks at only.
    pub filters: Matchers,
    /// How far it looks back, in seconds.
    pub window_s: u64,
    /// When it fires.
    pub threshold: Threshold,
    /// How long the condition must hold before it fires.
    pub hold_ms: u64,
    /// How long it fires on after the condition ceased.
    pub keep_firing_ms: u64,
    /// How many samples the window must hold before it begins to fire.
    pub min_samples: u64,
    /// What becomes of it when nothing is known.
    pub no_data: NoData,
    /// What all its alerts have in common: `alertname`, `severity`, and its own labels.
    pub labels: Labels,
    /// What its alerts say, by the name of the annotation.
    pub annotations: Vec<(&'static str, Template)>,
}

/// On which side of the threshold it is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A value that is greater is bad.
    Above,
    /// A value that is less is bad.
    Below,
}

/// When a rule fires, and until when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// Which side is bad.
    pub side: Side,
    /// It fires when the value is past this; at it, it does not.
    pub at: f64,
    /// What fires goes on while the value is past this.
    pub clear: f64,
}

/// What becomes of an alert when nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoData {
    /// What fires goes on.
    Keep,
    /// It fires.
    Alert,
    /// It resolves.
    Resolve,
}

impl Threshold {
    /// Whether a value is so bad that an alert begins.
    #[must_use]
    pub fn is_passed(&self, value: f64) -> bool {
        self.side.is_past(value, self.at)
    }

    /// Whether a value is so bad that an alert goes on.
    #[must_use]
    pub fn is_not_cleared(&self, value: f64) -> bool {
        self.side.is_past(value, self.clear)
    }
}

impl Side {
    fn is_past(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Above => value > bound,
            Self::Below => value < bound,
        }
    }

    /// The worse of two values.
    #[must_use]
    pub fn worse(self, one: f64, other: f64) -> f64 {
        if self.is_past(one, other) { one } else { other }
    }

    /// The key that says it.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
        }
    }
}

impl Rule {
    /// How far it looks back.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.window_s)
    }

    /// The annotations of an alert.
    #[must_use]
    pub fn annotations(&self, labels: &Labels, value: Option<f64>) -> Labels {
        let filling = Filling {
            labels,
            value,
            threshold: self.threshold.at,
            unit: self.signal.unit,
            window: self.window(),
            name: &self.name,
        };
        self.annotations.iter().map(|(name, text)| ((*name).to_owned(), text.fill(&filling))).collect()
    }

    /// Whether an alert of it could have the same labels as one of `other`.
    #[must_use]
    pub fn may_coincide(&self, other: &Self) -> bool {
        self.may_have(&other.labels) && other.may_have(&self.labels)
    }

    fn may_have(&self, labels: &Labels) -> bool {
        labels.iter().all(|(name, value)| match self.labels.get(name) {
            Some(own) => own == value,
            None => self.by.contains(&name.as_str()),
        })
    }
}

/// What it says, in a line: `error_ratio by service_name over 1m above 0.05`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.signal.name)?;
        if !self.filters.is_empty() {
            let filters: Vec<String> = self.filters.iter().map(ToString::to_string).collect();
            write!(f, " where {}", filters.join(", "))?;
        }
        if !self.by.is_empty() {
            write!(f, " by {}", self.by.join(", "))?;
        }
        write!(f, " over {}", humantime::format_duration(self.window()))?;
        write!(f, " {} {}", self.threshold.side.key(), self.threshold.at)?;
        if self.hold_ms > 0 {
            write!(f, " for {}", humantime::format_duration(Duration::from_millis(self.hold_ms)))?;
        }
        Ok(())
    }
}
