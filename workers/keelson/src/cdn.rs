//! `keelson cdn`: copies at the edge.

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use keelson_schemas::cdn::{AssetUrl, Purge, PurgeReport, Warm, WarmReport};
use keelson_schemas::operation::Operation;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::{Client, ClientArgs};
use crate::global::Global;
use crate::output::{Exit, complain, say, say_table, show};
use crate::watch;

const EXAMPLES: &str = "\
Examples:
  keelson cdn purge https://cdn.example/videos/42 https://cdn.example/
  keelson cdn purge --tag video:42 --prefix /thumbnails/42/ --soft
  keelson cdn purge --all --confirm cdn.example --reason 'a wrong certificate was cached'
  keelson cdn warm https://cdn.example/videos/42
  keelson cdn url '/videos/42?size=l'
  keelson cdn status";

/// `keelson cdn`
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// Remove copies at the edge, and prove it
    #[command(after_help = EXAMPLES)]
    Purge(PurgeArgs),
    /// Fetch URLs through the edge, so that the first reader finds them there
    Warm(WarmArgs),
    /// Show how the providers fare, and purges of late
    Status(Status),
    /// Show where a path is read from now
    Url(Url),
}

/// `keelson cdn purge`
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// URLs as readers ask for them.
    #[arg(value_name = "URL")]
    urls: Vec<String>,
    /// Whatever the origin put this surrogate key on.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Whatever has a path that begins so.
    #[arg(long = "prefix", value_name = "PATH")]
    prefixes: Vec<String>,
    /// Everything; needs --confirm and --reason.
    #[arg(long)]
    all: bool,
    /// The CDN's domain, so that nobody empties the wrong one.
    #[arg(long, value_name = "DOMAIN", default_value = "", hide_default_value = true)]
    confirm: String,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Copies may be served once more while they are fetched anew.
    #[arg(long)]
    soft: bool,
    /// Only at these providers [default: all]
    #[arg(long = "provider", value_name = "NAME")]
    providers: Vec<String>,
    /// Only say what would be sent.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson cdn warm`
#[derive(Debug, Args)]
pub struct WarmArgs {
    /// URLs as readers ask for them.
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson cdn status`
#[derive(Debug, Args)]
pub struct Status {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `keelson cdn url`
#[derive(Debug, Args)]
pub struct Url {
    /// A path with its query.
    #[arg(value_name = "PATH")]
    path: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// What the API shows, as far as it is told here; the rest stays as it is for `--json`.
#[derive(Debug, Deserialize, Serialize)]
struct Page {
    configured: bool,
    note: Option<String>,
    providers: Vec<Provider>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Provider {
    provider: String,
    health: String,
    error: Option<String>,
    waiting: u64,
    under_way: u64,
    behind: u64,
    time_to_fresh: Times,
    recent: Vec<Value>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    count: u64,
    p50_seconds: Option<f64>,
    p99_seconds: Option<f64>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// When Keelson cannot be reached or refuses.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        match self {
            Self::Purge(purge) => purge.run(global).await,
            Self::Warm(warm) => warm.run(global).await,
            Self::Status(status) => status.run(global).await,
            Self::Url(url) => url.run(global).await,
        }
    }
}

impl PurgeArgs {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let report: PurgeReport = obeyed(&client, "/api/cdn/purge", &self.command()).await?;
        show(self.json, &report, tell_purge)
    }

    fn command(&self) -> Purge {
        Purge {
            urls: self.urls.clone(),
            tags: self.tags.clone(),
            prefixes: self.prefixes.clone(),
            all: self.all,
            soft: self.soft,
            dry_run: self.dry_run,
            providers: self.providers.clone(),
            reason: self.reason.clone(),
            confirm: self.confirm.clone(),
        }
    }
}

impl WarmArgs {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let client = Client::new(&self.client, global)?;
        let report: WarmReport = obeyed(&client, "/api/cdn/cache", &Warm { urls: self.urls }).await?;
        show(self.json, &report, tell_warm)?;
        Ok(if report.failed.is_empty() { Exit::Done } else { Exit::Findings })
    }
}

impl Status {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let page: Page = Client::new(&self.client, global)?.get("/api/cdn/status", &[]).await?;
        show(self.json, &page, tell_status)
    }
}

impl Url {
    async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let query = [("path", self.path)];
        let found: AssetUrl = Client::new(&self.client, global)?.get("/api/cdn/url", &query).await?;
        show(self.json, &found, |found| say(&found.url))
    }
}

/// Asks for a command and shows how far it is, until it has ended.
async fn obeyed<R: for<'de> Deserialize<'de>>(
    client: &Client,
    path: &str,
    command: &impl Serialize,
) -> anyhow::Result<R> {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let seen = |operation: &Operation| {
        let note = operation.progress.as_ref().and_then(|progress| progress.note.clone());
        bar.set_message(note.unwrap_or_else(|| watch::name(operation.state)));
        bar.tick();
        Ok(())
    };
    let ended = watch::obeyed(client, Method::POST, path, command, seen).await;
    bar.finish_and_clear();
    Ok(serde_json::from_value(watch::outcome(ended?)?)?)
}

fn tell_purge(report: &PurgeReport) {
    let row = |provider: &keelson_schemas::cdn::ProviderOutcome| {
        let outcome = provider.outcome.as_ref();
        let state = outcome.map_or("dry run", |outcome| outcome.state.fact());
        let fresh = outcome.and_then(|outcome| outcome.fresh_after_ms.or(outcome.acknowledged_after_ms));
        [
            provider.provider.clone(),
            state.to_owned(),
            provider.selectors.count().to_string(),
            provider.calls.to_string(),
            fresh.map_or_else(String::new, |ms| format!("{:.3} s", ms as f64 / 1e3)),
            outcome.and_then(|outcome| outcome.reason.clone()).unwrap_or_default(),
        ]
    };
    say_table(["provider", "state", "selectors", "calls", "after", "why"], report.providers.iter().map(row));
}

fn tell_warm(report: &WarmReport) {
    say(&format!(
        "{} at the edge, {} not kept there, {} failed",
        report.hits,
        report.uncached.len(),
        report.failed.len()
    ));
    report.uncached.iter().for_each(|url| complain(&format!("{url}: its answer is not kept at the edge")));
    report.failed.iter().for_each(|(url, why)| complain(&format!("{url}: {why}")));
}

fn tell_status(page: &Page) {
    if let Some(note) = &page.note {
        say(note);
    }
    if page.providers.is_empty() {
        return;
    }
    let seconds =
        |seconds: Option<f64>| seconds.map_or_else(String::new, |seconds| format!("{seconds:.2} s"));
    let row = |provider: &Provider| {
        [
            provider.provider.clone(),
            provider.health.clone(),
            provider.waiting.to_string(),
            provider.under_way.to_string(),
            provider.behind.to_string(),
            seconds(provider.time_to_fresh.p50_seconds),
            seconds(provider.time_to_fresh.p99_seconds),
            provider.error.clone().unwrap_or_default(),
        ]
    };
    let columns = ["provider", "health", "waiting", "under way", "behind", "fresh p50", "fresh p99", "why"];
    say_table(columns, page.providers.iter().map(row));
}
