//! `keelson rules test`: the tests that stand in a rule file, run here; or its rules against the past, which a running Keelson knows.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use keelson_alerting::rule_tests::{TestOutcome, run_tests};
use keelson_alerting::rules::{RuleError, RuleSet, Source};
use keelson_schemas::alerting::{Backtest, TimeAxis};
use serde_json::{Value, json};

use super::{backtest, read, tell_errors};
use crate::client::{Client, ClientArgs};
use crate::global::Global;
use crate::output::{Exit, say, show};
use crate::time::{milliseconds, moment_or_ago};

/// `keelson rules test`
#[derive(Debug, Args)]
pub struct Test {
    /// The rule file [default with a time: the rules that run]
    #[arg(value_name = "FILE", required_unless_present_any = ["since", "until", "by"])]
    file: Option<PathBuf>,
    /// From when on: 2026-01-31T12:00:00Z, 2026-01-31, or how long ago: 2h [default: as far back as there is something]
    #[arg(long, value_name = "WHEN", value_parser = point)]
    since: Option<Timestamp>,
    /// Up to when [default: now]
    #[arg(long, value_name = "WHEN", value_parser = point)]
    until: Option<Timestamp>,
    /// By when it happened, or by when it became known: what would have been notified then [default: event]
    #[arg(long, value_name = "TIME")]
    by: Option<By>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// When it happened.
    Event,
    /// When it became known.
    Arrival,
}

impl Test {
    /// Runs the command.
    ///
    /// # Errors
    /// When the file cannot be read, or Keelson cannot be reached or refuses.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let source = self.file.as_deref().map(read).transpose()?;
        let of_the_past = self.since.is_some() || self.until.is_some() || self.by.is_some();
        match source {
            Some(source) if !of_the_past => self.here(&source),
            source => self.of_the_past(source, global).await,
        }
    }

    fn here(&self, source: &Source) -> anyhow::Result<Exit> {
        let outcomes = match run_tests(source) {
            Ok(outcomes) => outcomes,
            Err(errors) => return Ok(tell_errors(&lines(&errors))),
        };
        show(self.json, &outcomes.iter().map(as_json).collect::<Vec<_>>(), |_| tell(source, &outcomes))?;
        let failed = outcomes.iter().any(|outcome| !outcome.failures.is_empty());
        Ok(match (outcomes.is_empty(), failed) {
            (true, _) => Exit::Findings,
            (_, true) => Exit::Failed,
            _ => Exit::Done,
        })
    }

    /// Errors are told from here, with the file's name, and not from the worker, which only knows the text.
    async fn of_the_past(self, source: Option<Source>, global: &Global) -> anyhow::Result<Exit> {
        if let Some(source) = &source
            && let Err(errors) = RuleSet::parse(std::slice::from_ref(source), &[], false)
        {
            return Ok(tell_errors(&lines(&errors)));
        }
        let command = Backtest {
            rules: source.map(|source| source.text),
            since_ms: self.since.map(milliseconds),
            until_ms: self.until.map(milliseconds),
            by: self.by.map_or(TimeAxis::Event, By::axis),
        };
        let report = backtest::run(&Client::new(&self.client, global)?, &command).await?;
        show(self.json, &report, backtest::tell)
    }
}

impl By {
    fn axis(self) -> TimeAxis {
        match self {
            Self::Event => TimeAxis::Event,
            Self::Arrival => TimeAxis::Arrival,
        }
    }
}

fn point(text: &str) -> Result<Timestamp, String> {
    moment_or_ago(text, Timestamp::now())
}

fn lines(errors: &[RuleError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn tell(source: &Source, outcomes: &[TestOutcome]) {
    if outcomes.is_empty() {
        let file = Path::new(&source.name).display();
        say(&format!("{file} has no [[tests]]; with --since its rules are tried against the past"));
    }
    for outcome in outcomes {
        let verdict = if outcome.failures.is_empty() { "ok  " } else { "FAIL" };
        say(&format!("{verdict}  {}:{}  {}", source.name, outcome.line, outcome.name));
        outcome.failures.iter().for_each(|failure| say(&format!("      {failure}")));
    }
}

fn as_json(outcome: &TestOutcome) -> Value {
    let passed = outcome.failures.is_empty();
    json!({"name": outcome.name, "line": outcome.line, "passed": passed, "failures": outcome.failures})
}
