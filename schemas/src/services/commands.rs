//! What the services worker can be told to do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Service;
use crate::message::{Command, Message};

/// Registers a service with all of its instances. The operation's result is [`Registered`].
///
/// The same again changes nothing, and renews its lease; other settings under a name that is taken are refused, unless `replace` is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Register {
    /// 1 to 63 letters, digits, `-` and `_`.
    pub name: String,
    /// Where its instances are: `http://`, `https://`, `tcp://host:port`, or `nats://subject` for one that answers there.
    pub url: Urls,
    /// The path that says whether an instance is well. `/health`
    pub health: Option<String>,
    /// What may be called: `GET /v1/*`, `* /search`. Nothing is, unless it is named here.
    pub allow: Vec<String>,
    /// How it is checked, where that differs from the configuration.
    pub check: Check,
    /// It is deregistered when it is not registered again, and no heartbeat comes, within this time: `30s`. Without one it is permanent.
    pub lease: Option<String>,
    /// Whether it takes the place of what is registered under its name.
    pub replace: bool,
}

/// One URL or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a URL or a list of URLs")]
pub enum Urls {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Default for Urls {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Urls {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<&str> {
        match self {
            Self::One(url) => vec![url.as_str()],
            Self::Several(urls) => urls.iter().map(String::as_str).collect(),
        }
    }
}

/// How a service is checked. What is left out is as the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Check {
    /// How often: `5s`.
    pub interval: Option<String>,
    /// How long an answer may take: `2s`.
    pub timeout: Option<String>,
    /// The statuses that are well. 200 to 299
    pub status: Vec<u16>,
    /// What the body has to contain.
    pub body: Option<String>,
}

/// What came of a registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// What is registered now.
    pub service: Service,
    /// Whether it was not so before.
    pub changed: bool,
}

/// Takes a service out of the registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Deregister {
    /// The service.
    pub name: String,
}

/// What a breaker is forced to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Force {
    /// Nothing is let through.
    #[default]
    Open,
    /// Everything is let through.
    Closed,
}

/// Forces a breaker, everywhere, until it is reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Trip {
    /// The service.
    pub name: String,
    /// The URL of one of its instances; none is the service itself.
    pub instance: Option<String>,
    /// What it is forced to be. open
    pub to: Force,
    /// Why.
    pub reason: String,
}

/// Closes a breaker, and leaves it to itself again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reset {
    /// The service.
    pub name: String,
    /// The URL of one of its instances; none is the service with all of them.
    pub instance: Option<String>,
}

impl Command for Register {
    const WORKER: &'static str = "services";
    const VERB: &'static str = "register";
}

impl Command for Deregister {
    const WORKER: &'static str = "services";
    const VERB: &'static str = "deregister";
}

impl Command for Trip {
    const WORKER: &'static str = "services";
    const VERB: &'static str = "trip";
}

impl Command for Reset {
    const WORKER: &'static str = "services";
    const VERB: &'static str = "reset";
}

impl Message for Register {
    const TYPE: &'static str = "keelson.services.register.v1";

    fn example() -> Self {
        Self {
            name: "content".into(),
            url: Urls::Several(vec!["http://127.0.0.1:5002".into(), "http://127.0.0.1:5003".into()]),
            health: Some("/health".into()),
            allow: vec!["GET /v1/*".into()],
            check: Check {
                interval: Some("5s".into()),
                timeout: Some("2s".into()),
                status: vec![200, 204],
                body: Some("ok".into()),
            },
            lease: Some("30s".into()),
            replace: true,
        }
    }
}

impl Message for Registered {
    const TYPE: &'static str = "keelson.services.registered.v1";

    fn example() -> Self {
        Self { service: Service::example(), changed: true }
    }
}

impl Message for Deregister {
    const TYPE: &'static str = "keelson.services.deregister.v1";

    fn example() -> Self {
        Self { name: "content".into() }
    }
}

impl Message for Trip {
    const TYPE: &'static str = "keelson.services.trip.v1";

    fn example() -> Self {
        Self {
            name: "content".into(),
            instance: Some("http://127.0.0.1:5002".into()),
            to: Force::Closed,
            reason: "the vendor works on it".into(),
        }
    }
}

impl Message for Reset {
    const TYPE: &'static str = "keelson.services.reset.v1";

    fn example() -> Self {
        Self { name: "content".into(), instance: Some("http://127.0.0.1:5002".into()) }
    }
}
