//! `keelson audit list|show|export`: entries as a table, as JSON lines, as CSV.

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use keelson_schemas::audit::AuditEntry;

use crate::client::{Client, ClientArgs};
use crate::global::Global;
use crate::output::{Exit, complain, say, say_json, say_table};
use crate::time::moment_or_ago;

const PATH: &str = "/api/audit";
/// Entries in one answer of an export.
const PAGE: usize = 10_000;
const COLUMNS: [&str; 9] =
    ["sequence", "at", "subject", "actor", "source", "operation", "trace", "outcome", "error"];

/// Which entries.
#[derive(Clone, Debug, Args)]
pub struct Which {
    /// Only those of then or later: 2h, 2026-01-31, 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<Timestamp>,
    /// Only those before.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    until: Option<Timestamp>,
    /// Only those on a subject: 'keelson.cmd.cdn.*'.
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Only the commands that somebody asked for; `unverified` for what anybody may have published.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only the command of an operation.
    #[arg(long, value_name = "ID")]
    operation: Option<String>,
    /// Only those of a trace.
    #[arg(long, value_name = "ID")]
    trace: Option<String>,
    /// Only those after this sequence.
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    after: u64,
}

/// `keelson audit list`
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    which: Which,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Print JSON lines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson audit show`
#[derive(Debug, Args)]
pub struct Show {
    /// The entry, as `keelson audit list` numbers it.
    sequence: u64,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson audit export`
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    which: Which,
    /// As what.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    #[command(flatten)]
    client: ClientArgs,
}

/// How entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a line, with bodies.
    Jsonl,
    /// Comma-separated values (RFC 4180), without bodies.
    Csv,
}

fn when(text: &str) -> Result<Timestamp, String> {
    moment_or_ago(text, Timestamp::now())
}

impl Which {
    fn query(&self, after: u64, limit: usize) -> Vec<(&'static str, String)> {
        let optional = [
            ("since", self.since.map(|time| time.to_string())),
            ("until", self.until.map(|time| time.to_string())),
            ("subject", self.subject.clone()),
            ("actor", self.actor.clone()),
            ("operation", self.operation.clone()),
            ("trace", self.trace.clone()),
        ];
        let set = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        set.chain([("after", after.to_string()), ("limit", limit.to_string())]).collect()
    }

    /// A page; it is whole, or there is an error.
    async fn page(&self, client: &Client, after: u64, limit: usize) -> anyhow::Result<Vec<AuditEntry>> {
        let answer = client.lines(PATH, &self.query(after, limit)).await?.text().await?;
        answer.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

impl List {
    /// Runs the command.
    ///
    /// # Errors
    /// When Keelson cannot be reached or refuses.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let entries = self.which.page(&client, self.which.after, self.limit).await?;
        if self.json {
            for entry in &entries {
                say(&serde_json::to_string(entry)?);
            }
        } else if entries.is_empty() {
            say("there is no such entry");
        } else {
            let columns = ["number", "at", "subject", "actor", "outcome"];
            say_table(columns, entries.iter().map(row));
        }
        Ok(Exit::Done)
    }
}

fn row(entry: &AuditEntry) -> [String; 5] {
    [
        entry.sequence.to_string(),
        entry.at.to_string(),
        entry.subject.clone(),
        entry.actor.clone(),
        outcome(entry),
    ]
}

fn outcome(entry: &AuditEntry) -> String {
    let text = entry.outcome.and_then(|state| serde_json::to_value(state).ok());
    text.and_then(|text| Some(text.as_str()?.to_owned())).unwrap_or_default()
}

impl Show {
    /// Runs the command.
    ///
    /// # Errors
    /// When Keelson cannot be reached, or there is no such entry.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let after = self.sequence.saturating_sub(1).to_string();
        let query = [("after", after), ("limit", "1".to_owned())];
        let answer = client.lines(PATH, &query).await?.text().await?;
        let entry: Option<AuditEntry> = answer.lines().next().map(serde_json::from_str).transpose()?;
        let Some(entry) = entry.filter(|entry| entry.sequence == self.sequence) else {
            complain(&format!("there is no entry {}; `keelson audit list` lists them", self.sequence));
            return Ok(Exit::Failed);
        };
        say_json(&entry)?;
        Ok(Exit::Done)
    }
}

impl Export {
    /// Runs the command.
    ///
    /// # Errors
    /// When Keelson cannot be reached or refuses.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let mut after = self.which.after;
        if self.format == Format::Csv {
            say(&COLUMNS.join(","));
        }
        loop {
            let page = self.which.page(&client, after, PAGE).await?;
            for entry in &page {
                say(&match self.format {
                    Format::Jsonl => serde_json::to_string(entry)?,
                    Format::Csv => csv(entry),
                });
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = last.sequence,
                _ => return Ok(Exit::Done),
            }
        }
    }
}

fn csv(entry: &AuditEntry) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let fields = [
        entry.sequence.to_string(),
        entry.at.to_string(),
        entry.subject.clone(),
        entry.actor.clone(),
        text(&entry.source),
        text(&entry.operation),
        text(&entry.trace),
        outcome(entry),
        text(&entry.error),
    ];
    fields.map(|field| quoted(&field)).join(",")
}

/// A field as RFC 4180 has it.
fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        return format!("\"{}\"", field.replace('"', "\"\""));
    }
    field.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_would_be_two_are_quoted() {
        for (field, written) in
            [("a", "a"), ("a,b", "\"a,b\""), ("a\"b", "\"a\"\"b\""), ("a\nb", "\"a\nb\""), ("", "")]
        {
            assert_eq!(quoted(field), written);
        }
    }
}
