//! A mongod of the test's own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bson::{Document, doc};
use keelson_kit::config::Secret;
use keelson_kit::testing::free_port;
use mongodb::Client;

const READY_WITHIN: Duration = Duration::from_secs(60);

/// A server with an empty database; gone when dropped.
pub struct Mongod {
    process: Child,
    dir: tempfile::TempDir,
    port: u16,
    replica_set: bool,
}

impl Mongod {
    /// A replica set of one.
    pub async fn replica_set() -> Self {
        let mongod = Self::start(true);
        let client = mongod.client().await;
        let member = doc! { "_id": 0, "host": format!("127.0.0.1:{}", mongod.port) };
        let initiate = doc! { "replSetInitiate": { "_id": "rs0", "members": [member] } };
        until(async || client.database("admin").run_command(initiate.clone()).await.is_ok()).await;
        mongod.writable().await;
        mongod
    }

    /// One without an oplog.
    pub async fn standalone() -> Self {
        let mongod = Self::start(false);
        mongod.writable().await;
        mongod
    }

    fn start(replica_set: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("keelson-mongod-").tempdir().unwrap();
        let port = free_port().unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(program());
        command.arg("--dbpath").arg(dir.path()).args(["--bind_ip", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64", "--nounixsocket"]);
        // Or it takes 300 MB of disk before it has a document.
        command.args(["--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=8MB)"]);
        // So that a hash can be had of the state at a time that is past.
        command.args(["--setParameter", "enableTestCommands=1"]);
        if replica_set {
            command.args(["--replSet", "rs0"]);
        }
        let process = command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn();
        let process = process.unwrap_or_else(|error| {
            panic!("{}: {error}; `compose/tools/setup tests` fetches it", program().display())
        });
        Self { process, dir, port, replica_set }
    }

    /// Its address.
    pub fn uri(&self) -> Secret {
        Secret::from(format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port))
    }

    /// A foreign client of it.
    pub async fn client(&self) -> Client {
        Client::with_uri_str(self.uri().expose()).await.unwrap()
    }

    /// Runs a command on it.
    pub async fn run(&self, database: &str, command: Document) -> Document {
        let what = command.to_string();
        let ran = self.client().await.database(database).run_command(command).await;
        ran.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// The hash of every collection of a database, now or at a time that is past.
    pub async fn hashes(&self, database: &str, at: Option<bson::Timestamp>) -> Document {
        let mut command = doc! { "dbHash": 1 };
        if let Some(at) = at {
            command.insert("$_internalReadAtClusterTime", at);
        }
        self.run(database, command).await.get_document("collections").unwrap().clone()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Waits until it can be written.
    pub async fn writable(&self) {
        let client = self.client().await;
        until(async || {
            let hello = client.database("admin").run_command(doc! { "hello": 1 }).await;
            hello.is_ok_and(|hello| {
                hello.get_bool("isWritablePrimary").unwrap_or(false)
                    && hello.contains_key("setName") == self.replica_set
            })
        })
        .await;
    }

    /// Where it keeps its data.
    #[allow(dead_code, reason = "for who looks into a failing test")]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until something is so.
pub async fn until(mut so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !so().await {
        assert!(started.elapsed() < READY_WITHIN, "it takes too long");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The executable.
pub fn program() -> PathBuf {
    let named = std::env::var_os("KEELSON_MONGOD").map(PathBuf::from);
    let fetched = || {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        root.map(|dir| dir.join(".tools/mongod")).find(|path| path.is_file())
    };
    named.or_else(fetched).unwrap_or_else(|| "mongod".into())
}
