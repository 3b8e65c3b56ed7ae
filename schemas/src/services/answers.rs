//! What the services worker answers.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Service, Source};
use crate::message::Message;

/// How an instance, a service, or all of them fare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nobody has looked yet, or nobody can.
    #[default]
    Unknown,
    /// All is well.
    Up,
    /// Some of it is down.
    Degraded,
    /// It does not answer as it should.
    Down,
}

impl Health {
    /// Its name, as it stands in subjects.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }

    /// Of what consists of parts. Nothing is known of what has none.
    #[must_use]
    pub fn of_parts(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().reduce(Self::and).unwrap_or_default()
    }

    const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Up, Self::Up) => Self::Up,
            (Self::Down, Self::Down) => Self::Down,
            (Self::Unknown, Self::Unknown) => Self::Unknown,
            (Self::Down | Self::Degraded, _) | (_, Self::Down | Self::Degraded) => Self::Degraded,
            _ => Self::Unknown,
        }
    }
}

/// What a breaker does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// It lets calls through.
    #[default]
    Closed,
    /// It lets none through.
    Open,
    /// It lets a few through, to see what comes of them.
    HalfOpen,
}

impl BreakerState {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// Asks `keelson.qry.services.status` how a service fares; `keelson.qry.services.heartbeat` renews its lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindService {
    /// The service.
    pub name: String,
}

/// All services.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Services {
    /// By name.
    pub services: Vec<ServiceStatus>,
}

/// How all services fare, in short.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServicesHealth {
    /// All together; unknown without any.
    pub health: Health,
    /// By name.
    pub services: Vec<ServiceSummary>,
}

/// How a service fares, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceSummary {
    /// Its name.
    pub name: String,
    /// All its instances together.
    pub health: Health,
    /// Its breaker.
    pub breaker: BreakerState,
    /// Instances that are up.
    pub up: u64,
    /// Instances.
    pub instances: u64,
}

/// How a service fares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// All its instances together.
    pub health: Health,
    /// Its breaker.
    pub breaker: BreakerStatus,
    /// Its instances, as they were registered.
    pub instances: Vec<InstanceStatus>,
    /// The path that says whether an instance is well.
    pub health_path: String,
    /// What may be called.
    pub allow: Vec<String>,
    /// How long it stays without a heartbeat; none is for ever.
    #[serde(default)]
    pub lease: Option<Lease>,
    /// Where its registration comes from.
    pub source: Source,
    /// Who registered it.
    pub registered_by: String,
    /// When.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub registered_at: Option<Timestamp>,
}

/// What keeps a service registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// How long it stays without a heartbeat.
    pub seconds: f64,
    /// When it was heard of last.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub heard_at: Option<Timestamp>,
}

/// How a breaker stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerStatus {
    /// What it does.
    pub state: BreakerState,
    /// Failures in a row, as the replica that answers has seen them.
    pub failures: u32,
    /// Until when it is open; none when it is not, or for as long as it is forced.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub opens_until: Option<Timestamp>,
    /// Whether a command made it so.
    pub forced: bool,
    /// Why it is not closed.
    #[serde(default)]
    pub reason: Option<String>,
}

/// How an instance fares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// Where it is.
    pub url: String,
    /// Whether it is well.
    pub health: Health,
    /// Since when.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// What the last check found that was not well.
    #[serde(default)]
    pub reason: Option<String>,
    /// When it was checked last, as far as that is known to all.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub checked_at: Option<Timestamp>,
    /// How long the last check took.
    #[serde(default)]
    pub latency_ms: Option<f64>,
    /// Until when its certificate is valid; none over anything but https.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub certificate_ends: Option<Timestamp>,
    /// Its breaker.
    pub breaker: BreakerStatus,
    /// Calls under way at the replica that answers.
    pub outstanding: u64,
    /// The share of checks that found it well.
    pub uptime: Uptime,
}

/// The share of checks that found something well, 0 to 1; none when there were none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Uptime {
    /// Of the last hour.
    #[serde(default)]
    pub hour: Option<f64>,
    /// Of the last day.
    #[serde(default)]
    pub day: Option<f64>,
    /// Of the last 30 days.
    #[serde(default)]
    pub month: Option<f64>,
}

impl ServiceStatus {
    /// The same, in short.
    #[must_use]
    pub fn summary(&self) -> ServiceSummary {
        let up = self.instances.iter().filter(|instance| instance.health == Health::Up).count();
        ServiceSummary {
            name: self.name.clone(),
            health: self.health,
            breaker: self.breaker.state,
            up: up as u64,
            instances: self.instances.len() as u64,
        }
    }

    fn example() -> Self {
        let Service { name, instances, health, allow, registered_by, source, .. } = Service::example();
        let at = Timestamp::from_millisecond(1_764_000_000_000).ok();
        let breaker = BreakerStatus {
            state: BreakerState::Open,
            failures: 5,
            opens_until: at,
            forced: true,
            reason: Some("5 failures in a row".into()),
        };
        let instance = |url| InstanceStatus {
            url,
            health: Health::Down,
            since: at,
            reason: Some("connection refused".into()),
            checked_at: at,
            latency_ms: Some(1.5),
            certificate_ends: Timestamp::from_millisecond(1_771_776_000_000).ok(),
            breaker: breaker.clone(),
            outstanding: 2,
            uptime: Uptime { hour: Some(0.5), day: Some(0.75), month: Some(0.875) },
        };
        Self {
            name,
            health: Health::Degraded,
            breaker: breaker.clone(),
            instances: instances.into_iter().map(instance).collect(),
            health_path: health,
            allow,
            lease: Some(Lease { seconds: 30.0, heard_at: at }),
            source,
            registered_by,
            registered_at: at,
        }
    }
}

impl Message for FindService {
    const TYPE: &'static str = "keelson.services.find.v1";

    fn example() -> Self {
        Self { name: "content".into() }
    }
}

impl Message for Services {
    const TYPE: &'static str = "keelson.services.list.v1";

    fn example() -> Self {
        Self { services: vec![ServiceStatus::example()] }
    }
}

impl Message for ServiceStatus {
    const TYPE: &'static str = "keelson.services.status.v1";

    fn example() -> Self {
        Self::example()
    }
}

impl Message for ServicesHealth {
    const TYPE: &'static str = "keelson.services.health.v1";

    fn example() -> Self {
        Self { health: Health::Degraded, services: vec![ServiceStatus::example().summary()] }
    }
}

#[cfg(test)]
mod tests {
    use super::Health::{self, Degraded, Down, Unknown, Up};

    #[test]
    fn the_whole_is_as_well_as_its_parts() {
        let cases: [(&[Health], Health); 9] = [
            (&[], Unknown),
            (&[Up, Up], Up),
            (&[Down, Down], Down),
            (&[Unknown, Unknown], Unknown),
            (&[Up, Down], Degraded),
            (&[Up, Unknown], Unknown),
            (&[Unknown, Down], Degraded),
            (&[Down, Up, Down], Degraded),
            (&[Up, Degraded], Degraded),
        ];
        for (parts, whole) in cases {
            assert_eq!(Health::of_parts(parts.iter().copied()), whole, "{parts:?}");
        }
    }
}
