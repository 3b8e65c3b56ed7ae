//! `keelson operations`: what became of commands.

use clap::{Args, Subcommand};
use keelson_schemas::operation::{Operation, State};
use serde::{Deserialize, Serialize};

use crate::client::{Client, ClientArgs};
use crate::global::Global;
use crate::output::{Exit, say, say_table, show};
use crate::watch::{self, name};

const PATH: &str = "/api/operations";

const EXAMPLES: &str = "\
Examples:
  keelson operations list --state failed
  keelson operations show 0af7651916cd43dd8448eb211c80319c --json
  keelson operations watch 0af7651916cd43dd8448eb211c80319c

Exit code of watch: 0 the operation succeeded, 1 it ended otherwise.";

/// `keelson operations`
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// List operations, the newest first
    List(List),
    /// Show one operation
    Show(One),
    /// Follow one operation until it ends
    Watch(One),
}

/// `keelson operations list`
#[derive(Debug, Args)]
pub struct List {
    /// Only those in this state: accepted, running, succeeded, failed, rejected, unknown.
    #[arg(long)]
    state: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson operations show|watch`
#[derive(Debug, Args)]
pub struct One {
    /// The operation, as a command's answer names it.
    id: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Deserialize, Serialize)]
struct Page {
    operations: Vec<Operation>,
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// When Keelson cannot be reached or refuses.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        match self {
            Self::List(list) => list.run(global).await,
            Self::Show(one) => one.show(global).await,
            Self::Watch(one) => one.watch(global).await,
        }
    }
}

impl List {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let mut query = vec![("limit", self.limit.to_string())];
        query.extend(self.state.map(|state| ("state", state)));
        let page: Page = Client::new(&self.client, global)?.get(PATH, &query).await?;
        show(self.json, &page, |page| {
            let columns = ["id", "kind", "state", "attempts", "requested by", "updated"];
            say_table(columns, page.operations.iter().map(row));
        })
    }
}

impl One {
    async fn show(self, global: &Global) -> anyhow::Result<Exit> {
        let operation = Client::new(&self.client, global)?.get(&self.path(), &[]).await?;
        show(self.json, &operation, tell)
    }

    /// Shows every state it passes through.
    async fn watch(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let seen = |operation: &Operation| show(self.json, operation, tell).map(drop);
        let ended = watch::to_its_end(&client, &self.id, seen).await?;
        Ok(if ended.state == State::Succeeded { Exit::Done } else { Exit::Failed })
    }

    fn path(&self) -> String {
        format!("{PATH}/{}", self.id)
    }
}

fn tell(operation: &Operation) {
    let Operation { updated_at, kind, attempts, .. } = operation;
    say(&format!("{updated_at} {kind} {} (attempt {attempts})", name(operation.state)));
    if let Some(progress) = &operation.progress {
        let total = progress.total.map(|total| format!(" of {total}")).unwrap_or_default();
        say(&format!("  {}{total} {}", progress.done, progress.note.as_deref().unwrap_or("done")));
    }
    if let Some(result) = &operation.result {
        say(&format!("  result: {result}"));
    }
    if let Some(error) = &operation.error {
        say(&format!("  error: {error}"));
    }
}

fn row(operation: &Operation) -> [String; 6] {
    [
        operation.id.clone(),
        operation.kind.clone(),
        name(operation.state),
        operation.attempts.to_string(),
        operation.requested_by.clone(),
        operation.updated_at.to_string(),
    ]
}
