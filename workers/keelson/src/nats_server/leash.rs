//! The leash of a child: it ends when the thread that started it ends, however that comes about.
//!
//! Linux sends the signal (`PR_SET_PDEATHSIG`), but a process must ask for it itself, after the fork and before it turns into another program. Our
//! own executable does that as a step in between, so that nothing has to run in the narrow place between fork and exec.

use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use crate::output;

/// The hidden subcommand that takes the step in between.
const COMMAND: &str = "leash";

/// `keelson leash --parent PID -- PROGRAM ARG…`
#[derive(Debug, Args)]
pub struct Leash {
    /// The process at the other end.
    #[arg(long)]
    parent: u32,
    /// The program and its arguments.
    #[arg(required = true, last = true)]
    program: Vec<String>,
}

impl Leash {
    /// Becomes the program. Returns only when that fails.
    pub fn run(self) -> ExitCode {
        let error = match set_pdeathsig(Signal::SIGKILL) {
            Ok(()) => self.exec(),
            Err(errno) => errno.into(),
        };
        output::complain(&format!("cannot start {}: {error}", self.program[0]));
        ExitCode::FAILURE
    }

    fn exec(&self) -> std::io::Error {
        // The parent may have gone before the leash was on: then nobody would send the signal.
        if parent_id() != self.parent {
            return std::io::Error::other("the process that wanted it has gone");
        }
        Command::new(&self.program[0]).args(&self.program[1..]).exec()
    }
}

/// A command that runs the program on a leash held by the calling thread.
pub fn leashed(program: &Path) -> Command {
    // Not the path that we were started by: that file may have been replaced since.
    let mut command = Command::new(PathBuf::from("/proc/self/exe"));
    command.arg(COMMAND).arg("--parent").arg(std::process::id().to_string()).arg("--").arg(program);
    command
}
