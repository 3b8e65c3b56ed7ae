//! Rules: as they are written, checked, and as they take effect.

mod compile;
pub(crate) mod document;
mod error;
mod raw;
mod rule;
pub mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use self::compile::{Problem, compile};
use self::document::{Document, Entry};
pub use self::error::RuleError;
pub use self::raw::RawRule;
pub use self::rule::{NoData, Rule, Side, Threshold};

/// How errors and rules name keelson.toml.
const INLINE: &str = "keelson.toml";
/// How errors and rules name the rules that Keelson ships with.
const DEFAULT: &str = "default";

/// A rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// How errors name it: its path.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// Rules in which nothing is wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    rules: Vec<Arc<Rule>>,
}

impl RuleSet {
    /// The rules of keelson.toml and of files, with or without those that Keelson ships with. A rule of one's own replaces the shipped one of its name.
    ///
    /// # Errors
    /// All that is wrong, in all sources.
    pub fn parse(sources: &[Source], inline: &[RawRule], defaults: bool) -> Result<Self, Vec<RuleError>> {
        let mut reading = Reading::default();
        inline.iter().enumerate().for_each(|(index, raw)| reading.take_inline(index, raw));
        sources.iter().for_each(|source| reading.take_file(source));
        if defaults {
            reading.take_defaults();
        }
        let Reading { rules, errors } = reading;
        if errors.is_empty() { Ok(Self { rules }) } else { Err(errors) }
    }

    /// The rules that look at telemetry, and the names of the others.
    #[must_use]
    pub fn over_telemetry(&self) -> (Self, Vec<String>) {
        let is_over_telemetry = |rule: &&Arc<Rule>| rule.signal.source != crate::signal::Source::Reading;
        let (kept, left): (Vec<_>, Vec<_>) = self.rules.iter().partition(is_over_telemetry);
        let names = left.into_iter().map(|rule| rule.name.clone()).collect();
        (Self { rules: kept.into_iter().cloned().collect() }, names)
    }

    /// How far back the rule looks that looks furthest; zero without rules.
    #[must_use]
    pub fn longest_window(&self) -> Duration {
        self.rules.iter().map(|rule| rule.window()).max().unwrap_or_default()
    }

    /// The rules, in the order in which they stand.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }
}

/// What was read up to now.
#[derive(Default)]
struct Reading {
    rules: Vec<Arc<Rule>>,
    errors: Vec<RuleError>,
}

impl Reading {
    fn take_inline(&mut self, index: usize, raw: &RawRule) {
        let place = |problem: Problem| RuleError {
            source: INLINE.to_owned(),
            line: None,
            key: format!("rules[{index}].{}", problem.key),
            message: problem.message,
        };
        match compile(raw, INLINE) {
            Ok(rule) => self.add(rule, place),
            Err(problems) => self.errors.extend(problems.into_iter().map(place)),
        }
    }

    fn take_file(&mut self, source: &Source) {
        let document = match Document::parse(source) {
            Ok(document) => document,
            Err(errors) => return self.errors.extend(errors),
        };
        self.errors.extend(document.unknown_keys(&["rules", "tests"]));
        match document.entries("rules") {
            Ok(entries) => entries.iter().for_each(|entry| self.take_entry(entry, &source.name)),
            Err(error) => self.errors.push(error),
        }
    }

    fn take_entry(&mut self, entry: &Entry<'_>, source: &str) {
        let read = entry.read::<RawRule>(&[]);
        let mut errors = read.errors;
        let place = |problem: Problem| entry.error(&problem.key, problem.message);
        match compile(&read.value, source) {
            Ok(rule) if errors.is_empty() => self.add(rule, place),
            Ok(_) => {}
            Err(problems) => {
                let own = problems.into_iter().filter(|problem| !concerns(&problem.key, &read.broken));
                errors.extend(own.map(place));
            }
        }
        errors.sort_by_key(|error| error.line);
        self.errors.extend(errors);
    }

    /// Adds a rule, if its alerts can be told from those of all others.
    fn add(&mut self, rule: Rule, place: impl Fn(Problem) -> RuleError) {
        match self.rules.iter().find(|other| rule.may_coincide(other)) {
            None => self.rules.push(Arc::new(rule)),
            Some(other) => {
                let message = format!(
                    "a rule in {} has this name and the same severity and labels, so that their alerts could not be told apart",
                    other.source
                );
                self.errors.push(place(Problem { key: "name".into(), message }));
            }
        }
    }

    fn take_defaults(&mut self) {
        let shipped =
            Source { name: DEFAULT.to_owned(), text: include_str!("rules/default.toml").to_owned() };
        let mut defaults = Self::default();
        defaults.take_file(&shipped);
        let named = |name: &str| self.rules.iter().any(|rule| rule.name == name);
        let more: Vec<_> = defaults.rules.into_iter().filter(|rule| !named(&rule.name)).collect();
        self.rules.extend(more);
        self.errors.extend(defaults.errors);
    }
}

/// Whether a problem is only what comes of a key that could not be read.
fn concerns(key: &str, broken: &[String]) -> bool {
    let first = key.split(['.', '[']).next().unwrap_or_default();
    // A threshold that could not be read is not missing.
    broken.iter().any(|broken| broken == first || (first == "above" && broken == "below"))
}
