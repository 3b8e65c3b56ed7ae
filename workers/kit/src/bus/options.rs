//! How to reach the bus.

use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Clock;

/// How to reach the bus.
#[derive(Debug, Clone)]
pub struct BusOptions {
    /// Comma-separated addresses: `nats://host:4222`, with `user:password@` or `token@` where the server asks for it.
    pub url: String,
    /// User and password; they take precedence over those in `url`.
    pub user: Option<(String, String)>,
    /// A file of NATS credentials (JWT and seed).
    pub credentials_file: Option<PathBuf>,
    /// What the subjects begin with on which answers come back; private to the user where the server knows users.
    pub inbox_prefix: String,
    /// Who publishes: the `ce-source` of messages is `keelson/<source>`.
    pub source: String,
    /// How long to go on trying when the first connection fails; None tries once, `Duration::MAX` for ever.
    pub connect_within: Option<Duration>,
    /// How long one connection attempt may take.
    pub connect_timeout: Duration,
    /// How long a request to the server, or the ack of a publish, may take.
    pub request_timeout: Duration,
    /// The time.
    pub clock: Clock,
}

impl BusOptions {
    /// The bus at `url`, tried for ten seconds.
    pub fn new(url: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            user: None,
            credentials_file: None,
            inbox_prefix: "_INBOX".into(),
            source: source.into(),
            connect_within: Some(Duration::from_secs(10)),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            clock: Clock::system(),
        }
    }
}
