//! Real servers for tests. Compiled for tests and under the feature `test-support`.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use uuid::Uuid;

use crate::bus::{Bus, BusOptions};
use crate::clock::Clock;
use crate::config::{ConfigSource, CoreConfig};
use crate::node::NodeId;
use crate::role::Context;
use crate::tasks::Tasks;

const READY_WITHIN: Duration = Duration::from_secs(10);
/// Below the ports that Linux gives to whoever asks for any (`net.ipv4.ip_local_port_range`, from 32768).
const PORTS: Range<u32> = 12_000..32_000;

/// What a role is given, by the clock of this machine, with nothing configured, under a supervisor of its own.
pub fn context(bus: &Bus) -> Context {
    let clock = Clock::system();
    Context {
        bus: bus.clone(),
        tasks: Tasks::new(clock.clone()),
        clock,
        node: NodeId::ephemeral(),
        core: Arc::new(CoreConfig::default()),
        config: ConfigSource::default(),
    }
}

/// A nats-server of one's own with JetStream, on a free port and in a fresh directory; gone when dropped.
#[derive(Debug)]
pub struct NatsServer {
    child: Option<Child>,
    port: u16,
    dir: PathBuf,
}

impl NatsServer {
    /// Starts the server named by KEELSON_NATS_SERVER, else the one in `.tools`, else the one on PATH.
    ///
    /// # Errors
    /// When there is none, or it does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("keelson-nats-{}", Uuid::new_v4()));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("nats-server.conf"), keelson_bus_config::NATS_SERVER_CONF)?;
        let mut server = Self { child: None, port: free_port()?, dir };
        server.resume_after_kill().await?;
        Ok(server)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where it keeps its streams.
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// A connection to it.
    ///
    /// # Errors
    /// When it cannot be connected to.
    pub async fn bus(&self) -> anyhow::Result<Bus> {
        Ok(Bus::connect(BusOptions::new(self.url(), "test")).await?)
    }

    /// A connection to it, once everything in bus-config exists there.
    ///
    /// # Errors
    /// When it cannot be connected to or prepared.
    pub async fn prepared_bus(&self) -> anyhow::Result<Bus> {
        let bus = self.bus().await?;
        crate::bus_admin::apply(&bus, crate::bus_admin::Permission::CreateOnly).await?;
        Ok(bus)
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port and directory.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn resume_after_kill(&mut self) -> anyhow::Result<()> {
        self.kill();
        let program = program();
        let log = std::fs::File::create(self.dir.join("log"))?;
        let child = Command::new(&program)
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string()])
            .arg("-c")
            .arg(self.dir.join("nats-server.conf"))
            .arg("-sd")
            .arg(self.dir.join("store"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        self.child = Some(child);
        self.ready().await
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let exited = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if exited.is_some() || started.elapsed() > READY_WITHIN {
                let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                bail!("nats-server did not come up: {log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn program() -> PathBuf {
    let named = std::env::var_os("KEELSON_NATS_SERVER").map(PathBuf::from);
    let fetched = || {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .flat_map(|dir| [dir.join(".tools/nats-server"), dir.join(".tools/bin/nats-server")])
            .find(|path| path.is_file())
    };
    named.or_else(fetched).unwrap_or_else(|| "nats-server".into())
}

/// A port that nobody listens on at this moment, nor is given by the system to others before it is used: it lies below those
/// that Linux hands out by itself, and each process begins elsewhere.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(97);
    let ports = PORTS.end - PORTS.start;
    let mut tried = (0..ports).map(|_| PORTS.start + begin.wrapping_add(TAKEN.fetch_add(1, Relaxed)) % ports);
    let free = tried.find_map(|port| {
        let port = u16::try_from(port).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|_| port)
    });
    free.context("no port is free")
}
