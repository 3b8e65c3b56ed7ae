//! `keelson up`: everything in one process, on a private nats-server unless there is one already.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use keelson_bus_config::NATS_SERVER_CONF;
use keelson_kit::config::{Config, Scope, Token, TokenHash};
use keelson_kit::node::NodeId;
use keelson_kit::tasks::Tasks;
use tracing::warn;
use url::Url;

use crate::data_dir::{DataDir, Lock, Running};
use crate::demo;
use crate::global::{Global, flag};
use crate::nats_server::{NatsServer, Settings, locate};
use crate::output::{Exit, say};
use crate::process::{Ended, Process};
use crate::roles::ROLES;
use crate::token;

/// How often we look whether we are ready, and after how long we say that we are not.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The first question may reach nobody and then waits in vain, so it is asked again soon; later ones have time for a large answer.
const FIRST_LOOK_PATIENCE: Duration = Duration::from_millis(100);
const LONGEST_LOOK_PATIENCE: Duration = Duration::from_secs(5);
const READY_PATIENCE: Duration = Duration::from_secs(15);

const EXAMPLES: &str = "\
Examples:
  keelson up                                    data in ./.keelson, HTTP on 127.0.0.1:8080
  keelson up --demo                             with sample services under live traffic
  keelson up --http-addr 127.0.0.1:0            on a free port, which is printed
  NATS_URL=nats://bus:4222 keelson up           every role, on a bus of yours

The private nats-server is the one that KEELSON_NATS_SERVER names, else .tools/nats-server (`make tools` puts it there), else the one on the \
PATH. It ends with this process, however that comes about. Ctrl-C drains and ends; a second one ends at once.";

/// `keelson up`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Up {
    /// Where HTTP listens; port 0 picks a free one [env: KEELSON_HTTP_ADDR] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http_addr: Option<String>,
    /// Also start sample services and send visitors to them, so that numbers move
    #[arg(long)]
    demo: bool,
}

impl Up {
    /// Runs until a signal comes.
    ///
    /// # Errors
    /// When the configuration is wrong, the data directory is in use, or something cannot start.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let flags = self.http_addr.iter().map(|addr| flag("--http-addr", "http.addr", addr)).collect();
        let mut config = global.config(flags)?;
        let data_dir = DataDir::new(config.core.data_dir.clone());
        let lock = data_dir.lock()?;
        admit_local_admin(&mut config, &data_dir)?;
        let start = Start { token: admit_self(&mut config), demo: self.demo };
        let private = private_bus(&config, &data_dir, lock).await?;
        let ended = run(config, &data_dir, private.as_ref(), start).await;
        data_dir.withdraw();
        let ended = ended?;
        match (private, ended) {
            (Some(private), Ended::Drained) => private.stop(),
            (Some(private), Ended::CutOff) => private.kill(),
            (None, _) => {}
        }
        Ok(ended.into())
    }
}

/// With no token configured there is one all the same, for whoever can read this directory: the one of the last time, or a new one.
fn admit_local_admin(config: &mut Config, data_dir: &DataDir) -> anyhow::Result<()> {
    if !config.core.auth.tokens.is_empty() {
        return Ok(());
    }
    let secret = data_dir.admin_token().unwrap_or_else(token::generate);
    data_dir.keep_admin_token(&secret).context("cannot keep the admin token")?;
    admit(config, "local-admin", &secret, &[Scope::Admin]);
    say(&format!(
        "No tokens are configured, so there is an admin token in {}",
        data_dir.admin_token_file().display()
    ));
    Ok(())
}

/// For what this process itself asks and reports over HTTP as anybody would; known to nobody else and gone with the process.
fn admit_self(config: &mut Config) -> String {
    let secret = token::generate();
    admit(config, "keelson-up", &secret, &[Scope::Read, Scope::Telemetry]);
    secret
}

fn admit(config: &mut Config, id: &str, secret: &str, scopes: &[Scope]) {
    let token =
        Token { id: id.into(), sha256: TokenHash::of(secret), scopes: scopes.to_vec(), expires: None };
    config.core.auth.tokens.push(token);
}

async fn private_bus(config: &Config, data_dir: &DataDir, lock: Lock) -> anyhow::Result<Option<NatsServer>> {
    let nats = &config.core.nats;
    if nats.url.is_some() {
        // There is no server here to share the lock with; the one on the node's name keeps two processes apart.
        return Ok(None);
    }
    let executable = locate(nats.server.as_deref())?;
    let settings =
        Settings { executable, configuration: NATS_SERVER_CONF.into(), data_dir: data_dir.clone() };
    Ok(Some(NatsServer::start(settings, lock).await?))
}

/// What is to be done beside running roles.
struct Start {
    token: String,
    demo: bool,
}

async fn run(
    config: Config,
    data_dir: &DataDir,
    private: Option<&NatsServer>,
    start: Start,
) -> anyhow::Result<Ended> {
    let nats =
        private.map(NatsServer::url).or_else(|| config.core.nats.url.clone()).context("there is no bus")?;
    let node = NodeId::claim(data_dir.path())?;
    let process = Process::begin(config, nats.clone(), node).await?;
    process.start(ROLES.iter().copied()).await?;
    let running = Running { pid: std::process::id(), http: process.http_url(), nats };
    data_dir.announce(&running)?;
    let (tasks, place) = (process.tasks().clone(), data_dir.clone());
    process
        .tasks()
        .spawn_once("up.ready", async move { start.tell_when_ready(&tasks, &running, &place).await });
    process.run().await
}

impl Start {
    async fn tell_when_ready(self, tasks: &Tasks, running: &Running, place: &DataDir) -> anyhow::Result<()> {
        let http: Url = running.http.parse()?;
        tokio::select! {
            ready = self.ready(&http) => ready?,
            () = tasks.cancelled() => return Ok(()),
        }
        let samples = if self.demo { demo::start(tasks, &http, &self.token).await? } else { Vec::new() };
        say("Keelson is ready.");
        say(&format!("  HTTP         {}", running.http));
        say(&format!("  metrics      {}/api/monitoring/metrics", running.http));
        say(&format!("  Prometheus   {}/api/monitoring/prometheus", running.http));
        say(&format!("  NATS         {}", running.nats));
        say(&format!("  data         {}", place.path().display()));
        for sample in &samples {
            say(&format!("  sample       {} ({})", sample.url, sample.service));
        }
        if !samples.is_empty() {
            say("Numbers move now:");
            say(&format!(
                "  curl -s {}/api/monitoring/prometheus | grep http_server_requests_total",
                running.http
            ));
        }
        Ok(())
    }

    /// Waits until the export answers: then HTTP, the bus and the owners of every partition are there. Says so in the log when that takes
    /// long, and goes on waiting.
    async fn ready(&self, http: &Url) -> anyhow::Result<()> {
        let export =
            reqwest::Client::new().get(http.join("/api/monitoring/prometheus")?).bearer_auth(&self.token);
        let mut look_patience = FIRST_LOOK_PATIENCE;
        let mut patience = Some(tokio::time::Instant::now() + READY_PATIENCE);
        loop {
            let Some(attempt) = export.try_clone() else { bail!("the export cannot be asked twice") };
            let answer = attempt.timeout(look_patience).send().await;
            if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if patience.take_if(|deadline| tokio::time::Instant::now() > *deadline).is_some() {
                warn!("not ready after {} s: {}", READY_PATIENCE.as_secs(), explain(answer).await);
            }
            look_patience = (look_patience * 2).min(LONGEST_LOOK_PATIENCE);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

async fn explain(answer: reqwest::Result<reqwest::Response>) -> String {
    match answer {
        Ok(answer) => answer.text().await.unwrap_or_default(),
        Err(error) => error.to_string(),
    }
}
