//! Who is told: receivers, the routes to them, and what keeps an alert from being notified.

use std::collections::BTreeSet;

use keelson_kit::config::{ConfigError, Secret};
use serde::{Deserialize, Serialize};

use crate::receivers;
pub use keelson_kit::config::Span;
use keelson_kit::matcher::Matchers;

/// All that the notifier goes by.
#[derive(Clone, Debug)]
pub struct NotifyConfig {
    /// Where links in notifications lead: the address under which people reach Keelson.
    pub external_url: String,
    /// The root of the routing tree.
    pub route: Route,
    /// Who can be told.
    pub receivers: Vec<Receiver>,
    /// Alerts that keep others quiet.
    pub inhibit: Vec<Inhibit>,
    /// When an alert is held because it goes up and down.
    pub flap: Flap,
    /// How mail is sent.
    pub smtp: Option<Smtp>,
}

/// A node of the routing tree, as Alertmanager has it: an alert goes down the first child that matches, and on to the next ones where that says `continue`;
/// where no child matches, the node itself takes it. What a node leaves out it has from its parent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Who is told. At the root: all receivers.
    pub receiver: Option<String>,
    /// Alerts that agree in these labels are notified together; `"..."` stands for all labels. `["alertname", "service_name"]`
    pub group_by: Option<Vec<String>>,
    /// How long the first notification of a group waits for more. `"0s"`
    pub group_wait: Option<Span>,
    /// How long what changes later in a group is collected, at least a second. `"30s"`
    pub group_interval: Option<Span>,
    /// After how long what still fires is notified again, at least a minute. `"4h"`
    pub repeat_interval: Option<Span>,
    /// All must match: `severity="critical"`. None at the root.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matchers: Vec<String>,
    /// Whether routes after this one are looked at too.
    #[serde(rename = "continue", skip_serializing_if = "std::ops::Not::not")]
    pub goes_on: bool,
    /// The children.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

/// Somebody who is told, in one way or several.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// What routes call it.
    pub name: String,
    /// Posts Alertmanager's webhook payload here.
    #[serde(default)]
    pub webhook_url: Option<Secret>,
    /// Sent to the webhook as a bearer token.
    #[serde(default)]
    pub webhook_token: Option<Secret>,
    /// An incoming webhook of Slack.
    #[serde(default)]
    pub slack_webhook_url: Option<Secret>,
    /// The integration key of a PagerDuty service (Events API v2).
    #[serde(default)]
    pub pagerduty_routing_key: Option<Secret>,
    /// Where PagerDuty's events go, if not to PagerDuty.
    #[serde(default)]
    pub pagerduty_url: Option<String>,
    /// Addresses that are written to; needs `[alerting.smtp]`.
    #[serde(default)]
    pub email_to: Vec<String>,
    /// An Alertmanager that is kept informed of every alert routed here; silencing, grouping and notifying are then its own.
    #[serde(default)]
    pub alertmanager_url: Option<Secret>,
    /// Whether it is told that an alert has resolved. true
    #[serde(default = "yes")]
    pub send_resolved: bool,
}

/// While an alert that matches `source` fires, those that match `target` and agree with it in `equal` are not notified.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inhibit {
    /// Matchers of the alert that inhibits.
    pub source: Vec<String>,
    /// Matchers of those that it inhibits.
    pub target: Vec<String>,
    /// The labels in which both must agree; one that both lack is equal.
    pub equal: Vec<String>,
}

/// An alert that fired `fired` times within `within` is held until it has been steady, one way or the other, for `steady`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flap {
    /// How often; 0 holds none. 5
    pub fired: u32,
    /// Within how long. `"30m"`
    pub within: Span,
    /// For how long. `"10m"`
    pub steady: Span,
}

/// How mail is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// `smtps://user:password@host`, or `smtp://user:password@host:587?tls=required` for STARTTLS; `smtp://host` is not encrypted.
    pub url: Secret,
    /// Who writes: `keelson@example.com`.
    pub from: String,
}

impl Default for Flap {
    fn default() -> Self {
        Self { fired: 5, within: Span::seconds(30 * 60), steady: Span::seconds(10 * 60) }
    }
}

fn yes() -> bool {
    true
}

/// The shortest `repeat_interval`: a shorter one tells nobody anything, and buries everything else.
const LEAST_REPEAT: Span = Span::seconds(60);
/// The shortest `group_interval`: what follows the first notification is to be collected for a while.
const LEAST_GROUP: Span = Span::seconds(1);
/// The largest `fired` of [`Flap`].
const MOST_FIRED: u32 = 100;

impl NotifyConfig {
    /// What types cannot say; keys are within the section `[alerting]`.
    #[must_use]
    pub fn errors(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        if !is_http(&self.external_url) {
            errors.push(ConfigError::new(
                "external_url",
                format!("{:?} must be an address that begins with http:// or https://", self.external_url),
            ));
        }
        self.check_receivers(&mut errors);
        self.check_route(&self.route, "route", &mut errors);
        if !self.route.matchers.is_empty() {
            errors.push(ConfigError::new(
                "route.matchers",
                "the root takes every alert: put matchers on routes below it",
            ));
        }
        for (index, inhibit) in self.inhibit.iter().enumerate() {
            inhibit.check(&format!("inhibit[{index}]"), &mut errors);
        }
        if let Some(smtp) = &self.smtp {
            let checks = [
                ("smtp.url", receivers::check_mail_server(&smtp.url)),
                ("smtp.from", receivers::check_mail_address(&smtp.from)),
            ];
            errors.extend(
                checks.into_iter().filter_map(|(key, checked)| Some(ConfigError::new(key, checked.err()?))),
            );
        }
        if self.flap.fired > MOST_FIRED {
            errors.push(ConfigError::new(
                "flap.fired",
                format!("is {}, and must be at most {MOST_FIRED}", self.flap.fired),
            ));
        }
        errors
    }

    fn check_receivers(&self, errors: &mut Vec<ConfigError>) {
        let mut names = BTreeSet::new();
        for (index, receiver) in self.receivers.iter().enumerate() {
            let key = format!("receivers[{index}]");
            if receiver.name.is_empty() || !names.insert(&receiver.name) {
                let what = if receiver.name.is_empty() {
                    "must not be empty"
                } else {
                    "is the name of another receiver too"
                };
                errors.push(ConfigError::new(format!("{key}.name"), format!("{:?} {what}", receiver.name)));
            }
            receiver.check(&key, self.smtp.is_some(), errors);
        }
    }

    fn check_route(&self, route: &Route, key: &str, errors: &mut Vec<ConfigError>) {
        if let Some(name) = &route.receiver
            && !self.receivers.iter().any(|receiver| receiver.name == *name)
        {
            let known: Vec<_> = self.receivers.iter().map(|receiver| receiver.name.as_str()).collect();
            let known = if known.is_empty() {
                "there is none".to_owned()
            } else {
                format!("there are {}", known.join(", "))
            };
            errors.push(ConfigError::new(
                format!("{key}.receiver"),
                format!("no receiver is named {name:?}: {known}"),
            ));
        }
        check_matchers(&route.matchers, &format!("{key}.matchers"), errors);
        let intervals = [
            ("group_interval", route.group_interval, LEAST_GROUP),
            ("repeat_interval", route.repeat_interval, LEAST_REPEAT),
        ];
        for (name, interval, least) in intervals {
            if let Some(interval) = interval.filter(|interval| *interval < least) {
                let [is, least] = [interval, least].map(|span| humantime::format_duration(span.0));
                let message = format!("is {is}, and must be at least {least}");
                errors.push(ConfigError::new(format!("{key}.{name}"), message));
            }
        }
        for (index, child) in route.routes.iter().enumerate() {
            self.check_route(child, &format!("{key}.routes[{index}]"), errors);
        }
    }
}

/// Posts Alertmanager's webhook payload.
pub const WEBHOOK: &str = "webhook";
/// An incoming webhook of Slack.
pub const SLACK: &str = "slack";
/// PagerDuty's Events API v2.
pub const PAGERDUTY: &str = "pagerduty";
/// Mail.
pub const EMAIL: &str = "email";

impl Receiver {
    /// The ways in which it is notified. An Alertmanager is none of them: that is not notified but kept informed.
    #[must_use]
    pub fn integrations(&self) -> Vec<&'static str> {
        let ways = [
            (WEBHOOK, self.webhook_url.is_some()),
            (SLACK, self.slack_webhook_url.is_some()),
            (PAGERDUTY, self.pagerduty_routing_key.is_some()),
            (EMAIL, !self.email_to.is_empty()),
        ];
        ways.into_iter().filter_map(|(name, is_set)| is_set.then_some(name)).collect()
    }

    fn check(&self, key: &str, has_smtp: bool, errors: &mut Vec<ConfigError>) {
        let urls = [
            ("webhook_url", self.webhook_url.as_ref().map(Secret::expose)),
            ("slack_webhook_url", self.slack_webhook_url.as_ref().map(Secret::expose)),
            ("pagerduty_url", self.pagerduty_url.as_deref()),
            ("alertmanager_url", self.alertmanager_url.as_ref().map(Secret::expose)),
        ];
        for (name, url) in urls {
            if url.is_some_and(|url| !is_http(url)) {
                errors.push(ConfigError::new(
                    format!("{key}.{name}"),
                    "must be an address that begins with http:// or https://",
                ));
            }
        }
        if self.webhook_token.as_ref().is_some_and(|token| !receivers::is_token(token)) {
            let message = "must be visible ASCII characters: it is sent in a header";
            errors.push(ConfigError::new(format!("{key}.webhook_token"), message));
        }
        for (index, address) in self.email_to.iter().enumerate() {
            if let Err(error) = receivers::check_mail_address(address) {
                errors.push(ConfigError::new(format!("{key}.email_to[{index}]"), error));
            }
        }
        if !self.email_to.is_empty() && !has_smtp {
            errors.push(ConfigError::new(
                format!("{key}.email_to"),
                "mail needs [alerting.smtp] with url and from",
            ));
        }
        if urls.iter().all(|(_, url)| url.is_none())
            && self.pagerduty_routing_key.is_none()
            && self.email_to.is_empty()
        {
            let ways = "webhook_url, slack_webhook_url, pagerduty_routing_key, email_to or alertmanager_url";
            errors.push(ConfigError::new(
                key,
                format!("says no way of telling {:?}: give it {ways}", self.name),
            ));
        }
    }
}

impl Inhibit {
    fn check(&self, key: &str, errors: &mut Vec<ConfigError>) {
        for (name, matchers) in [("source", &self.source), ("target", &self.target)] {
            let key = format!("{key}.{name}");
            if matchers.is_empty() {
                errors.push(ConfigError::new(&key, "must have at least one matcher"));
            }
            check_matchers(matchers, &key, errors);
        }
    }
}

fn check_matchers(texts: &[String], key: &str, errors: &mut Vec<ConfigError>) {
    for wrong in Matchers::parse(texts).err().unwrap_or_default() {
        errors.push(ConfigError::new(format!("{key}[{}]", wrong.index), wrong.message));
    }
}

fn is_http(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> NotifyConfig {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Section {
            external_url: Option<String>,
            #[serde(default)]
            route: Route,
            #[serde(default)]
            receivers: Vec<Receiver>,
            #[serde(default)]
            inhibit: Vec<Inhibit>,
            #[serde(default)]
            flap: Flap,
            smtp: Option<Smtp>,
        }
        let Section { external_url, route, receivers, inhibit, flap, smtp } = toml::from_str(text).unwrap();
        NotifyConfig {
            external_url: external_url.unwrap_or("http://keelson".into()),
            route,
            receivers,
            inhibit,
            flap,
            smtp,
        }
    }

    #[test]
    fn the_least_configuration_is_a_receiver_with_a_webhook() {
        let config = config("[[receivers]]\nname = \"ops\"\nwebhook_url = \"http://127.0.0.1:9999/hook\"\n");
        assert_eq!(config.errors(), []);
        assert_eq!(config.receivers[0].integrations(), [WEBHOOK]);
        assert!(config.receivers[0].send_resolved);
        assert!(!format!("{config:?}").contains("9999"), "an address may hold a secret");
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_with_its_key() {
        let wrong = r#"
            external_url = "keelson.example"
            [route]
            group_interval = "0s"
            receiver = "nobody"
            matchers = ["a=b"]
            [[route.routes]]
            matchers = ["a=~(", "b"]
            receiver = "ops"
            repeat_interval = "59s"
            [[receivers]]
            name = "ops"
            webhook_url = "ftp://x"
            webhook_token = "hunter2\n"
            email_to = ["nobody"]
            [[receivers]]
            name = "ops"
            [[inhibit]]
            source = ["a"]
            [smtp]
            url = "http://user:hunter2@host"
            from = "x"
            [flap]
            fired = 1000
        "#;
        let errors = config(wrong).errors();
        let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
        let expected = [
            "external_url",
            "receivers[0].webhook_url",
            "receivers[0].webhook_token",
            "receivers[0].email_to[0]",
            "receivers[1].name",
            "receivers[1]",
            "route.receiver",
            "route.group_interval",
            "route.routes[0].matchers[0]",
            "route.routes[0].matchers[1]",
            "route.routes[0].repeat_interval",
            "route.matchers",
            "inhibit[0].source[0]",
            "inhibit[0].target",
            "smtp.url",
            "smtp.from",
            "flap.fired",
        ];
        assert_eq!(keys, expected);
        assert!(errors.iter().all(|error| !error.message.contains("hunter2")));
    }

    #[test]
    fn durations_are_written_for_people() {
        let route: Route = toml::from_str("group_wait = \"1m 30s\"").unwrap();
        assert_eq!(route.group_wait, Some(Span::seconds(90)));
        assert!(toml::to_string(&route).unwrap().contains("group_wait = \"1m 30s\""));
        assert!(
            toml::from_str::<Route>("group_wait = \"soon\"").unwrap_err().to_string().contains("no duration")
        );
        assert!(toml::from_str::<Route>("group_wait = 5").is_err());
    }
}
