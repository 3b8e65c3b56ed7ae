//! What a test expects at a time.

use keelson_schemas::alerting::{Alert, AlertState};
use serde::Deserialize;

use super::span_ms;
use keelson_kit::matcher::Matchers;

/// `[[tests.expect]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawExpect {
    /// How long after the beginning.
    at: String,
    /// What fires then, and nothing else: `HighErrorRate{service_name="web"}`.
    firing: Option<Vec<String>>,
    /// What is pending then, and nothing else.
    pending: Option<Vec<String>>,
}

/// What is expected at a time.
pub(super) struct Expectation {
    /// Milliseconds after the beginning.
    pub after_ms: u64,
    at: String,
    /// By state; those that are not asked about are left out.
    alerts: Vec<(AlertState, Vec<Expected>)>,
}

/// An alert by its name and some of its labels.
struct Expected {
    text: String,
    name: String,
    labels: Matchers,
}

impl RawExpect {
    pub fn check(self) -> Result<Expectation, (&'static str, String)> {
        let after_ms = span_ms("at", &self.at)?;
        let mut alerts = Vec::new();
        for (key, state, texts) in
            [("firing", AlertState::Firing, self.firing), ("pending", AlertState::Pending, self.pending)]
        {
            let Some(texts) = texts else { continue };
            let expected: Result<Vec<_>, String> = texts.into_iter().map(Expected::parse).collect();
            alerts.push((state, expected.map_err(|message| (key, message))?));
        }
        if alerts.is_empty() {
            return Err(("firing", "says what is expected; firing = [] if nothing is".into()));
        }
        Ok(Expectation { after_ms, at: self.at, alerts })
    }
}

impl Expectation {
    /// What is otherwise than expected.
    pub fn failures<'a>(&self, alerts: impl Iterator<Item = &'a Alert>) -> Vec<String> {
        let alerts: Vec<&Alert> = alerts.collect();
        let differs = self.alerts.iter().filter_map(|(state, expected)| {
            let found: Vec<&Alert> = alerts.iter().copied().filter(|alert| alert.state == *state).collect();
            let is_met = expected.iter().all(|expected| found.iter().any(|alert| expected.is(alert)))
                && found.iter().all(|alert| expected.iter().any(|expected| expected.is(alert)));
            (!is_met).then(|| self.failure(*state, expected, &found))
        });
        differs.collect()
    }

    fn failure(&self, state: AlertState, expected: &[Expected], found: &[&Alert]) -> String {
        let expected: Vec<&str> = expected.iter().map(|expected| expected.text.as_str()).collect();
        let found: Vec<String> = found.iter().map(|alert| shown(alert)).collect();
        let state = if state == AlertState::Firing { "firing" } else { "pending" };
        let list = |names: String| if names.is_empty() { "nothing".to_owned() } else { names };
        let (expected, found) = (list(expected.join(", ")), list(found.join(", ")));
        format!("at {}: expected {state} {expected}; found {found}", self.at)
    }
}

impl Expected {
    fn parse(text: String) -> Result<Self, String> {
        let (name, labels) = match text.split_once('{') {
            None => (text.as_str(), ""),
            Some((name, rest)) => {
                let labels = rest
                    .strip_suffix('}')
                    .ok_or_else(|| format!("{text:?} has a brace that is not closed"))?;
                (name, labels)
            }
        };
        let labels = Matchers::parse(&apart(labels))
            .map_err(|errors| errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join("; "))?;
        Ok(Self { name: name.trim().to_owned(), labels, text })
    }

    fn is(&self, alert: &Alert) -> bool {
        alert.labels.get("alertname") == Some(&self.name) && self.labels.matches(&alert.labels)
    }
}

/// Matchers at their commas, but for those within quotes.
fn apart(text: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(|c: char| {
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        c == ',' && !quoted
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// An alert as it is written in an expectation.
fn shown(alert: &Alert) -> String {
    let name = alert.labels.get("alertname").map_or("", String::as_str);
    let labels = alert.labels.iter().filter(|(name, _)| name.as_str() != "alertname");
    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{name}{{{}}}", labels.join(", "))
}
