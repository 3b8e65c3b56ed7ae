//! `keelson operations`: what became of commands.

use anyhow::Context;
use clap::{Args, Subcommand};
use futures::StreamExt;
use keelson_schemas::operation::{Operation, State};
use serde::{Deserialize, Serialize};

use crate::client::{CallError, Client, ClientArgs};
use crate::global::Global;
use crate::output::{Exit, complain, say, say_table, show};

const PATH: &str = "/api/operations";
/// How often a watch that broke off is taken up again before it is given up.
const MAX_REJOINS: u32 = 20;

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

    /// Shows every state it passes through. A stream that breaks off is taken up again: it begins with the state as it is.
    async fn watch(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let mut last = None;
        for _ in 0..MAX_REJOINS {
            match self.follow(&client, &mut last).await {
                Ok(Some(state)) => {
                    return Ok(if state == State::Succeeded { Exit::Done } else { Exit::Failed });
                }
                Ok(None) => {}
                Err(CallError::Later { why, .. }) => complain(&why),
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        anyhow::bail!(
            "the connection broke off {MAX_REJOINS} times; the operation itself goes on: see `keelson operations show {}`",
            self.id
        )
    }

    /// The final state, or none when the stream ended before it.
    async fn follow(
        &self,
        client: &Client,
        last: &mut Option<Operation>,
    ) -> Result<Option<State>, CallError> {
        let mut stream = client.events(&format!("{}/events", self.path())).await?.bytes_stream();
        let mut unread = Vec::new();
        while let Some(Ok(bytes)) = stream.next().await {
            unread.extend_from_slice(&bytes);
            while let Some(operation) = next_event(&mut unread) {
                if last.as_ref() != Some(&operation) {
                    show(self.json, &operation, tell)
                        .map_err(|error| CallError::Strange(error.to_string()))?;
                }
                let state = operation.state;
                *last = Some(operation);
                if state.is_final() {
                    return Ok(Some(state));
                }
            }
        }
        Ok(None)
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

fn name(state: State) -> String {
    format!("{state:?}").to_lowercase()
}

/// Takes the next whole event off the bytes read so far; events that carry no operation, such as comments, are passed over.
fn next_event(unread: &mut Vec<u8>) -> Option<Operation> {
    loop {
        let end = unread.windows(2).position(|pair| pair == b"\n\n")?;
        let event: Vec<u8> = unread.drain(..end + 2).collect();
        let text = String::from_utf8_lossy(&event);
        let data: String =
            text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
        if let Ok(operation) = serde_json::from_str(&data).context("no operation") {
            return Some(operation);
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;
    use keelson_schemas::operation::OperationRecord;

    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let operation = OperationRecord::example().operation;
        let text =
            format!(": hello\n\nevent: state\ndata: {}\n\n", serde_json::to_string(&operation).unwrap());
        for cut in 0..text.len() {
            let mut unread = text.as_bytes()[..cut].to_vec();
            let early = next_event(&mut unread);
            assert_eq!(early, None);
            unread.extend(&text.as_bytes()[cut..]);
            assert_eq!(next_event(&mut unread).as_ref(), Some(&operation));
            assert!(unread.is_empty());
        }
    }
}
