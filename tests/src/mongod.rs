//! A mongod of the test's own, and what pymongo says of it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::binary;
use crate::place::free_port;
use crate::process::Process;

const PATIENCE: Duration = Duration::from_secs(60);

/// A replica set of one, with an empty database.
pub struct Mongod {
    dir: tempfile::TempDir,
    port: u16,
    _process: Process,
}

impl Mongod {
    /// Starts one and waits until it can be written.
    pub async fn start() -> Self {
        let dir =
            tempfile::Builder::new().prefix("keelson-mongod-").tempdir().expect("a temporary directory");
        let port = free_port();
        let mut command = Command::new(program());
        command.arg("--dbpath").arg(dir.path()).arg("--logpath").arg(dir.path().join("log"));
        command.args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--port", &port.to_string()]);
        command.args(["--replSet", "rs0", "--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25"]);
        // Or it takes 300 MB of disk before it has a document.
        command.args(["--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=8MB)"]);
        let mongod = Self { dir, port, _process: Process::spawn("mongod", command) };
        mongod.listens().await;
        mongod.pymongo("init");
        mongod
    }

    /// Its address.
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port)
    }

    /// What `tests/foreign/mongo.py` finds there.
    pub fn pymongo(&self, command: &str) -> Value {
        pymongo(command, &self.uri())
    }

    async fn listens(&self) {
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "mongod does not listen: {}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Runs `tests/foreign/mongo.py`, which knows nothing of Keelson.
pub fn pymongo(command: &str, about: &str) -> Value {
    let python = tool("python/bin/python");
    let script = binary::repository().join("tests/foreign/mongo.py");
    let output = Command::new(python).arg(script).args([command, about]).output().expect("Python runs");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "mongo.py {command}: {complaint}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The executable.
pub fn program() -> PathBuf {
    std::env::var_os("KEELSON_MONGOD").map_or_else(|| tool("mongod"), PathBuf::from)
}

fn tool(path: &str) -> PathBuf {
    let path = binary::repository().join(".tools").join(path);
    assert!(path.exists(), "there is no {}: `compose/tools/setup tests` fetches it", path.display());
    path
}
