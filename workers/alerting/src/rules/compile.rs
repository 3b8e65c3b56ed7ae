//! From a rule as it is written to one that takes effect, with every error found at once.

use std::time::Duration;

use keelson_schemas::alerting::{Labels, Matcher};

use super::raw::RawRule;
use super::rule::{NoData, Rule, Side, Threshold};
use super::template::Template;
use crate::signal::{SIGNALS, Signal};
use keelson_kit::matcher::{MatcherError, Matchers};

/// Slices are kept this long, so a rule can look back no further after a restart.
const LONGEST_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// The longest that a condition may have to hold, or an alert go on.
const LONGEST_HOLD: Duration = Duration::from_secs(30 * 24 * 3600);
/// Labels that a rule does not give itself.
const RESERVED: [&str; 2] = ["alertname", "severity"];

/// One thing that is wrong with a rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The key within the rule: `where[0]`.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Checks a rule that stands in `source`.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn compile(raw: &RawRule, source: &str) -> Result<Rule, Vec<Problem>> {
    let mut problems = Problems::default();
    problems.check("name", name(raw));
    problems.check("severity", severity(raw));
    let signal = problems.check("signal", signal(raw));
    let by = signal.and_then(|signal| problems.check_all(by(raw, signal)));
    let filters = signal.and_then(|signal| problems.check_all(filters(raw, signal)));
    let threshold = problems.check_all(threshold(raw));
    let window_s = problems.check("window", window_s(raw, signal));
    let hold_ms = problems.check("for", span_ms(raw.hold.as_deref()));
    let keep_firing_ms = problems.check("keep_firing_for", span_ms(raw.keep_firing_for.as_deref()));
    let no_data = problems.check("no_data", no_data(raw));
    problems.check_all(own_labels(raw, by.as_deref().unwrap_or_default()));
    // What else is wrong does not keep templates from being checked, against all labels if need be.
    let annotations = signal.and_then(|signal| {
        let labels = by.as_deref().unwrap_or(signal.labels);
        let side = threshold.map_or(Side::Above, |threshold| threshold.side);
        problems.check_all(annotations(raw, signal, labels, side))
    });
    let complete = (|| {
        Some(Rule {
            name: raw.name.clone(),
            source: source.to_owned(),
            signal: signal?,
            by: by?,
            filters: filters?,
            window_s: window_s?,
            threshold: threshold?,
            hold_ms: hold_ms?,
            keep_firing_ms: keep_firing_ms?,
            min_samples: raw.min_samples.unwrap_or(0),
            no_data: no_data?,
            labels: labels(raw),
            annotations: annotations?,
        })
    })();
    complete.filter(|_| problems.0.is_empty()).ok_or(problems.0)
}

#[derive(Debug, Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn check<T>(&mut self, key: &str, result: Result<T, String>) -> Option<T> {
        self.check_all(result.map_err(|message| vec![Problem { key: key.to_owned(), message }]))
    }

    fn check_all<T>(&mut self, result: Result<T, Vec<Problem>>) -> Option<T> {
        result.map_err(|problems| self.0.extend(problems)).ok()
    }
}

fn problem(key: impl Into<String>, message: impl Into<String>) -> Problem {
    Problem { key: key.into(), message: message.into() }
}

fn name(raw: &RawRule) -> Result<(), String> {
    if raw.name.is_empty() { Err("a rule needs a name".into()) } else { Ok(()) }
}

fn severity(raw: &RawRule) -> Result<(), String> {
    if raw.severity.as_deref() == Some("") { Err("is empty".into()) } else { Ok(()) }
}

fn signal(raw: &RawRule) -> Result<&'static Signal, String> {
    Signal::named(&raw.signal).ok_or_else(|| {
        let known: Vec<_> = SIGNALS.iter().map(|signal| signal.name).collect();
        let said = if raw.signal.is_empty() {
            "is missing".into()
        } else {
            format!("{:?} is not known", raw.signal)
        };
        format!("{said}; the signals are {}", known.join(", "))
    })
}

fn lacks(signal: &Signal, label: &str) -> String {
    let has = if signal.labels.is_empty() { "none".to_owned() } else { signal.labels.join(", ") };
    format!("{} has no label {label:?}; it has {has}", signal.name)
}

fn by(raw: &RawRule, signal: &Signal) -> Result<Vec<&'static str>, Vec<Problem>> {
    let Some(names) = &raw.by else { return Ok(signal.by.to_vec()) };
    let (mut by, mut problems) = (Vec::new(), Vec::new());
    for (index, name) in names.iter().enumerate() {
        match signal.label(name) {
            Some(label) if !by.contains(&label) => by.push(label),
            Some(_) => {}
            None => problems.push(problem(format!("by[{index}]"), lacks(signal, name))),
        }
    }
    if problems.is_empty() { Ok(by) } else { Err(problems) }
}

fn filters(raw: &RawRule, signal: &Signal) -> Result<Matchers, Vec<Problem>> {
    let of_error = |error: MatcherError| problem(format!("where[{}]", error.index), error.message);
    let unreadable = Matchers::parse(&raw.filters).map_err(|errors| errors.into_iter().map(of_error));
    let names = raw.filters.iter().map(|text| text.parse::<Matcher>().map(|matcher| matcher.name));
    let unknown = names.enumerate().filter_map(|(index, name)| {
        let name = name.ok().filter(|name| signal.label(name).is_none())?;
        Some(problem(format!("where[{index}]"), lacks(signal, &name)))
    });
    let unknown: Vec<_> = unknown.collect();
    match unreadable {
        Ok(matchers) if unknown.is_empty() => Ok(matchers),
        Ok(_) => Err(unknown),
        Err(unreadable) => Err(unreadable.chain(unknown).collect()),
    }
}

fn threshold(raw: &RawRule) -> Result<Threshold, Vec<Problem>> {
    let (side, at) = match (raw.above, raw.below) {
        (Some(at), None) => (Side::Above, at),
        (None, Some(at)) => (Side::Below, at),
        (None, None) => return Err(vec![problem("above", "a rule needs a threshold, above or below")]),
        (Some(_), Some(_)) => {
            return Err(vec![problem("below", "a rule has one threshold, either above or below")]);
        }
    };
    let clear = raw.clear.unwrap_or(at);
    let threshold = Threshold { side, at, clear };
    if !at.is_finite() {
        Err(vec![problem(side.key(), "is no number")])
    } else if !clear.is_finite() || threshold.is_passed(clear) {
        let message = format!("is {clear}, and must be on the good side of the threshold {at}, or at it");
        Err(vec![problem("clear", message)])
    } else {
        Ok(threshold)
    }
}

fn window_s(raw: &RawRule, signal: Option<&Signal>) -> Result<u64, String> {
    let Some(text) = &raw.window else {
        return Ok(signal.map_or(60, Signal::default_window_s));
    };
    let window = duration(text)?;
    if window.subsec_nanos() != 0 || window.is_zero() || window > LONGEST_WINDOW {
        return Err(format!("is {text}, and must be whole seconds from 1s to 24h"));
    }
    Ok(window.as_secs())
}

fn span_ms(text: Option<&str>) -> Result<u64, String> {
    let span = text.map(duration).transpose()?.unwrap_or_default();
    if span > LONGEST_HOLD {
        return Err("is longer than 30days".into());
    }
    Ok(span.as_millis() as u64)
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is no duration ({error}); write 90s, 5m, 1h 30m"))
}

fn no_data(raw: &RawRule) -> Result<NoData, String> {
    match raw.no_data.as_deref() {
        None | Some("keep") => Ok(NoData::Keep),
        Some("alert") => Ok(NoData::Alert),
        Some("resolve") => Ok(NoData::Resolve),
        Some(other) => Err(format!("is {other:?}, and must be \"keep\", \"alert\" or \"resolve\"")),
    }
}

fn own_labels(raw: &RawRule, by: &[&str]) -> Result<(), Vec<Problem>> {
    let wrong = raw.labels.iter().filter_map(|(name, value)| {
        label_fault(name, value, by).map(|message| problem(format!("labels.{name}"), message))
    });
    let problems: Vec<_> = wrong.collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn label_fault(name: &str, value: &str, by: &[&str]) -> Option<String> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !(name.starts_with(first) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')) {
        return Some("a label's name is made of letters, digits and _, and begins with no digit".into());
    }
    match name {
        "alertname" => Some("the rule's name is given by the key name".into()),
        "severity" => Some("the severity is given by the key severity".into()),
        name if by.contains(&name) => Some("the rule looks at this label's values apart".into()),
        _ => value.is_empty().then(|| "is empty, which is the same as no label".into()),
    }
}

fn labels(raw: &RawRule) -> Labels {
    let severity = raw.severity.clone().unwrap_or_else(|| "warning".into());
    let given = RESERVED.map(str::to_owned).into_iter().zip([raw.name.clone(), severity]);
    raw.labels.clone().into_iter().chain(given).collect()
}

fn annotations(
    raw: &RawRule,
    signal: &Signal,
    by: &[&'static str],
    side: Side,
) -> Result<Vec<(&'static str, Template)>, Vec<Problem>> {
    let fields: Vec<&str> =
        RESERVED.into_iter().chain(by.iter().copied()).chain(raw.labels.keys().map(String::as_str)).collect();
    let summary = if raw.summary.is_empty() { plain_summary(signal, by, side) } else { raw.summary.clone() };
    let texts = [("summary", &summary), ("description", &raw.description), ("runbook_url", &raw.runbook_url)];
    let (mut annotations, mut problems) = (Vec::new(), Vec::new());
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        match Template::parse(text, &fields) {
            Ok(template) => annotations.push((name, template)),
            Err(message) => problems.push(problem(name, message)),
        }
    }
    if problems.is_empty() { Ok(annotations) } else { Err(problems) }
}

/// What an alert says whose rule does not: `{service_name}: average response time is {value}, above {threshold}`.
fn plain_summary(signal: &Signal, by: &[&str], side: Side) -> String {
    let things: Vec<String> = by.iter().map(|label| format!("{{{label}}}")).collect();
    let things = if things.is_empty() { String::new() } else { format!("{}: ", things.join(" ")) };
    format!("{things}{} is {{value}}, {} {{threshold}}", signal.meaning, side.key())
}
