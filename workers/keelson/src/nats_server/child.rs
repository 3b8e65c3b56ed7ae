//! The running child: one thread starts it, waits for it, and starts it again when it ends unasked.
//!
//! The thread lives as long as there is a child to wait for, because the leash is tied to the thread that forked, not to the process.
//! The port stays the same over restarts, so that clients find their way back by themselves.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tracing::{info, warn};

use super::leash::leashed;
use super::locate::Executable;
use crate::data_dir::{DataDir, Lock};

/// How long the server may take to read its store before we say that it does not come up.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Ends before it was ever ready: after this many, what is wrong will not pass.
const MAX_FAILED_STARTS: u32 = 3;
/// The first wait before a start after an end; it doubles with every end in a row.
const FIRST_RESTART_AFTER: Duration = Duration::from_millis(50);
const LONGEST_RESTART_AFTER: Duration = Duration::from_secs(2);
/// A server that ran this long starts again after the first wait.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// How long a server that was told to stop may write before it is killed; its store bears that, too.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// The log is started anew at the next start once it is longer than this.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;
const LAST_LINES: usize = 5;

/// What to run, and where.
#[derive(Debug)]
pub struct Settings {
    /// The server to run.
    pub executable: Executable,
    /// The text of its configuration file; address, port, name and store are given beside it.
    pub configuration: String,
    /// Where its store is.
    pub data_dir: DataDir,
}

/// A private nats-server. Dropping it stops it.
#[derive(Debug)]
pub struct NatsServer {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Launch {
    program: PathBuf,
    place: PathBuf,
    name: String,
    lock: Lock,
}

#[derive(Debug)]
struct Shared {
    port: AtomicU16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pid: Option<Pid>,
    stopping: bool,
    been_ready: bool,
    failed_starts: u32,
}

impl NatsServer {
    /// Starts the server and waits until it serves JetStream. It takes over the right to the data directory.
    ///
    /// # Errors
    /// When it does not come up, with the last lines of its log.
    pub async fn start(settings: Settings, lock: Lock) -> anyhow::Result<Self> {
        let launch = Launch::prepare(settings, lock)?;
        let (place, name) = (launch.place.clone(), launch.name.clone());
        let shared = Arc::new(Shared {
            port: AtomicU16::new(free_port()?),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let keeper = thread::Builder::new().name("nats-server".into()).spawn({
            let shared = shared.clone();
            move || shared.keep(&launch)
        })?;
        let server = Self { shared, keeper: Some(keeper) };
        server.ready(&name).await.with_context(|| last_lines(&place))?;
        Ok(server)
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("nats://{}", self.shared.address())
    }

    /// Tells it to stop and waits until it has gone.
    pub fn stop(self) {
        drop(self);
    }

    /// Ends it at once. Its store bears that.
    pub fn kill(self) {
        self.shared.stop(Duration::ZERO);
    }

    async fn ready(&self, name: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        while Instant::now() < deadline {
            if serves(self.shared.address(), name).await {
                self.shared.state().been_ready = true;
                return Ok(());
            }
            if self.shared.state().failed_starts >= MAX_FAILED_STARTS {
                bail!("nats-server ended {MAX_FAILED_STARTS} times before it was ready");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("nats-server was not ready within {} s", START_PATIENCE.as_secs())
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.shared.stop(STOP_PATIENCE);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

impl Shared {
    /// The life of the keeper's thread.
    fn keep(&self, launch: &Launch) {
        let mut wait = FIRST_RESTART_AFTER;
        loop {
            let started = Instant::now();
            match self.spawn(launch) {
                Ok(None) => return,
                Ok(Some(child)) => self.see_out(child),
                Err(error) => self.ended(&format!("could not be started: {error}")),
            }
            wait = if started.elapsed() >= STABLE_AFTER { FIRST_RESTART_AFTER } else { wait };
            if self.stopped_within(wait) {
                return;
            }
            wait = (wait * 2).min(LONGEST_RESTART_AFTER);
        }
    }

    /// Starts a child, unless it is time to stop. Both are decided under one lock, so that no child is missed by a stop.
    fn spawn(&self, launch: &Launch) -> io::Result<Option<Child>> {
        let mut state = self.state();
        if state.stopping {
            return Ok(None);
        }
        let child = launch.spawn(self.port.load(Ordering::Relaxed))?;
        state.pid = i32::try_from(child.id()).ok().map(Pid::from_raw);
        Ok(Some(child))
    }

    /// Waits for the child's end. It is reaped only after its number has been forgotten, so that no signal can reach a stranger.
    fn see_out(&self, mut child: Child) {
        if let Some(pid) = self.pid() {
            while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::Error::EINTR)
            {
            }
        }
        self.state().pid = None;
        let end = child.wait().map_or_else(|error| error.to_string(), describe);
        self.ended(&end);
    }

    fn ended(&self, how: &str) {
        let mut state = self.state();
        self.changed.notify_all();
        if state.stopping {
            info!("nats-server has stopped");
        } else if state.been_ready {
            warn!("nats-server {how}; it is started again, its data is kept");
        } else {
            state.failed_starts += 1;
            // Somebody may have taken the port between our choice and the server's bind.
            if let Ok(port) = free_port() {
                self.port.store(port, Ordering::Relaxed);
            }
        }
    }

    fn stopped_within(&self, wait: Duration) -> bool {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, wait, |state| !state.stopping);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }

    /// Tells the child to stop, and kills it when it has not done so in time.
    fn stop(&self, patience: Duration) {
        let mut state = self.state();
        state.stopping = true;
        self.changed.notify_all();
        if let Some(pid) = state.pid {
            let _ = kill(pid, Signal::SIGTERM);
        }
        let waited = self.changed.wait_timeout_while(state, patience, |state| state.pid.is_some());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = state.pid {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.load(Ordering::Relaxed)).into()
    }

    fn pid(&self) -> Option<Pid> {
        self.state().pid
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Launch {
    fn prepare(settings: Settings, lock: Lock) -> anyhow::Result<Self> {
        let place = settings.data_dir.nats();
        fs::create_dir_all(place.join("store"))
            .with_context(|| format!("cannot make {}", place.display()))?;
        fs::write(place.join("nats-server.conf"), &settings.configuration)
            .with_context(|| format!("cannot write in {}", place.display()))?;
        // Unique to this process: what answers on the port with this name is our child and nobody else's.
        let name = format!("keelson-{}-{:08x}", std::process::id(), rand::random::<u32>());
        Ok(Self { program: settings.executable.path, place, name, lock })
    }

    fn spawn(&self, port: u16) -> io::Result<Child> {
        let log = open_log(&self.place)?;
        self.command(port)
            // The lock rides on standard input, which the server does not read: held open, held taken.
            .stdin(Stdio::from(self.lock.share()?))
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            // Ctrl-C goes to the whole group of the terminal; the server must outlast our draining.
            .process_group(0)
            .spawn()
    }

    fn command(&self, port: u16) -> Command {
        let mut command = leashed(&self.program);
        command.arg("--config").arg(self.place.join("nats-server.conf"));
        command.arg("--addr").arg(Ipv4Addr::LOCALHOST.to_string());
        command.arg("--port").arg(port.to_string());
        command.arg("--name").arg(&self.name);
        command.arg("--store_dir").arg(self.place.join("store"));
        command
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Whether the server of this name serves JetStream there. Every nats-server begins a connection with `INFO {…}`.
async fn serves(address: SocketAddr, name: &str) -> bool {
    let Ok(Ok(info)) = tokio::time::timeout(Duration::from_secs(1), first_line(address)).await else {
        return false;
    };
    let info =
        info.strip_prefix("INFO ").and_then(|json| serde_json::from_str::<serde_json::Value>(json).ok());
    info.is_some_and(|info| info["server_name"] == name && info["jetstream"] == true)
}

async fn first_line(address: SocketAddr) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(TcpStream::connect(address).await?).read_line(&mut line).await?;
    Ok(line)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

fn open_log(place: &Path) -> io::Result<File> {
    let path = place.join("nats-server.log");
    let long = fs::metadata(&path).is_ok_and(|log| log.len() > MAX_LOG_BYTES);
    if long {
        fs::rename(&path, place.join("nats-server.log.1"))?;
    }
    OpenOptions::new().append(true).create(true).open(path)
}

fn last_lines(place: &Path) -> String {
    let path = place.join("nats-server.log");
    let log = fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
    format!("the private nats-server did not start; the last lines of {}:\n  {last}\n", path.display())
}
