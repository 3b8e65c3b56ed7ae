//! `keelson` as a process, and what can be seen of it from outside.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test file uses a part of it; a test may panic"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// A `keelson` command in a directory of its own, with nothing of the developer's environment.
pub fn keelson(place: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keelson"));
    command.current_dir(place).env_clear().env("KEELSON_NATS_SERVER", nats_server());
    command
}

/// Runs it to its end, which must come.
pub fn run(command: &mut Command) -> Output {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("keelson runs");
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    let (sender, output) = channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    output.recv_timeout(PATIENCE).map(Result::unwrap).unwrap_or_else(|_| {
        let _ = kill(pid, Signal::SIGKILL);
        panic!("{command:?} does not end")
    })
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn nats_server() -> PathBuf {
    let named = std::env::var_os("KEELSON_NATS_SERVER").map(PathBuf::from);
    let path =
        named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/nats-server"));
    assert!(path.is_file(), "there is no {}: `make tools` fetches a nats-server", path.display());
    path
}

/// What `keelson doctor --json` found bad, but for the disk: how full it is, is the machine's affair and not a test's.
pub fn found_bad(place: &Path, environment: &[(&str, &str)]) -> Vec<String> {
    let examined = run(keelson(place).args(["doctor", "--json"]).envs(environment.iter().copied()));
    let checks: Vec<Value> = serde_json::from_slice(&examined.stdout).unwrap();
    let is_bad = |check: &&Value| check["verdict"] == "bad";
    let expected = if checks.iter().any(|check| is_bad(&check)) { 3 } else { 0 };
    assert_eq!(examined.status.code(), Some(expected), "{checks:?}");
    let names = checks.iter().filter(is_bad).map(|check| check["name"].as_str().unwrap().to_owned());
    names.filter(|name| name != "disk").collect()
}

/// A running `keelson up`.
pub struct Up {
    child: Child,
    lines: Receiver<String>,
    /// What it printed when it was ready.
    pub http: String,
    pub nats: String,
}

impl Up {
    /// Starts one on a free port in the place and waits until it says that it is ready.
    pub fn start(place: &Path) -> Self {
        Self::start_with(place, &[])
    }

    pub fn start_with(place: &Path, environment: &[(&str, &str)]) -> Self {
        let log = fs::File::create(place.join("log")).unwrap();
        let mut command = keelson(place);
        command.args(["up", "--http-addr", "127.0.0.1:0"]).envs(environment.iter().copied());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut up = Self { child, lines, http: String::new(), nats: String::new() };
        up.line(place, "Keelson is ready");
        up.http = up.line(place, "  HTTP");
        up.nats = up.line(place, "  NATS");
        up
    }

    /// Waits for a line that begins so; its last word.
    fn line(&self, place: &Path, begins: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|_| {
                panic!("no line {begins:?}; the log:\n{}", fs::read_to_string(place.join("log")).unwrap())
            });
            if line.starts_with(begins) {
                return line.split_whitespace().last().unwrap_or_default().to_owned();
            }
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// What a terminal does on Ctrl-C.
    pub fn signal_group(&self, signal: Signal) {
        kill(Pid::from_raw(-self.pid().as_raw()), signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Its nats-server; panics when there is none.
    pub fn nats_server(&self) -> Pid {
        self.try_nats_server().expect("it has a nats-server")
    }

    pub fn try_nats_server(&self) -> Option<Pid> {
        children(self.pid()).into_iter().find(|pid| is_nats_server(*pid))
    }
}

/// The processes that this one started and that still run.
pub fn children(of: Pid) -> Vec<Pid> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.map(Pid::from_raw).filter(|pid| parent(*pid) == Some(of)).collect()
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn alive(pid: Pid) -> bool {
    stat(pid).is_some_and(|stat| stat.first().is_some_and(|state| state != "Z" && state != "X"))
}

fn parent(pid: Pid) -> Option<Pid> {
    stat(pid)?.get(1)?.parse().ok().map(Pid::from_raw)
}

fn is_nats_server(pid: Pid) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // Through a shell where a script stands in for it; never the step in between, which is `keelson` still.
    let words: Vec<String> = line.split(|byte| *byte == 0).map(text).collect();
    words.iter().take(2).any(|word| word.ends_with("nats-server"))
}

/// The fields of /proc/PID/stat after the command's name: state, parent, …
fn stat(pid: Pid) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(ToOwned::to_owned).collect())
}
