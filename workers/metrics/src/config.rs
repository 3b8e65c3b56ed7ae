//! The section `[metrics]` of keelson.toml.

use std::time::Duration;

use keelson_kit::config::ConfigError;
use serde::{Deserialize, Serialize};

use crate::delta::Bounds;

/// How telemetry is counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Series of requests (method, route, status) that one service may have; new routes past it fold into `__overflow__`. 2000
    pub max_route_series: usize,
    /// Series of database calls (system, namespace, operation) that one service may have. 500
    pub max_db_series: usize,
    /// Instances of one service whose machines are shown. 256
    pub max_instances: usize,
    /// A database call that takes longer is a slow query, in milliseconds. 100
    pub slow_query_ms: u64,
    /// How old the oldest sample outside a slice may become, in milliseconds. 500
    pub slice_interval_ms: u64,
    /// How long after a slice the totals are checkpointed, in milliseconds. 5 s
    pub checkpoint_interval_ms: u64,
    /// How long slices are kept for those who read them later, in hours. 24
    pub slice_retention_h: u64,
    /// How often this machine's own state is read, in milliseconds; 0 for never. 10 s
    pub host_interval_ms: u64,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            max_route_series: 2_000,
            max_db_series: 500,
            max_instances: 256,
            slow_query_ms: 100,
            slice_interval_ms: 500,
            checkpoint_interval_ms: 5_000,
            slice_retention_h: 24,
            host_interval_ms: 10_000,
        }
    }
}

impl MetricsConfig {
    /// What types cannot say. The upper bounds keep a slice and a checkpoint chunk within what the bus carries.
    pub(crate) fn errors(&self) -> Vec<ConfigError> {
        let bounds = [
            ("max_route_series", self.max_route_series as u64, 1..=2_000),
            ("max_db_series", self.max_db_series as u64, 1..=2_000),
            ("max_instances", self.max_instances as u64, 1..=256),
            ("slice_interval_ms", self.slice_interval_ms, 10..=60_000),
            ("checkpoint_interval_ms", self.checkpoint_interval_ms, 10..=600_000),
            ("slice_retention_h", self.slice_retention_h, 1..=24 * 366),
        ];
        let off = bounds.into_iter().filter(|(_, value, range)| !range.contains(value));
        off.map(|(key, value, range)| {
            ConfigError::new(
                key,
                format!("is {value}, and must be from {} to {}", range.start(), range.end()),
            )
        })
        .collect()
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            http_series: self.max_route_series,
            db_series: self.max_db_series,
            instances: self.max_instances,
            slow_us: self.slow_query_ms.saturating_mul(1_000),
        }
    }

    pub(crate) fn slice_interval(&self) -> Duration {
        Duration::from_millis(self.slice_interval_ms)
    }

    pub(crate) fn checkpoint_interval(&self) -> Duration {
        Duration::from_millis(self.checkpoint_interval_ms)
    }

    pub(crate) fn slice_retention(&self) -> Duration {
        Duration::from_secs(self.slice_retention_h.saturating_mul(3600))
    }

    pub(crate) fn host_interval(&self) -> Option<Duration> {
        (self.host_interval_ms > 0).then(|| Duration::from_millis(self.host_interval_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_bounds_are_named() {
        assert!(MetricsConfig::default().errors().is_empty());
        let config = MetricsConfig { max_instances: 0, slice_interval_ms: 1, ..MetricsConfig::default() };
        let keys: Vec<_> = config.errors().into_iter().map(|error| error.key).collect();
        assert_eq!(keys, ["max_instances", "slice_interval_ms"]);
    }
}
