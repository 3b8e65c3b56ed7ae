//! The command line: what there is, and how it is explained.

use std::future::Future;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::global::Global;
use crate::nats_server::Leash;
use crate::output::Exit;
use crate::roles::ROLES;
use crate::{
    alerts, audit, backups, bus, cdn, config, dead_letters, doctor, import, operations, output, rules, run,
    services, silences, token, up,
};

const ABOUT: &str = "\
Keelson is the pipeline under a platform: request telemetry and commands in by HTTP, over NATS JetStream to the workers, exact metrics out.";

const EXAMPLES: &str = "\
Start here:
  keelson up --demo                       everything in one process, with sample services under live traffic
  keelson up                              everything in one process, waiting for your traffic
  keelson telemetry import access.log --service web
  keelson doctor                          what is wrong, and what to do about it

Exit codes:
  0  done
  1  failed; the message says what to do
  2  the command line or the configuration is wrong
  3  done, and there is something to look at (bus plan: differences; doctor: problems; import: malformed lines; rules: errors)

Configuration: keelson.toml (or KEELSON_CONFIG), then the environment, then options; see `keelson config show`.";

/// `keelson`
#[derive(Debug, Parser)]
#[command(version, about = ABOUT, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything in one process: a private NATS server, every role, HTTP
    Up(up::Up),
    /// Start chosen roles on the NATS server at NATS_URL
    Run(run::Run),
    /// List the roles
    Roles(run::Roles),
    /// Compare the bus with its configuration, or make it so
    #[command(subcommand)]
    Bus(bus::Command),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Bring telemetry in
    #[command(subcommand)]
    Telemetry(Telemetry),
    /// Make tokens for the HTTP ingress
    #[command(subcommand)]
    Token(token::Command),
    /// See what is wrong, and who is told of it
    Alerts(alerts::Alerts),
    /// Keep alerts from being notified for a while
    #[command(subcommand)]
    Silences(silences::Command),
    /// Check the rules by which alerts fire, and try them against the past
    #[command(subcommand)]
    Rules(rules::Command),
    /// Purge and warm the edge, and see how it stands
    #[command(subcommand)]
    Cdn(cdn::Command),
    /// See which services there are and how they fare; register them, trip their breakers
    #[command(subcommand)]
    Services(services::Command),
    /// Make backups of the database, and restore them
    #[command(subcommand)]
    Backups(backups::Command),
    /// See what became of commands
    #[command(subcommand)]
    Operations(operations::Command),
    /// See what could not be processed, and try it again
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Prove that what was commanded and what happened is what it was
    #[command(subcommand)]
    Audit(audit::Command),
    /// Find out what is wrong, and what to do about it
    Doctor(doctor::Doctor),
    /// Print completions for a shell: `source <(keelson completions bash)`
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Start a child that ends with this process; not for people
    #[command(hide = true)]
    Leash(Leash),
}

#[derive(Debug, Subcommand)]
enum Telemetry {
    Import(import::Import),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// What went wrong, as the command says it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let global = self.global;
        let exit = match self.command {
            Command::Leash(leash) => return Ok(leash.run()),
            Command::Completions { shell } => completions(shell),
            Command::Up(up) => on_every_core(up.run(&global)),
            Command::Run(run) => on_every_core(run.run(&global)),
            Command::Roles(roles) => roles.run(ROLES),
            Command::Bus(command) => on_one_core(command.run(&global)),
            Command::Config(command) => command.run(&global),
            Command::Telemetry(Telemetry::Import(import)) => on_one_core(import.run(&global)),
            Command::Token(command) => command.run(),
            Command::Alerts(alerts) => on_one_core(alerts.run(&global)),
            Command::Silences(command) => on_one_core(command.run(&global)),
            Command::Rules(command) => on_one_core(command.run(&global)),
            Command::Cdn(command) => on_one_core(command.run(&global)),
            Command::Services(command) => on_one_core(command.run(&global)),
            Command::Backups(command) => on_one_core(command.run(&global)),
            Command::Operations(command) => on_one_core(command.run(&global)),
            Command::DeadLetters(command) => on_one_core(command.run(&global)),
            Command::Audit(command) => on_one_core(command.run(&global)),
            Command::Doctor(doctor) => on_one_core(doctor.run(&global)),
        };
        exit.map(ExitCode::from)
    }
}

fn on_every_core(command: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
}

fn on_one_core(command: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

fn completions(shell: Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "keelson", &mut script);
    output::say(String::from_utf8_lossy(&script).trim_end());
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
