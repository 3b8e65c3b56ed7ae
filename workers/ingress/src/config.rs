//! Section `[ingress]`. Where HTTP listens and who may do what is in `[http]` and `[auth]`, which other parts need as well.

use std::time::Duration;

use keelson_kit::config::ConfigError;
use keelson_schemas::limits::MAX_BODY_BYTES;
use serde::{Deserialize, Serialize};

/// The bounds of the ingress.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The largest body, as sent and after decompression, in bytes. 8 MiB, which is also the most.
    pub max_body_bytes: usize,
    /// Memory that the bodies of requests in flight may take together, in bytes; past it a request gets 429. 64 MiB
    pub max_buffered_bytes: usize,
    /// How long a request may take, in milliseconds. Streams of events are not bound by it. 30 s
    pub deadline_ms: u64,
    /// Requests that one principal may make in a second, on average; past it a request gets 429. 10,000
    pub max_requests_per_second: u32,
    /// Connections at a time; further ones wait to be accepted. 4,096
    pub max_connections: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body_bytes: MAX_BODY_BYTES,
            max_buffered_bytes: 8 * MAX_BODY_BYTES,
            deadline_ms: 30_000,
            max_requests_per_second: 10_000,
            max_connections: 4_096,
        }
    }
}

impl Config {
    /// [`Config::deadline_ms`] as a duration.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// What types cannot say.
    #[must_use]
    pub fn errors(&self) -> Vec<ConfigError> {
        let positive = [
            ("deadline_ms", self.deadline_ms > 0),
            ("max_requests_per_second", self.max_requests_per_second > 0),
            ("max_connections", self.max_connections > 0),
            ("max_body_bytes", self.max_body_bytes > 0),
        ];
        let zero = positive.into_iter().filter(|(_, fine)| !fine);
        let mut errors: Vec<_> = zero.map(|(key, _)| ConfigError::new(key, "must be more than 0")).collect();
        if self.max_body_bytes > MAX_BODY_BYTES {
            let message = format!("must be at most {MAX_BODY_BYTES}, as the bus takes no larger message");
            errors.push(ConfigError::new("max_body_bytes", message));
        }
        if self.max_buffered_bytes < self.max_body_bytes {
            errors.push(ConfigError::new("max_buffered_bytes", "must be at least max_body_bytes"));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_every_bound_is_checked() {
        assert_eq!(Config::default().errors(), []);
        let wrong =
            Config { max_body_bytes: usize::MAX, max_buffered_bytes: 1, deadline_ms: 0, ..Config::default() };
        let keys: Vec<_> = wrong.errors().into_iter().map(|error| error.key).collect();
        assert_eq!(keys, ["deadline_ms", "max_body_bytes", "max_buffered_bytes"]);
    }
}
