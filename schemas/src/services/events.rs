//! What the services worker says, and a service as it is registered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BreakerState, Health};
use crate::message::Message;

/// A service as it is registered: `keelson.evt.services.registered`, and the entry in the bucket `services`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Where its instances are.
    pub instances: Vec<String>,
    /// The path that says whether an instance is well.
    pub health: String,
    /// What may be called.
    pub allow: Vec<String>,
    /// How often it is checked, where that differs from the configuration.
    #[serde(default)]
    pub interval_ms: Option<u64>,
    /// How long an answer may take, where that differs from the configuration.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// The statuses that are well; none are 200 to 299.
    #[serde(default)]
    pub status: Vec<u16>,
    /// What the body has to contain.
    #[serde(default)]
    pub body: Option<String>,
    /// How long it stays without a heartbeat; none is for ever.
    #[serde(default)]
    pub lease_ms: Option<u64>,
    /// Who said so.
    pub source: Source,
    /// Who asked.
    pub registered_by: String,
    /// Unix milliseconds.
    pub registered_at_ms: u64,
}

/// Where a registration comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The configuration, or an environment variable.
    Configuration,
    /// A command.
    Command,
    /// It is a micro service that answers on the bus.
    Bus,
}

/// Why a service is registered no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// Somebody asked for it.
    Command,
    /// No heartbeat came within its lease.
    Expired,
}

/// `keelson.evt.services.deregistered`: a service is not registered any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deregistered {
    /// The service.
    pub name: String,
    /// Why.
    pub why: Why,
    /// Who asked.
    #[serde(default)]
    pub by: Option<String>,
}

/// `keelson.evt.services.<up|down|unknown>`: the health of an instance is another now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthChanged {
    /// The service.
    pub service: String,
    /// Its instance.
    pub instance: String,
    /// What it is.
    pub health: Health,
    /// What it was.
    pub before: Health,
    /// Why, in words.
    #[serde(default)]
    pub reason: Option<String>,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Which change of this instance it is, from 1.
    pub number: u64,
}

/// `keelson.evt.services.breaker-<opened|half-open|closed>`: a breaker changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerChanged {
    /// The service.
    pub service: String,
    /// The instance whose breaker it is; none is the service's own.
    #[serde(default)]
    pub instance: Option<String>,
    /// What it is.
    pub state: BreakerState,
    /// Whether a command made it so.
    #[serde(default)]
    pub forced: bool,
    /// Why, in words.
    #[serde(default)]
    pub reason: Option<String>,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Which change of this breaker it is, from 1.
    pub number: u64,
}

impl Service {
    /// Whether two registrations mean the same, whoever made them and when.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let of_settings = |service: &Self| Self {
            source: Source::Command,
            registered_by: String::new(),
            registered_at_ms: 0,
            ..service.clone()
        };
        of_settings(self) == of_settings(other)
    }

    pub(super) fn example() -> Self {
        Self {
            name: "content".into(),
            instances: vec!["http://127.0.0.1:5002".into(), "http://127.0.0.1:5003".into()],
            health: "/health".into(),
            allow: vec!["GET /v1/*".into()],
            interval_ms: Some(5_000),
            timeout_ms: Some(2_000),
            status: vec![200, 204],
            body: Some("ok".into()),
            lease_ms: Some(30_000),
            source: Source::Command,
            registered_by: "ops".into(),
            registered_at_ms: 1_764_000_000_000,
        }
    }
}

impl Message for Service {
    const TYPE: &'static str = "keelson.services.service.v1";

    fn example() -> Self {
        Self::example()
    }
}

impl Message for Deregistered {
    const TYPE: &'static str = "keelson.services.deregistered.v1";

    fn example() -> Self {
        Self { name: "content".into(), why: Why::Expired, by: Some("ops".into()) }
    }
}

impl Message for HealthChanged {
    const TYPE: &'static str = "keelson.services.health-changed.v1";

    fn example() -> Self {
        Self {
            service: "content".into(),
            instance: "http://127.0.0.1:5002".into(),
            health: Health::Down,
            before: Health::Up,
            reason: Some("connection refused".into()),
            at_ms: 1_764_000_000_000,
            number: 7,
        }
    }
}

impl Message for BreakerChanged {
    const TYPE: &'static str = "keelson.services.breaker-changed.v1";

    fn example() -> Self {
        Self {
            service: "content".into(),
            instance: Some("http://127.0.0.1:5002".into()),
            state: BreakerState::HalfOpen,
            forced: true,
            reason: Some("5 failures in a row".into()),
            at_ms: 1_764_000_000_000,
            number: 7,
        }
    }
}
