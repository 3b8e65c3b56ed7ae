//! `keelson rules`: are they right, which run, and what would they have said.

mod backtest;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use keelson_alerting::config::AlertingConfig;
use keelson_alerting::rules::{RuleSet, Source};
use keelson_alerting::{Alerting, loaded};
use keelson_kit::config::ConfigSource;
use keelson_schemas::alerting::{Rule, Rules};
use reqwest::Method;
use serde_json::json;

use crate::alerts::name;
use crate::client::{Client, ClientArgs};
use crate::global::Global;
use crate::output::{Exit, complain, point_out, say, say_table, show};
use crate::watch;

const PATH: &str = "/api/monitoring/rules";

const EXAMPLES: &str = "\
Examples:
  keelson rules check rules/web.toml          nothing need run; without a file, those that keelson.toml names
  keelson rules test rules/web.toml           runs the [[tests]] in the file
  keelson rules test rules/web.toml --since 2h
  keelson rules test --since 2026-01-31 --until 2026-02-01 --by arrival --json
  keelson rules list
  keelson rules reload

Exit code of check and test: 0 all is well, 1 a test failed, 2 there are errors in the rules.";

/// `keelson rules`
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// Check rule files: every error at once, each with its line and key
    #[command(after_help = EXAMPLES)]
    Check(Check),
    /// List the rules that run
    List(List),
    /// Run the tests in a rule file; or, with a time, say what its rules would have said about the past
    #[command(after_help = EXAMPLES)]
    Test(trial::Test),
    /// Read the rules again; with an error in them, those that run stay
    Reload(Reload),
}

/// `keelson rules check`
#[derive(Debug, Args)]
pub struct Check {
    /// The files [default: the rules in keelson.toml and the files that it names]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// `keelson rules list`
#[derive(Debug, Args)]
pub struct List {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson rules reload`
#[derive(Debug, Args)]
pub struct Reload {
    #[command(flatten)]
    client: ClientArgs,
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// When a file cannot be read, or Keelson cannot be reached or refuses.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        match self {
            Self::Check(check) => check.run(global),
            Self::List(list) => list.run(global).await,
            Self::Test(test) => test.run(global).await,
            Self::Reload(reload) => reload.run(global).await,
        }
    }
}

impl Check {
    fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let checked = if self.files.is_empty() { configured(global)? } else { of_files(&self.files)? };
        match checked {
            Ok(rules) => {
                say(&format!("{} rules, and nothing is wrong with them", rules.rules().len()));
                Ok(Exit::Done)
            }
            Err(errors) => Ok(tell_errors(&errors)),
        }
    }
}

/// The rules of keelson.toml and of the files that it names, with the shipped ones if they are to run.
fn configured(global: &Global) -> anyhow::Result<Result<RuleSet, Vec<String>>> {
    let config = global.config(Vec::new())?;
    let source = ConfigSource::new(crate::roles::ROLES, config.inputs().clone());
    let section: AlertingConfig = source.read::<Alerting>()?;
    Ok(loaded::rules(&section, &source.dir()))
}

fn of_files(files: &[PathBuf]) -> anyhow::Result<Result<RuleSet, Vec<String>>> {
    let sources: Vec<Source> = files.iter().map(|file| read(file)).collect::<anyhow::Result<_>>()?;
    let rules = RuleSet::parse(&sources, &[], false);
    Ok(rules.map_err(|errors| errors.iter().map(ToString::to_string).collect()))
}

fn read(file: &Path) -> anyhow::Result<Source> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Source { name: file.display().to_string(), text })
}

fn tell_errors(errors: &[String]) -> Exit {
    errors.iter().for_each(|error| point_out(error));
    Exit::Usage
}

impl List {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let rules: Rules = Client::new(&self.client, global)?.get(PATH, &[]).await?;
        show(self.json, &rules, tell)?;
        if rules.errors.is_empty() {
            return Ok(Exit::Done);
        }
        complain("the rules were changed since and are wrong; those above run on:");
        rules.errors.iter().for_each(|error| complain(&format!("  {error}")));
        Ok(Exit::Findings)
    }
}

fn tell(rules: &Rules) {
    if rules.rules.is_empty() {
        return say("there are no rules");
    }
    let columns = ["name", "state", "series", "condition", "source"];
    say_table(columns, rules.rules.iter().map(row));
}

fn row(rule: &Rule) -> [String; 5] {
    let more = if rule.overflow > 0 { format!(" and {} together", rule.overflow) } else { String::new() };
    [
        rule.name.clone(),
        name(rule.state),
        format!("{}{more}", rule.series),
        rule.condition.clone(),
        rule.source.clone(),
    ]
}

impl Reload {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let ended =
            watch::obeyed(&client, Method::POST, &format!("{PATH}/reload"), &json!({}), |_| Ok(())).await?;
        match watch::outcome(ended) {
            Ok(_) => {
                say("the rules were read again");
                Ok(Exit::Done)
            }
            Err(error) => {
                complain("the rules are wrong; those that run stay:");
                error.to_string().lines().for_each(|line| complain(&format!("  {line}")));
                Ok(Exit::Failed)
            }
        }
    }
}
