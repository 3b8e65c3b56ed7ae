//! The sections that concern more than one role.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::secret::{Secret, without_userinfo};
use super::token::Token;

/// Environment variables that set a key of the core.
pub(super) const ENV: &[(&str, &str)] = &[
    ("KEELSON_DATA_DIR", "data_dir"),
    ("KEELSON_HTTP_ADDR", "http.addr"),
    ("KEELSON_NATS_SERVER", "nats.server"),
    ("NATS_INBOX_PREFIX", "nats.inbox_prefix"),
    ("NATS_PASSWORD", "nats.password"),
    ("NATS_URL", "nats.url"),
    ("NATS_USER", "nats.user"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "otel.endpoint"),
    ("OTEL_SERVICE_NAME", "otel.service_name"),
    ("RUST_LOG", "log.filter"),
];

/// Everything at the top of keelson.toml that is not the section of a role.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoreConfig {
    /// Where everything lies that this process keeps: the private bus, the admin token, its name. `.keelson`
    pub data_dir: PathBuf,
    /// How long a shutdown may take before what still runs is cut off, in milliseconds. 10 s
    pub shutdown_grace_ms: u64,
    /// The bus.
    pub nats: NatsConfig,
    /// Where HTTP listens.
    pub http: HttpConfig,
    /// Who may do what over HTTP.
    pub auth: AuthConfig,
    /// Where traces go.
    pub otel: OtelConfig,
    /// What is logged, and how.
    pub log: LogConfig,
}

/// Section `[nats]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsConfig {
    /// Addresses of the bus, comma-separated, `nats://host:4222`. Unset: `keelson up` starts a private server.
    #[serde(serialize_with = "without_userinfo", skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A file of NATS credentials (JWT and seed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// A user's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// What the subjects begin with on which answers come back; with bus-config/nats-server.secure.conf `_INBOX_` and the user. `_INBOX`
    pub inbox_prefix: String,
    /// The nats-server to start when `url` is unset. Unset: the one in `.tools`, then the one on PATH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<PathBuf>,
    /// How long one attempt to connect may take, in milliseconds. 5 s
    pub connect_timeout_ms: u64,
    /// How long the bus may take to answer a request or confirm a publish, in milliseconds. 5 s
    pub request_timeout_ms: u64,
}

/// Section `[http]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port; port 0 picks a free one. `127.0.0.1:8080`
    pub addr: SocketAddr,
}

/// Section `[auth]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// `[[auth.tokens]]`, as `keelson token` prints them. Needed when HTTP listens on anything but loopback.
    pub tokens: Vec<Token>,
}

/// Section `[otel]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtelConfig {
    /// The OTLP/gRPC endpoint, `http://host:4317`. Unset: no traces are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The service's name in traces. `keelson`
    pub service_name: String,
}

/// Section `[log]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What is logged, in the syntax of RUST_LOG. `info`
    pub filter: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl CoreConfig {
    /// What types cannot say.
    pub(super) fn validate(&self) -> Vec<ConfigError> {
        let positive = [
            ("nats.connect_timeout_ms", self.nats.connect_timeout_ms),
            ("nats.request_timeout_ms", self.nats.request_timeout_ms),
        ];
        let bad_prefix = self.nats.bad_inbox_prefix();
        let zero = positive.into_iter().filter(|(_, value)| *value == 0);
        zero.map(|(key, _)| ConfigError::new(key, "must be more than 0"))
            .chain(bad_prefix)
            .chain(self.open_to_the_world())
            .chain(self.auth.duplicate_ids())
            .chain(self.otel.bad_endpoint())
            .chain(self.log.bad_filter())
            .collect()
    }

    /// [`CoreConfig::shutdown_grace_ms`] as a duration.
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms)
    }

    fn open_to_the_world(&self) -> Option<ConfigError> {
        let open = !self.http.addr.ip().is_loopback() && self.auth.tokens.is_empty();
        open.then(|| {
            ConfigError::new(
                "http.addr",
                format!("{} can be reached by others, so [[auth.tokens]] must name who may do what (see `keelson token`)", self.http.addr),
            )
        })
    }
}

impl NatsConfig {
    fn bad_inbox_prefix(&self) -> Option<ConfigError> {
        let token = |token: &str| {
            !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && !b"*>".contains(&byte))
        };
        let good = self.inbox_prefix.split('.').all(token);
        (!good).then(|| ConfigError::new("nats.inbox_prefix", "must be a subject without wildcards"))
    }
}

impl AuthConfig {
    fn duplicate_ids(&self) -> Vec<ConfigError> {
        let earlier =
            |index: usize| self.tokens[..index].iter().any(|token| token.id == self.tokens[index].id);
        (0..self.tokens.len())
            .filter(|index| earlier(*index))
            .map(|index| ConfigError::new(format!("auth.tokens[{index}].id"), "another token has this id"))
            .collect()
    }
}

impl OtelConfig {
    fn bad_endpoint(&self) -> Option<ConfigError> {
        let endpoint = self.endpoint.as_deref()?;
        let good = endpoint.starts_with("http://");
        let problem = "must begin with http:// (TLS is left to a collector on this side of the network)";
        (!good).then(|| ConfigError::new("otel.endpoint", problem))
    }
}

impl LogConfig {
    fn bad_filter(&self) -> Option<ConfigError> {
        let error = tracing_subscriber::EnvFilter::builder().parse(&self.filter).err()?;
        Some(ConfigError::new("log.filter", error.to_string()))
    }
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            data_dir: ".keelson".into(),
            shutdown_grace_ms: 10_000,
            nats: NatsConfig::default(),
            http: HttpConfig::default(),
            auth: AuthConfig::default(),
            otel: OtelConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            url: None,
            credentials_file: None,
            user: None,
            password: None,
            inbox_prefix: "_INBOX".into(),
            server: None,
            connect_timeout_ms: 5_000,
            request_timeout_ms: 5_000,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)) }
    }
}

impl Default for OtelConfig {
    fn default() -> Self {
        Self { endpoint: None, service_name: "keelson".into() }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Text }
    }
}
