//! The one executable: a command line, a private nats-server, and the wiring of roles.
//!
//! `keelson up` and `keelson run` start roles (`roles.rs`, one line each) in a `Process`; the other commands ask a running one over HTTP,
//! or the bus itself. Only this crate knows every worker.

mod alerts;
mod audit;
mod backups;
mod bus;
mod cdn;
mod cli;
mod client;
mod config;
mod data_dir;
mod dead_letters;
mod demo;
mod doctor;
mod global;
mod import;
mod nats_server;
mod operations;
mod output;
mod process;
mod progress;
mod roles;
mod rules;
mod run;
mod services;
mod silences;
mod time;
mod token;
mod up;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use keelson_kit::config::ConfigErrors;

use crate::cli::Cli;
use crate::output::{Exit, complain};

/// Small and quick to give memory back: an idle process is promised to stay under 80 MB.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the command that the arguments of this process name.
pub fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(exit) => exit,
        Err(error) => tell(&error).into(),
    }
}

fn tell(error: &anyhow::Error) -> Exit {
    if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
        complain("the configuration is wrong:");
        errors.0.iter().for_each(|error| complain(&format!("  {}", error.to_string().replace('\n', " "))));
        return Exit::Usage;
    }
    complain(&format!("{error:#}"));
    Exit::Failed
}
