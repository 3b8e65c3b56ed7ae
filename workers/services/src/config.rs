//! The section `[services]` of keelson.toml.

use std::time::Duration;

use keelson_kit::config::{ConfigError, Span};
use keelson_schemas::services::Register;
use serde::{Deserialize, Serialize};

use crate::address::{Rules, Target};
use crate::allow::Rule;
use crate::breaker::Policy;
use crate::hysteresis::Thresholds;
use crate::registration;

/// Environment variables that set a key of the section.
pub(crate) const ENV: &[(&str, &str)] = &[
    ("CONTENT_SERVICE_URL", "urls.content"),
    ("VIDEO_SERVICE_URL", "urls.video"),
    ("ANALYTICS_SERVICE_URL", "urls.analytics"),
    ("NOTIFICATION_SERVICE_URL", "urls.notification"),
];

/// Which services there are, how they are checked and called.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServicesConfig {
    /// The platform's own services, each with all its instances.
    pub urls: UrlsConfig,
    /// What may be called at them. `GET /*` and `HEAD /*`
    pub allow: Vec<String>,
    /// Further services, as `POST /api/microservices/register` takes them.
    pub register: Vec<Register>,
    /// Micro services on the bus.
    pub discovery: DiscoveryConfig,
    /// How services are checked.
    pub check: CheckConfig,
    /// When breakers open, and how they recover.
    pub breaker: BreakerConfig,
    /// How services are called.
    pub call: CallConfig,
}

/// Section `[services.urls]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UrlsConfig {
    /// CONTENT_SERVICE_URL
    pub content: Vec<String>,
    /// VIDEO_SERVICE_URL
    pub video: Vec<String>,
    /// ANALYTICS_SERVICE_URL
    pub analytics: Vec<String>,
    /// NOTIFICATION_SERVICE_URL
    pub notification: Vec<String>,
}

/// Section `[services.discovery]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscoveryConfig {
    /// Whether they are registered. true
    pub enabled: bool,
    /// How often they are asked. 5 s
    pub interval: Span,
    /// How long one stays that answers no more. 10 min
    pub lease: Span,
}

/// Section `[services.check]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckConfig {
    /// How often each instance is checked. 5 s
    pub interval: Span,
    /// How long it may take to answer. 2 s
    pub timeout: Span,
    /// The path that says whether it is well, where its registration does not say. `/health`
    pub path: String,
    /// Failures in a row until it is down. 3
    pub failures: u32,
    /// Successes in a row until it is up. 2
    pub successes: u32,
    /// What is looked at before somebody else is said to be down: `tcp://gateway.example:443`. Away, nobody is. Not set: the bus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Checks under way at once. 256
    pub at_once: usize,
    /// How long before its end a certificate is said to expire. 14 days
    pub certificate: Span,
}

/// Section `[services.breaker]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerConfig {
    /// Failures in a row that open it. 5
    pub failures: u32,
    /// How long it is open. 60 s
    pub open_for: Span,
    /// Calls that are let through while it is half-open, in all. 3
    pub probes: u32,
    /// Successes among them that close it. 2
    pub successes: u32,
    /// The share of failures among the last calls that opens it; 0 never does. 0
    pub failure_rate: f64,
    /// The share of slow calls among them that opens it; 0 never does. 0
    pub slow_rate: f64,
    /// What is slow. 2 s
    pub slow_after: Span,
    /// How many calls are the last ones. 100
    pub window: usize,
    /// How many there must be before a share counts. 20
    pub least_calls: usize,
}

/// Section `[services.call]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallConfig {
    /// How long a call may take that does not say, all attempts together. 5 s
    pub timeout: Span,
    /// Calls that may be tried again, as a share of all. 0.2
    pub retry_budget: f64,
    /// Calls to one service under way at once, at each replica. 256
    pub at_once: usize,
    /// The largest body that is sent. 1 MiB
    pub max_request_bytes: usize,
    /// The largest answer that is taken. 4 MiB
    pub max_response_bytes: usize,
}

impl Default for ServicesConfig {
    fn default() -> Self {
        Self {
            urls: UrlsConfig::default(),
            allow: vec!["GET /*".to_owned(), "HEAD /*".to_owned()],
            register: Vec::new(),
            discovery: DiscoveryConfig::default(),
            check: CheckConfig::default(),
            breaker: BreakerConfig::default(),
            call: CallConfig::default(),
        }
    }
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self { enabled: true, interval: Span::seconds(5), lease: Span::seconds(600) }
    }
}

impl Default for CheckConfig {
    fn default() -> Self {
        Self {
            interval: Span::seconds(5),
            timeout: Span::seconds(2),
            path: "/health".to_owned(),
            failures: 3,
            successes: 2,
            reference: None,
            at_once: 256,
            certificate: Span::seconds(14 * 24 * 3_600),
        }
    }
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            open_for: Span::seconds(60),
            probes: 3,
            successes: 2,
            failure_rate: 0.0,
            slow_rate: 0.0,
            slow_after: Span::seconds(2),
            window: 100,
            least_calls: 20,
        }
    }
}

impl Default for CallConfig {
    fn default() -> Self {
        Self {
            timeout: Span::seconds(5),
            retry_budget: 0.2,
            at_once: 256,
            max_request_bytes: 1 << 20,
            max_response_bytes: 4 << 20,
        }
    }
}

impl UrlsConfig {
    /// Name and instances of each that is set.
    pub(crate) fn set(&self) -> impl Iterator<Item = (&'static str, &Vec<String>)> {
        [
            ("content", &self.content),
            ("video", &self.video),
            ("analytics", &self.analytics),
            ("notification", &self.notification),
        ]
        .into_iter()
        .filter(|(_, urls)| !urls.is_empty())
    }
}

impl CheckConfig {
    /// How often something has to be seen.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        Thresholds { failures: self.failures, successes: self.successes }
    }
}

impl BreakerConfig {
    /// The policy that it is.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let rate = |rate: f64| (rate > 0.0).then_some(rate);
        Policy {
            failures: self.failures,
            open_for: self.open_for.0,
            probes: self.probes,
            successes: self.successes,
            failure_rate: rate(self.failure_rate),
            slow_rate: rate(self.slow_rate),
            slow_after: self.slow_after.0,
            window: self.window,
            least_calls: self.least_calls,
        }
    }
}

impl ServicesConfig {
    /// All services that are named here, as they are asked to be registered.
    pub(crate) fn registrations(&self) -> Vec<(String, Register)> {
        let of_urls = self.urls.set().map(|(name, urls)| {
            let register = Register {
                name: name.to_owned(),
                url: keelson_schemas::services::Urls::Several(urls.clone()),
                allow: self.allow.clone(),
                ..Register::default()
            };
            (format!("urls.{name}"), register)
        });
        let named = self.register.iter().enumerate();
        of_urls
            .chain(named.map(|(index, register)| (format!("register[{index}]"), register.clone())))
            .collect()
    }

    /// What types cannot say.
    pub(crate) fn errors(&self) -> Vec<ConfigError> {
        // Whether loopback is allowed depends on where HTTP listens, which is another section; that is seen when services are registered.
        let rules = Rules { loopback: true };
        let mut errors: Vec<ConfigError> = self.numbers();
        let mut add = |key: &str, error: String| errors.push(ConfigError::new(key, error));
        for (key, register) in self.registrations() {
            if let Err(error) = registration::read(&register, &self.check, rules) {
                add(&key, error);
            }
        }
        for rule in &self.allow {
            if let Err(error) = Rule::parse(rule) {
                add("allow", error);
            }
        }
        if let Some(Err(error)) = self.check.reference.as_ref().map(|reference| rules.target(reference)) {
            add("check.reference", error);
        }
        errors
    }

    fn numbers(&self) -> Vec<ConfigError> {
        let (check, breaker, call, discovery) = (&self.check, &self.breaker, &self.call, &self.discovery);
        let share = |share: f64| (0.0..=1.0).contains(&share);
        let least = |span: Span| span.0 >= Duration::from_millis(10);
        [
            ("discovery.interval", discovery.interval.0 >= Duration::from_millis(100), "at least 100ms"),
            // Questions and answers may be lost, or late.
            (
                "discovery.lease",
                discovery.lease.0 >= 5 * discovery.interval.0 && registration::may_last(discovery.lease.0),
                "at least five times discovery.interval, 1s to 30 days",
            ),
            ("check.interval", check.interval.0 >= Duration::from_millis(100), "at least 100ms"),
            ("check.timeout", least(check.timeout), "at least 10ms"),
            ("check.failures", check.failures > 0, "at least 1"),
            ("check.successes", check.successes > 0, "at least 1"),
            ("check.at_once", check.at_once > 0, "at least 1"),
            ("check.path", check.path.starts_with('/'), "begins with /"),
            ("breaker.failures", breaker.failures > 0, "at least 1"),
            ("breaker.open_for", least(breaker.open_for), "at least 10ms"),
            ("breaker.successes", breaker.successes > 0, "at least 1"),
            ("breaker.probes", breaker.probes >= breaker.successes, "at least as many as breaker.successes"),
            ("breaker.failure_rate", share(breaker.failure_rate), "a share, 0 to 1"),
            ("breaker.slow_rate", share(breaker.slow_rate), "a share, 0 to 1"),
            ("breaker.window", breaker.window <= 10_000, "at most 10000"),
            ("call.timeout", least(call.timeout) && call.timeout.0 <= crate::call::LONGEST, "10ms to 25s"),
            ("call.retry_budget", share(call.retry_budget), "a share, 0 to 1"),
            ("call.at_once", call.at_once > 0, "at least 1"),
            ("call.max_request_bytes", call.max_request_bytes <= 4 << 20, "at most 4 MiB"),
            ("call.max_response_bytes", call.max_response_bytes <= 32 << 20, "at most 32 MiB"),
        ]
        .into_iter()
        .filter(|(_, fine, _)| !fine)
        .map(|(key, _, message)| ConfigError::new(key, message))
        .collect()
    }

    /// What the checker looks at for itself.
    pub(crate) fn reference(&self, rules: Rules) -> Option<Target> {
        self.check.reference.as_ref().and_then(|reference| rules.target(reference).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        let config: ServicesConfig = toml::from_str(text).unwrap();
        config.errors().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn defaults_are_as_they_were_promised() {
        let config = ServicesConfig::default();
        assert_eq!(errors(""), Vec::<String>::new());
        let policy = config.breaker.policy();
        assert_eq!((policy.failures, policy.open_for), (5, Duration::from_secs(60)));
        assert_eq!((policy.failure_rate, policy.slow_rate), (None, None));
        assert_eq!(config.check.thresholds(), Thresholds { failures: 3, successes: 2 });
    }

    #[test]
    fn all_that_is_wrong_is_named() {
        let said = errors(
            "allow = [\"FETCH /\"]\n[urls]\ncontent = [\"ftp://x\"]\n[check]\ninterval = \"1ms\"\nreference = \"169.254.169.254\"\n[breaker]\nprobes = 1\nfailure_rate = 2.0\n[call]\ntimeout = \"1h\"\n[discovery]\nlease = \"20s\"\n[[register]]\nname = \"a\"\nurl = \"http://169.254.169.254\"",
        )
        .join("\n");
        for key in [
            "allow",
            "urls.content",
            "check.interval",
            "check.reference",
            "breaker.probes",
            "breaker.failure_rate",
            "call.timeout",
            "discovery.lease",
            "register[0]",
        ] {
            assert!(said.contains(key), "{key}: {said}");
        }
    }

    #[test]
    fn the_platforms_own_services_are_known_by_their_variables() {
        let config: ServicesConfig =
            toml::from_str("[urls]\ncontent = [\"http://127.0.0.1:5002\", \"http://127.0.0.1:5003\"]")
                .unwrap();
        let registrations = config.registrations();
        assert_eq!(registrations.len(), 1);
        assert_eq!(registrations[0].1.name, "content");
        assert_eq!(registrations[0].1.url.all().len(), 2);
    }
}
