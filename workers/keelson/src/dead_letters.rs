//! `keelson dead-letters`: what could not be processed, why, and trying it again.

use clap::{Args, Subcommand};
use keelson_schemas::dead_letter::DeadLetter;
use keelson_schemas::operation::Operation;
use serde::{Deserialize, Serialize};

use crate::client::{Client, ClientArgs};
use crate::global::Global;
use crate::output::{Exit, say, say_table, show};

const PATH: &str = "/api/dead-letters";

const EXAMPLES: &str = "\
Examples:
  keelson dead-letters list
  keelson dead-letters show 7
  keelson dead-letters redrive 7       publish it again on its own subject, once what was wrong has been mended";

/// `keelson dead-letters`
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// List dead letters, the newest first
    List(List),
    /// Show one with its headers and body
    Show(One),
    /// Publish one again on its own subject
    Redrive(One),
}

/// `keelson dead-letters list`
#[derive(Debug, Args)]
pub struct List {
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson dead-letters show|redrive`
#[derive(Debug, Args)]
pub struct One {
    /// The dead letter, as `keelson dead-letters list` numbers it.
    sequence: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// A dead letter under its number.
#[derive(Debug, Deserialize, Serialize)]
struct Entry {
    sequence: u64,
    letter: DeadLetter,
}

#[derive(Debug, Deserialize, Serialize)]
struct Page {
    letters: Vec<Entry>,
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
            Self::Redrive(one) => one.redrive(global).await,
        }
    }
}

impl List {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let page: Page =
            Client::new(&self.client, global)?.get(PATH, &[("limit", self.limit.to_string())]).await?;
        show(self.json, &page, tell_all)
    }
}

impl One {
    async fn show(self, global: &Global) -> anyhow::Result<Exit> {
        let entry: Entry =
            Client::new(&self.client, global)?.get(&format!("{PATH}/{}", self.sequence), &[]).await?;
        show(self.json, &entry, tell)
    }

    async fn redrive(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        // Asked for by a person, each time anew: a second redrive is a second wish.
        let key = format!("redrive-{:032x}", rand::random::<u128>());
        let operation: Operation =
            client.post_once(&format!("{PATH}/{}/redrive", self.sequence), &key, b"{}".to_vec()).await?;
        show(self.json, &operation, |operation| {
            say(&format!("accepted; `keelson operations watch {}` shows what becomes of it", operation.id));
        })
    }
}

fn tell_all(page: &Page) {
    if page.letters.is_empty() {
        return say("there are no dead letters");
    }
    let columns = ["number", "subject", "consumer", "attempts", "failed", "reason"];
    say_table(columns, page.letters.iter().map(row));
}

fn row(entry: &Entry) -> [String; 6] {
    let letter = &entry.letter;
    [
        entry.sequence.to_string(),
        letter.subject.clone(),
        format!("{}/{}", letter.stream, letter.consumer),
        letter.attempts.to_string(),
        letter.failed_at.to_string(),
        letter.reason.clone(),
    ]
}

fn tell(entry: &Entry) {
    let letter = &entry.letter;
    say(&format!("number    {}", entry.sequence));
    say(&format!("subject   {}", letter.subject));
    say(&format!("message   {} on {}, stored {}", letter.sequence, letter.stream, letter.stored_at));
    say(&format!(
        "consumer  {}, {} attempts, given up {}",
        letter.consumer, letter.attempts, letter.failed_at
    ));
    say(&format!("reason    {}", letter.reason));
    for (name, value) in &letter.headers {
        say(&format!("header    {name}: {value}"));
    }
    let cut = if letter.truncated { " (not all of it)" } else { "" };
    say(&format!("body{cut}\n{}", String::from_utf8_lossy(&letter.payload)));
}
