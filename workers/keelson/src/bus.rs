//! `keelson bus`: how a running bus differs from its configuration, and making it so.

use anyhow::bail;
use clap::{Args, Subcommand};
use keelson_kit::bus::Bus;
use keelson_kit::bus_admin::{self, Permission, Plan};

use crate::global::Global;
use crate::output::{Exit, say, say_json};
use crate::process::bus_options;

const EXAMPLES: &str = "\
Examples:
  keelson bus plan                                      the bus of `keelson up` on this data directory
  NATS_URL=nats://bus:4222 keelson bus plan --json
  NATS_URL=nats://bus:4222 keelson bus apply

Signs: + to be created, ~ to be changed, ! to be changed and data lost, ? not Keelson's and left alone. \
Exit code of plan: 0 nothing differs, 3 something does.";

/// `keelson bus`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show how the bus differs from its configuration
    #[command(after_help = EXAMPLES)]
    Plan(PlanArgs),
    /// Make the bus as configured; may be repeated
    #[command(after_help = EXAMPLES)]
    Apply(ApplyArgs),
}

/// `keelson bus plan`
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `keelson bus apply`
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Also make the changes that lose data.
    #[arg(long)]
    allow_data_loss: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// When the bus cannot be reached or refuses.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let bus = connect(global).await?;
        match self {
            Self::Plan(args) => {
                let plan = bus_admin::plan(&bus).await?;
                tell(&plan, args.json, "the bus is as configured")?;
                Ok(if plan.is_done() { Exit::Done } else { Exit::Findings })
            }
            Self::Apply(args) => {
                let permission =
                    if args.allow_data_loss { Permission::AllowDataLoss } else { Permission::KeepData };
                let plan = bus_admin::apply(&bus, permission).await?;
                tell(&plan, args.json, "the bus was as configured already")?;
                Ok(Exit::Done)
            }
        }
    }
}

fn tell(plan: &Plan, json: bool, nothing: &str) -> anyhow::Result<()> {
    if json {
        return say_json(plan);
    }
    say(plan.to_string().trim_end());
    if plan.is_done() {
        say(nothing);
    }
    Ok(())
}

/// The bus at NATS_URL, else that of the `keelson up` that runs on this data directory.
///
/// # Errors
/// When there is none, or it cannot be reached.
pub async fn connect(global: &Global) -> anyhow::Result<Bus> {
    let config = global.config(Vec::new())?;
    let Some(url) = config.core.nats.url.clone().or_else(|| Some(global.data_dir().ok()?.running()?.nats))
    else {
        bail!(
            "which bus? Set NATS_URL, or start `keelson up` on this data directory ({}) first",
            config.core.data_dir.display()
        );
    };
    Ok(Bus::connect(bus_options(&config.core, url, "bus")).await?)
}
