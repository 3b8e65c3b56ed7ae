//! Unit tests of rules: `[[tests]]` in a rule file.
//!
//! ```toml
//! [[tests]]
//! name = "one in ten is too many"
//! [[tests.input]]                     # a request (or, with namespace or operation, a database call; with signal, a reading)
//! every = "1s"
//! times = 60
//! service = "web"
//! status = 500
//! count = 2
//! [[tests.expect]]
//! at = "1m"
//! firing = ['HighErrorRate{service_name="web"}']   # these and no others
//! ```

mod expect;
mod input;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::expect::{Expectation, RawExpect};
use self::input::{Input, RawInput};
use crate::evaluate::Evaluator;
use crate::rules::document::{Document, Entry};
use crate::rules::{RuleError, RuleSet, Source};

/// Unix milliseconds at which every test begins.
const BEGIN_MS: u64 = 1_764_000_000_000;

/// How a test of a rule file ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestOutcome {
    /// Its name.
    pub name: String,
    /// The line of its file at which it stands.
    pub line: usize,
    /// What was otherwise than expected; empty when it passed.
    pub failures: Vec<String>,
}

/// Runs the tests of a rule file over the rules of that file.
///
/// # Errors
/// All that is wrong with the rules or the tests.
pub fn run_tests(source: &Source) -> Result<Vec<TestOutcome>, Vec<RuleError>> {
    let rules = RuleSet::parse(std::slice::from_ref(source), &[], false);
    let tests = read(source);
    match (rules, tests) {
        (Ok(rules), Ok(tests)) => {
            let rules = Arc::new(rules);
            Ok(tests.into_iter().map(|test| test.run(Arc::clone(&rules))).collect())
        }
        // A text that is no TOML is told once.
        (Err(errors), Err(others)) if errors == others => Err(errors),
        (rules, tests) => {
            let mut errors = rules.err().unwrap_or_default();
            errors.extend(tests.err().unwrap_or_default());
            Err(errors)
        }
    }
}

/// A test that can be run.
struct Test {
    name: String,
    line: usize,
    inputs: Vec<Input>,
    /// In the order of their times.
    expectations: Vec<Expectation>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawTest {
    name: String,
}

fn read(source: &Source) -> Result<Vec<Test>, Vec<RuleError>> {
    let document = Document::parse(source)?;
    let entries = document.entries("tests").map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    let tests: Vec<Test> = entries.iter().map(|entry| Test::read(entry, &mut errors)).collect();
    if errors.is_empty() { Ok(tests) } else { Err(errors) }
}

/// Reads each table of an array in a test.
fn read_each<R, T>(
    test: &Entry<'_>,
    name: &str,
    errors: &mut Vec<RuleError>,
    check: impl Fn(R) -> Result<T, (&'static str, String)>,
) -> Vec<T>
where
    R: serde::de::DeserializeOwned + Default,
{
    let entries = test.entries(name).unwrap_or_else(|error| {
        errors.push(error);
        Vec::new()
    });
    let mut good = Vec::new();
    for entry in entries {
        let read = entry.read::<R>(&[]);
        let is_whole = read.errors.is_empty();
        errors.extend(read.errors);
        match check(read.value) {
            Ok(value) => good.push(value),
            Err((key, message)) if is_whole => errors.push(entry.error(key, message)),
            Err(_) => {}
        }
    }
    good
}

impl Test {
    fn read(entry: &Entry<'_>, errors: &mut Vec<RuleError>) -> Self {
        let own = entry.read::<RawTest>(&["input", "expect"]);
        errors.extend(own.errors);
        if own.value.name.is_empty() && own.broken.is_empty() {
            errors.push(entry.error("name", "a test needs a name"));
        }
        let inputs = read_each(entry, "input", errors, |raw: RawInput| raw.check());
        let mut expectations = read_each(entry, "expect", errors, |raw: RawExpect| raw.check());
        expectations.sort_by_key(|expectation| expectation.after_ms);
        Self { name: own.value.name, line: entry.line(), inputs, expectations }
    }

    fn run(self, rules: Arc<RuleSet>) -> TestOutcome {
        let mut times: Vec<(u64, &Input)> = self
            .inputs
            .iter()
            .flat_map(|input| input.times_ms().map(move |after_ms| (after_ms, input)))
            .collect();
        times.sort_by_key(|(after_ms, _)| *after_ms);
        let mut times = times.into_iter().peekable();
        let mut evaluator = Evaluator::new(rules, Vec::new());
        let mut failures = Vec::new();
        for expectation in &self.expectations {
            while let Some((after_ms, input)) =
                times.next_if(|(after_ms, _)| *after_ms <= expectation.after_ms)
            {
                evaluator.play_until(BEGIN_MS + after_ms - 1, |_| {});
                input.feed(&mut evaluator, BEGIN_MS + after_ms);
            }
            evaluator.play_until(BEGIN_MS + expectation.after_ms, |_| {});
            failures.extend(expectation.failures(evaluator.alerts()));
        }
        TestOutcome { name: self.name, line: self.line, failures }
    }
}

/// A duration of a test; nothing for a text that is left out.
fn span_ms(key: &'static str, text: &str) -> Result<u64, (&'static str, String)> {
    if text.is_empty() {
        return Ok(0);
    }
    let span = humantime::parse_duration(text).map_err(|error| error.to_string());
    let span_ms = span.and_then(|span| u64::try_from(span.as_millis()).map_err(|error| error.to_string()));
    match span_ms {
        Ok(span_ms) if span_ms <= 366 * 24 * 3_600_000 => Ok(span_ms),
        Ok(_) => Err((key, "is longer than a year".into())),
        Err(error) => Err((key, format!("{text:?} is no duration ({error}); write 90s, 5m, 1h 30m"))),
    }
}
