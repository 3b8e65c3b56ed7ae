//! Inhibition: alerts that keep others from being notified while they fire.

use std::collections::{BTreeMap, BTreeSet};

use keelson_schemas::alerting::{Alert, AlertState, Labels};

use super::config::Inhibit;
use keelson_kit::matcher::Matchers;

/// The rules, and what fires that they make a source of.
#[derive(Debug, Default)]
pub struct Inhibitor {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    source: Matchers,
    target: Matchers,
    equal: Vec<String>,
    /// Firing sources, by their values of `equal`.
    firing: BTreeMap<Vec<String>, Sources>,
}

/// Fingerprints of firing sources. One that is a target too does not inhibit targets that are sources too: no two may keep each other quiet.
#[derive(Debug, Default)]
struct Sources {
    plain: BTreeSet<String>,
    targets_too: BTreeSet<String>,
}

impl Inhibitor {
    /// The rules of a configuration without errors.
    ///
    /// # Errors
    /// A matcher that cannot be read.
    pub fn of(config: &[Inhibit]) -> anyhow::Result<Self> {
        let parse = |texts: &[String]| {
            Matchers::parse(texts).map_err(|errors| anyhow::anyhow!("an inhibition's matchers: {errors:?}"))
        };
        let rule = |inhibit: &Inhibit| {
            anyhow::Ok(Rule {
                source: parse(&inhibit.source)?,
                target: parse(&inhibit.target)?,
                equal: inhibit.equal.clone(),
                firing: BTreeMap::new(),
            })
        };
        Ok(Self { rules: config.iter().map(rule).collect::<Result<_, _>>()? })
    }

    /// Notes how an alert stands.
    pub fn observe(&mut self, alert: &Alert) {
        let fires = alert.state == AlertState::Firing;
        for rule in self.rules.iter_mut().filter(|rule| rule.source.matches(&alert.labels)) {
            let is_target = rule.target.matches(&alert.labels);
            let key = values(&rule.equal, &alert.labels);
            let sources = rule.firing.entry(key.clone()).or_default();
            let set = if is_target { &mut sources.targets_too } else { &mut sources.plain };
            if fires {
                set.insert(alert.fingerprint.clone());
            } else {
                set.remove(&alert.fingerprint);
            }
            if sources.plain.is_empty() && sources.targets_too.is_empty() {
                rule.firing.remove(&key);
            }
        }
    }

    /// The fingerprints of those that keep an alert with these labels quiet.
    #[must_use]
    pub fn inhibiting(&self, labels: &Labels) -> BTreeSet<String> {
        self.sources(labels).cloned().collect()
    }

    /// Whether an alert with these labels is kept quiet.
    #[must_use]
    pub fn inhibits(&self, labels: &Labels) -> bool {
        self.sources(labels).next().is_some()
    }

    fn sources<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a String> {
        self.rules.iter().filter(|rule| rule.target.matches(labels)).flat_map(|rule| {
            let firing = rule.firing.get(&values(&rule.equal, labels));
            let both = firing.filter(|_| !rule.source.matches(labels)).map(|sources| &sources.targets_too);
            firing.into_iter().flat_map(|sources| &sources.plain).chain(both.into_iter().flatten())
        })
    }
}

/// A label that is missing is one with an empty value.
fn values(names: &[String], labels: &Labels) -> Vec<String> {
    names.iter().map(|name| labels.get(name).cloned().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::testing::{firing, resolved};

    fn inhibitor(source: &str, target: &str, equal: &str) -> Inhibitor {
        let equal = equal.split_whitespace().map(str::to_owned).collect();
        let inhibit = Inhibit { source: vec![source.into()], target: vec![target.into()], equal };
        Inhibitor::of(&[inhibit]).unwrap()
    }

    #[test]
    fn a_source_inhibits_targets_that_agree_with_it_while_it_fires() {
        let mut inhibitor = inhibitor("severity=critical", "severity=warning", "service_name zone");
        let critical = firing("alertname=Down severity=critical service_name=web");
        inhibitor.observe(&critical);
        for (alert, expected) in [
            ("alertname=Slow severity=warning service_name=web", true),
            ("alertname=Slow severity=warning service_name=web zone=a", false),
            ("alertname=Slow severity=warning service_name=db", false),
            ("alertname=Slow severity=info service_name=web", false),
            ("alertname=Down severity=critical service_name=web", false),
        ] {
            assert_eq!(inhibitor.inhibits(&firing(alert).labels), expected, "{alert}");
        }
        let target = firing("severity=warning service_name=web").labels;
        assert_eq!(inhibitor.inhibiting(&target), [critical.fingerprint].into());
        inhibitor.observe(&resolved("alertname=Down severity=critical service_name=web"));
        assert!(!inhibitor.inhibits(&target));
    }

    #[test]
    fn two_that_are_source_and_target_do_not_keep_each_other_quiet() {
        let mut inhibitor = inhibitor("service_name=web", "service_name=~.+", "");
        let (one, other) = (firing("alertname=A service_name=web"), firing("alertname=B service_name=web"));
        inhibitor.observe(&one);
        inhibitor.observe(&other);
        assert!(!inhibitor.inhibits(&one.labels) && !inhibitor.inhibits(&other.labels));
        assert!(inhibitor.inhibits(&firing("alertname=C service_name=db").labels));
    }
}
