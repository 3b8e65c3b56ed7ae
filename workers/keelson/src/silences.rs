//! `keelson silences`: alerts that nobody is to be told of for a while.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use keelson_schemas::alerting::{Matcher, SetSilence, Silence};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::{Client, ClientArgs, path_below};
use crate::global::Global;
use crate::output::{Exit, say, say_table, show};
use crate::time::{milliseconds, moment};
use crate::watch;

const PATH: &str = "/api/monitoring/silences";

const EXAMPLES: &str = "\
Examples:
  keelson silences add alertname=HighErrorRate service_name=content --duration 2h --comment 'the disk is being replaced'
  keelson silences add 'service_name=~con.*' --start 2026-01-31T22:00:00Z --until 2026-02-01T02:00:00Z
  keelson silences list
  keelson silences expire 0193a5f2-7c1e-7d3a-9f6b-2f4a1c0e8d11

A matcher is name=value, name!=value, name=~regex or name!~regex; an alert is silenced that all of them match.";

/// `keelson silences`
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// List silences: those that hold, those that will
    List(List),
    /// Make a silence and print its id
    #[command(after_help = EXAMPLES)]
    Add(Add),
    /// End silences now
    Expire(Expire),
}

/// `keelson silences list`
#[derive(Debug, Args)]
pub struct List {
    /// Also those that ended within the last days.
    #[arg(long)]
    expired: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson silences add`
#[derive(Debug, Args)]
pub struct Add {
    /// What is silenced; all must match.
    #[arg(required = true, value_name = "MATCHER")]
    matchers: Vec<Matcher>,
    /// How long it holds: 2h, 1d 12h.
    #[arg(long, value_name = "TIME", default_value = "1h", conflicts_with = "until", value_parser = duration)]
    duration: String,
    /// Up to when it holds: 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    until: Option<Timestamp>,
    /// From when it holds [default: now]
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    start: Option<Timestamp>,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// Who makes it [default: the name of the token]
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson silences expire`
#[derive(Debug, Args)]
pub struct Expire {
    /// Which, as `keelson silences list` names them.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Deserialize, Serialize)]
struct Page {
    silences: Vec<Shown>,
}

/// A silence as the API shows it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    silence: Silence,
    state: String,
    starts_at: String,
    ends_at: String,
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// When Keelson cannot be reached or refuses.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        match self {
            Self::List(list) => list.run(global).await,
            Self::Add(add) => add.run(global).await,
            Self::Expire(expire) => expire.run(global).await,
        }
    }
}

impl List {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let mut page: Page = Client::new(&self.client, global)?.get(PATH, &[]).await?;
        page.silences.retain(|shown| self.expired || shown.state != "expired");
        show(self.json, &page, tell)
    }
}

impl Add {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let ended = watch::obeyed(&client, Method::POST, PATH, &self.command(), |_| Ok(())).await?;
        let silence: Silence = serde_json::from_value(watch::outcome(ended)?)?;
        show(self.json, &silence, |silence| say(&silence.id))
    }

    fn command(&self) -> SetSilence {
        SetSilence {
            id: None,
            matchers: self.matchers.iter().map(ToString::to_string).collect(),
            starts_at_ms: self.start.map(milliseconds),
            ends_at_ms: self.until.map(milliseconds),
            duration: self.until.is_none().then(|| self.duration.clone()),
            created_by: self.author.clone(),
            comment: self.comment.clone(),
        }
    }
}

impl Expire {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        for id in self.ids {
            let ended =
                watch::obeyed(&client, Method::DELETE, &path_below(PATH, &id), &json!({}), |_| Ok(()))
                    .await?;
            watch::outcome(ended)?;
        }
        Ok(Exit::Done)
    }
}

fn duration(text: &str) -> Result<String, humantime::DurationError> {
    humantime::parse_duration(text).map(|_| text.to_owned())
}

fn tell(page: &Page) {
    if page.silences.is_empty() {
        return say("there are no silences");
    }
    let columns = ["id", "state", "matchers", "starts", "ends", "by", "comment"];
    say_table(columns, page.silences.iter().map(row));
}

fn row(shown: &Shown) -> [String; 7] {
    let silence = &shown.silence;
    let matchers: Vec<String> = silence.matchers.iter().map(ToString::to_string).collect();
    [
        silence.id.clone(),
        shown.state.clone(),
        matchers.join(" "),
        shown.starts_at.clone(),
        shown.ends_at.clone(),
        silence.created_by.clone(),
        silence.comment.clone(),
    ]
}
