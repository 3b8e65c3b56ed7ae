//! The routing tree: which receivers are told of an alert, and with which others.

use std::collections::BTreeMap;
use std::sync::Arc;

use keelson_schemas::alerting::Labels;
use serde::{Deserialize, Serialize};

use super::config::{NotifyConfig, Route, Span};
use keelson_kit::matcher::Matchers;

/// In `group_by`: all labels.
const ALL_LABELS: &str = "...";

/// The tree, ready to route.
#[derive(Debug)]
pub struct Routes {
    root: Node,
}

#[derive(Debug)]
struct Node {
    matchers: Matchers,
    goes_on: bool,
    policy: Arc<Policy>,
    children: Vec<Node>,
}

/// What a route says about the alerts that it takes.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The matchers on the way to the route, as Alertmanager writes them: `{}/{severity="critical"}`.
    key: String,
    /// Who is told.
    pub receivers: Vec<String>,
    group_by: Vec<String>,
    /// When.
    pub timing: Timing,
}

/// How long things wait, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// The first notification of a group, for more alerts.
    pub group_wait_ms: u64,
    /// Later ones, since the last.
    pub group_interval_ms: u64,
    /// Before the same is notified again.
    pub repeat_interval_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            group_wait_ms: 0,
            group_interval_ms: Span::seconds(30).as_ms(),
            repeat_interval_ms: Span::seconds(4 * 3600).as_ms(),
        }
    }
}

impl Routes {
    /// The tree of a configuration without errors.
    ///
    /// # Errors
    /// A matcher that cannot be read.
    pub fn of(config: &NotifyConfig) -> anyhow::Result<Self> {
        let everybody = Policy {
            key: String::new(),
            receivers: config.receivers.iter().map(|receiver| receiver.name.clone()).collect(),
            group_by: ["alertname", "service_name"].map(str::to_owned).into(),
            timing: Timing::default(),
        };
        Ok(Self { root: Node::of(&config.route, &everybody)? })
    }

    /// What every route says that takes an alert with these labels.
    #[must_use]
    pub fn matching(&self, labels: &Labels) -> Vec<&Arc<Policy>> {
        let mut found = Vec::new();
        self.root.collect(labels, &mut found);
        found
    }
}

impl Node {
    fn of(route: &Route, parent: &Policy) -> anyhow::Result<Self> {
        let matchers = Matchers::parse(&route.matchers);
        let matchers = matchers.map_err(|errors| anyhow::anyhow!("a route's matchers: {errors:?}"))?;
        let policy = Policy::of(route, parent, &matchers);
        let children = route.routes.iter().map(|child| Self::of(child, &policy)).collect::<Result<_, _>>()?;
        Ok(Self { matchers, goes_on: route.goes_on, policy: Arc::new(policy), children })
    }

    /// Whether the alert goes down here.
    fn collect<'a>(&'a self, labels: &Labels, found: &mut Vec<&'a Arc<Policy>>) -> bool {
        if !self.matchers.matches(labels) {
            return false;
        }
        let before = found.len();
        for child in &self.children {
            if child.collect(labels, found) && !child.goes_on {
                break;
            }
        }
        if found.len() == before {
            found.push(&self.policy);
        }
        true
    }
}

impl Policy {
    fn of(route: &Route, parent: &Self, matchers: &Matchers) -> Self {
        let matchers: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        let matchers = format!("{{{}}}", matchers.join(","));
        let ms = |own: Option<Span>, inherited: u64| own.map_or(inherited, Span::as_ms);
        Self {
            key: if parent.key.is_empty() { matchers } else { format!("{}/{matchers}", parent.key) },
            receivers: route
                .receiver
                .as_ref()
                .map_or_else(|| parent.receivers.clone(), |name| vec![name.clone()]),
            group_by: route.group_by.clone().unwrap_or_else(|| parent.group_by.clone()),
            timing: Timing {
                group_wait_ms: ms(route.group_wait, parent.timing.group_wait_ms),
                group_interval_ms: ms(route.group_interval, parent.timing.group_interval_ms),
                repeat_interval_ms: ms(route.repeat_interval, parent.timing.repeat_interval_ms),
            },
        }
    }

    /// Those of an alert's labels by which it is grouped. One that it lacks is left out.
    #[must_use]
    pub fn group_labels(&self, labels: &Labels) -> Labels {
        if self.group_by.iter().any(|name| name == ALL_LABELS) {
            return labels.clone();
        }
        let named = self.group_by.iter().filter_map(|name| Some((name.clone(), labels.get(name)?.clone())));
        named.collect::<BTreeMap<_, _>>()
    }

    /// Identifies a group to its receivers, as Alertmanager writes it: `{}:{alertname="HighErrorRate"}`.
    #[must_use]
    pub fn group_key(&self, group_labels: &Labels) -> String {
        let pairs: Vec<String> = group_labels
            .iter()
            .map(|(name, value)| format!("{name}={}", serde_json::Value::from(value.as_str())))
            .collect();
        format!("{}:{{{}}}", self.key, pairs.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        text.split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect()
    }

    fn routes(text: &str) -> Routes {
        let route = toml::from_str(text).unwrap();
        Routes::of(&NotifyConfig::for_tests(&["ops", "pager", "dba"], route)).unwrap()
    }

    fn told(routes: &Routes, text: &str) -> Vec<String> {
        let mut told: Vec<String> =
            routes.matching(&labels(text)).iter().flat_map(|policy| policy.receivers.clone()).collect();
        told.sort();
        told
    }

    #[test]
    fn without_routes_everybody_is_told() {
        let routes = routes("");
        assert_eq!(told(&routes, "alertname=A"), ["dba", "ops", "pager"]);
        let policy = routes.matching(&labels("alertname=A"))[0];
        assert_eq!(
            policy.group_key(&policy.group_labels(&labels("alertname=A service_name=b x=y"))),
            "{}:{alertname=\"A\", service_name=\"b\"}"
        );
    }

    #[test]
    fn children_come_first_and_continue_goes_on() {
        let routes = routes(
            r#"
            receiver = "ops"
            [[routes]]
            matchers = ['severity="critical"']
            receiver = "pager"
            continue = true
            group_wait = "10s"
            [[routes]]
            matchers = ['team="db"']
            receiver = "dba"
            [[routes.routes]]
            matchers = ['night="yes"']
            group_by = ["..."]
            "#,
        );
        for (alert, expected) in [
            ("a=b", &["ops"][..]),
            ("severity=critical", &["pager"]),
            ("severity=critical team=db", &["dba", "pager"]),
            ("team=db", &["dba"]),
            ("team=db night=yes", &["dba"]),
        ] {
            assert_eq!(told(&routes, alert), expected, "{alert}");
        }
        let night = labels("team=db night=yes");
        let policy = routes.matching(&night)[0];
        assert_eq!(
            policy.group_key(&policy.group_labels(&night)),
            "{}/{team=\"db\"}/{night=\"yes\"}:{night=\"yes\", team=\"db\"}"
        );
        assert_eq!(routes.matching(&labels("severity=critical"))[0].timing.group_wait_ms, 10_000);
    }
}
