//! A child process whose output is kept, and which never outlives the test that started it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How many of the last lines are shown when a test fails.
const SHOWN_LINES: usize = 60;

/// A running (or ended) child.
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts `command`. To be called on a thread that lives as long as the test, because the child dies with it.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        die_with_parent(&mut command);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let file = format!("{name}-{}.log", child.id());
        keep_lines(child.stdout.take().expect("piped"), log.clone(), &file);
        keep_lines(child.stderr.take().expect("piped"), log.clone(), &file);
        Self { name: name.to_owned(), child, log }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid is positive"))
    }

    /// Sends SIGKILL to this process alone and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends any signal to this process alone.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|error| panic!("{signal} to {}: {error}", self.name));
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    /// Waits until it has ended, for at most `patience`.
    pub async fn end(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.ended();
            if ended.is_some() || Instant::now() >= deadline {
                return ended;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends SIGTERM and waits for the end; a process that does not drain within `patience` fails the test.
    pub async fn terminate(&mut self, patience: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let ended = self.end(patience).await;
        ended.unwrap_or_else(|| panic!("{} did not end within {patience:?} of SIGTERM", self.name))
    }

    /// Waits for a line of output in which `find` finds something.
    pub async fn line<T>(&mut self, patience: Duration, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = self.log.lock().expect("log").iter().find_map(|line| find(line)) {
                return found;
            }
            assert!(self.ended().is_none(), "{} ended: {}", self.name, self.output());
            assert!(Instant::now() < deadline, "{} did not say what was expected of it", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Everything it wrote so far.
    pub fn output(&self) -> String {
        self.log.lock().expect("log").join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log.lock().expect("log");
            let from = log.len().saturating_sub(SHOWN_LINES);
            eprintln!("--- the last lines of {} ---\n{}", self.name, log[from..].join("\n"));
        }
    }
}

/// Processes that were started by process `pid`, with their command lines.
pub fn children_of(pid: Pid) -> Vec<(Pid, Vec<String>)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let pids: Vec<i32> = lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    pids.into_iter().map(|pid| (Pid::from_raw(pid), command_line(pid))).collect()
}

/// Whether a process of this number runs (a zombie does not).
pub fn is_running(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Resident memory in bytes.
pub fn resident_bytes(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("VmRSS in kB") * 1024
}

/// Seconds of one core that it has used since it began.
pub fn cpu_seconds(pid: Pid) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (_, rest) = stat.rsplit_once(") ").expect("the process runs");
    // utime and stime, fields 14 and 15 of proc(5), in ticks.
    let ticks = rest.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks"));
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().expect("CLK_TCK");
    ticks.sum::<u64>() as f64 / per_second as f64
}

fn command_line(pid: i32) -> Vec<String> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split_terminator('\0').map(str::to_owned).collect()
}

/// Keeps what is written, in memory; and in a file as well where KEELSON_TEST_LOGS names a folder for them.
fn keep_lines(pipe: impl Read + Send + 'static, log: Arc<Mutex<Vec<String>>>, file: &str) {
    let folder = std::env::var_os("KEELSON_TEST_LOGS").map(PathBuf::from);
    let open = |folder: PathBuf| File::options().create(true).append(true).open(folder.join(file));
    let mut file = folder.map(|folder| open(folder).expect("KEELSON_TEST_LOGS can be written"));
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some(file) = &mut file {
                writeln!(file, "{line}").expect("KEELSON_TEST_LOGS can be written");
            }
            log.lock().expect("log").push(line);
        }
    });
}

#[expect(unsafe_code, reason = "std offers no other way to ask for the signal between fork and exec")]
fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl(2) is async-signal-safe, and nothing else happens between fork and exec.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
    }
}
