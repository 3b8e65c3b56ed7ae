//! The filters of Alertmanager's lists, as they stand in a query string.

use keelson_kit::matcher::{MatcherError, Matchers, whole};
use keelson_schemas::alerting::{Alert, AlertView, Matcher, Silence};
use regex::Regex;
use url::form_urlencoded;

/// Filters in one query.
const MAX_MATCHERS: usize = 100;

/// Why a matcher or an expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadMatcher(String);

impl BadMatcher {
    fn of(errors: Vec<MatcherError>) -> Self {
        let messages: Vec<String> = errors.into_iter().map(|error| error.message).collect();
        Self(messages.join("; "))
    }

    /// With this reason.
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// Which alerts are listed: `active`, `silenced`, `inhibited` (each true unless it is said to be false), `receiver` (a regular expression)
/// and any number of `filter` (a matcher each).
#[derive(Debug)]
pub struct AlertFilter {
    active: bool,
    silenced: bool,
    inhibited: bool,
    receiver: Option<Regex>,
    matchers: Matchers,
}

impl AlertFilter {
    /// The filter of a query string.
    ///
    /// # Errors
    /// When a matcher or an expression cannot be read.
    pub fn of(query: &str) -> Result<Self, BadMatcher> {
        let flag = |name| last(query, name).is_none_or(|value| is_true(&value));
        let receiver = last(query, "receiver").map(|pattern| expression(&pattern)).transpose()?;
        let matchers = Matchers::compile(&matchers(query)?).map_err(BadMatcher::of)?;
        Ok(Self {
            active: flag("active"),
            silenced: flag("silenced"),
            inhibited: flag("inhibited"),
            receiver,
            matchers,
        })
    }

    /// Whether an alert that fires is listed.
    #[must_use]
    pub fn admits(&self, view: &AlertView) -> bool {
        let suppressed = !view.silenced_by.is_empty() || !view.inhibited_by.is_empty();
        (self.active || suppressed)
            && (self.silenced || view.silenced_by.is_empty())
            && (self.inhibited || view.inhibited_by.is_empty())
            && self.admits_labels(&view.alert)
    }

    /// Whether one of these receivers is asked for.
    #[must_use]
    pub fn admits_receiver<'a>(&self, mut receivers: impl Iterator<Item = &'a str>) -> bool {
        self.receiver.as_ref().is_none_or(|wanted| receivers.any(|receiver| wanted.is_match(receiver)))
    }

    fn admits_labels(&self, alert: &Alert) -> bool {
        self.matchers.matches(&alert.labels)
    }
}

/// Which silences are listed: those that have every matcher of the query, word for word.
#[derive(Debug)]
pub struct SilenceFilter(Vec<Matcher>);

impl SilenceFilter {
    /// The filter of a query string.
    ///
    /// # Errors
    /// When a matcher cannot be read.
    pub fn of(query: &str) -> Result<Self, BadMatcher> {
        matchers(query).map(Self)
    }

    /// Whether a silence is listed.
    #[must_use]
    pub fn admits(&self, silence: &Silence) -> bool {
        self.0.iter().all(|wanted| silence.matchers.contains(wanted))
    }
}

fn matchers(query: &str) -> Result<Vec<Matcher>, BadMatcher> {
    let texts: Vec<String> = values(query, "filter").collect();
    if texts.len() > MAX_MATCHERS {
        return Err(BadMatcher::new(format!("a query has at most {MAX_MATCHERS} filters")));
    }
    texts.iter().map(|text| text.parse().map_err(|error| BadMatcher(format!("{error}")))).collect()
}

/// An expression that has to match all of a value.
fn expression(pattern: &str) -> Result<Regex, BadMatcher> {
    whole(pattern).map_err(|error| BadMatcher(format!("{pattern:?} is no regular expression: {error}")))
}

fn values(query: &str, name: &'static str) -> impl Iterator<Item = String> {
    form_urlencoded::parse(query.as_bytes())
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

fn last(query: &str, name: &'static str) -> Option<String> {
    values(query, name).last()
}

/// What the Go library behind Alertmanager takes for true; all else is false.
fn is_true(value: &str) -> bool {
    let words = ["true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled"];
    words.iter().any(|word| value.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use keelson_schemas::alerting::Alerts;
    use keelson_schemas::message::Message;

    use super::*;

    fn view(silenced: bool, inhibited: bool) -> AlertView {
        let of = |yes: bool| if yes { vec!["x".to_owned()] } else { Vec::new() };
        let view = Alerts::example().alerts.remove(0);
        AlertView { silenced_by: of(silenced), inhibited_by: of(inhibited), ..view }
    }

    #[test]
    fn states_are_admitted_as_alertmanager_does() {
        let cases = [
            // query                           plain  silenced inhibited both
            ("", [true, true, true, true]),
            ("active=false", [false, true, true, true]),
            ("active=maybe", [false, true, true, true]),
            ("silenced=false", [true, false, true, false]),
            ("inhibited=false", [true, true, false, false]),
            ("active=true&silenced=false&inhibited=false&unprocessed=false", [true, false, false, false]),
            ("active=false&silenced=TRUE&inhibited=0", [false, true, false, false]),
        ];
        for (query, expected) in cases {
            let filter = AlertFilter::of(query).unwrap();
            let states = [(false, false), (true, false), (false, true), (true, true)];
            let admitted = states.map(|(silenced, inhibited)| filter.admits(&view(silenced, inhibited)));
            assert_eq!(admitted, expected, "{query}");
        }
    }

    #[test]
    fn matchers_are_asked_of_the_labels() {
        let cases = [
            ("filter=service_name%3Dcontent", true),
            ("filter=service_name%3D%22content%22", true),
            ("filter=service_name%3Dcon", false),
            ("filter=service_name%3D~%22con.*%22", true),
            ("filter=service_name%3D~con", false),
            ("filter=service_name!~%22a|b%22", true),
            ("filter=service_name!=content", false),
            ("filter=team%3D", true),
            ("filter=team!=", false),
            ("filter=severity%3Dcritical&filter=service_name%3Dcontent", true),
            ("filter=severity%3Dcritical&filter=service_name%3Dvideo", false),
        ];
        for (query, expected) in cases {
            assert_eq!(AlertFilter::of(query).unwrap().admits(&view(false, false)), expected, "{query}");
        }
        let crowd = "filter=a%3Db&".repeat(MAX_MATCHERS + 1);
        for query in [
            "filter=bad",
            "filter=a%3D~%22(%22",
            "receiver=(",
            "receiver=a)(b",
            "filter=a%3D~(a{999}){999}",
            &crowd,
        ] {
            assert!(AlertFilter::of(query).is_err(), "{query}");
        }
    }

    #[test]
    fn receivers_are_matched_whole() {
        let admits = |query: &str, receivers: &[&str]| {
            AlertFilter::of(query).unwrap().admits_receiver(receivers.iter().copied())
        };
        assert!(admits("", &[]));
        assert!(admits("receiver=op.", &["pager", "ops"]));
        assert!(!admits("receiver=op", &["pager", "ops"]));
        assert!(!admits("receiver=ops", &[]));
    }

    #[test]
    fn silences_are_found_by_their_matchers_word_for_word() {
        let cases = [
            ("", true),
            ("filter=alertname%3DHighErrorRate", true),
            ("filter=alertname%3D~HighErrorRate", false),
            ("filter=alertname%3DHigh", false),
            ("filter=service_name!~%22con.*%22&filter=alertname%3D%22HighErrorRate%22", true),
            ("filter=alertname%3DHighErrorRate&filter=a%3Db", false),
        ];
        for (query, expected) in cases {
            assert_eq!(SilenceFilter::of(query).unwrap().admits(&Silence::example()), expected, "{query}");
        }
        assert!(SilenceFilter::of("filter=bad").is_err());
    }
}
