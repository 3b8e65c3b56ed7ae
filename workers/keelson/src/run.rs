//! `keelson run ROLE…`: chosen roles on a bus of yours, as many replicas as wanted; and `keelson roles`, what there is to choose from.

use anyhow::bail;
use clap::Args;
use keelson_ingress::Ingress;
use keelson_kit::node::NodeId;
use keelson_kit::role::{AnyRole, Role};
use serde_json::json;

use crate::global::{Global, flag};
use crate::output::{Exit, say, say_json, say_table};
use crate::process::Process;
use crate::roles::ROLES;

const EXAMPLES: &str = "\
Examples:
  NATS_URL=nats://bus:4222 keelson run metrics          one replica of the metrics worker; start it again for another
  NATS_URL=nats://bus:4222 keelson run ingress --http-addr 127.0.0.1:8081
  NATS_URL=nats://bus:4222 keelson run metrics ingress

Replicas share the work through leases on the bus. On SIGTERM or Ctrl-C a process hands over what it holds and ends; a second signal ends \
it at once.";

/// `keelson run`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// The roles; `keelson roles` lists them.
    #[arg(required = true, value_name = "ROLE", value_parser = known_role)]
    roles: Vec<String>,
    /// Where HTTP listens; port 0 picks a free one [env: KEELSON_HTTP_ADDR] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http_addr: Option<String>,
}

/// `keelson roles`
#[derive(Debug, Args)]
pub struct Roles {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Run {
    /// Runs until a signal comes.
    ///
    /// # Errors
    /// When the configuration is wrong, the bus cannot be reached, or a role cannot start.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let flags = self.http_addr.iter().map(|addr| flag("--http-addr", "http.addr", addr)).collect();
        let config = global.config(flags)?;
        let Some(url) = config.core.nats.url.clone() else {
            bail!("`keelson run` needs a bus: set NATS_URL (`keelson up` starts one of its own)");
        };
        let node = node(&config.core.data_dir)?;
        let process = Process::begin(config, url, node).await?;
        let chosen = ROLES.iter().copied().filter(|role| self.roles.iter().any(|name| name == role.name()));
        process.start(chosen).await?;
        say(&format!("Keelson runs {}.", self.roles.join(", ")));
        if self.roles.iter().any(|role| role == Ingress::NAME) {
            say(&format!("  HTTP         {}", process.http_url()));
        }
        Ok(process.run().await?.into())
    }
}

/// A replica beside another one on this data directory is a node of its own; alone, it is the same node after a restart, and has its
/// leases back at once.
fn node(data_dir: &std::path::Path) -> anyhow::Result<NodeId> {
    match NodeId::claim(data_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(NodeId::ephemeral()),
        claimed => Ok(claimed?),
    }
}

fn known_role(name: &str) -> Result<String, String> {
    if ROLES.iter().any(|role| role.name() == name) {
        return Ok(name.into());
    }
    let names: Vec<&str> = ROLES.iter().map(|role| role.name()).collect();
    Err(format!("there is no such role; there are {}", names.join(", ")))
}

impl Roles {
    /// Lists the roles.
    ///
    /// # Errors
    /// Never in practice.
    pub fn run(self, roles: &[&dyn AnyRole]) -> anyhow::Result<Exit> {
        if self.json {
            let list: Vec<_> =
                roles.iter().map(|role| json!({"name": role.name(), "summary": role.summary()})).collect();
            say_json(&list)?;
        } else {
            say_table(["role", "does"], roles.iter().map(|role| [role.name().into(), role.summary().into()]));
        }
        Ok(Exit::Done)
    }
}
