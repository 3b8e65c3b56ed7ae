//! A nats-server of the test's own, with the configuration that is shipped.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use async_nats::jetstream;

use crate::binary;
use crate::place::free_port;
use crate::process::Process;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that can be killed and comes back on the same port with the same store.
pub struct NatsServer {
    dir: tempfile::TempDir,
    port: u16,
    process: Option<Process>,
}

impl NatsServer {
    /// Starts one with an empty store.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("keelson-nats-").tempdir().expect("a temporary directory");
        let mut server = Self { dir, port: free_port(), process: None };
        server.restart().await;
        server
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its process; panics while there is none.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server runs")
    }

    /// Sends SIGKILL and waits until it has gone.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it (again) and waits until it listens.
    pub async fn restart(&mut self) {
        self.process = None;
        let mut process = Process::spawn("nats-server", self.command());
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(process.ended().is_none(), "nats-server ended: {}", process.output());
            assert!(Instant::now() < deadline, "nats-server does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.process = Some(process);
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binary::nats_server());
        command.arg("--config").arg(shipped_configuration());
        command.args(["--addr", "127.0.0.1", "--port", &self.port.to_string(), "--name", "tests"]);
        command.arg("--store_dir").arg(self.dir.path());
        command
    }
}

/// Connects as a foreign client would.
pub async fn connect(url: &str) -> async_nats::Client {
    async_nats::connect(url).await.unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// JetStream as a foreign client sees it.
pub async fn jetstream(url: &str) -> jetstream::Context {
    jetstream::new(connect(url).await)
}

/// How many messages lie on a stream.
pub async fn messages_on(url: &str, stream: &str) -> u64 {
    let stream =
        jetstream(url).await.get_stream(stream).await.unwrap_or_else(|error| panic!("{stream}: {error}"));
    stream.cached_info().state.messages
}

fn shipped_configuration() -> PathBuf {
    binary::repository().join("bus-config/nats-server.conf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_killed_server_comes_back_with_what_it_had_acknowledged() {
        let mut server = NatsServer::start().await;
        let config = jetstream::stream::Config { name: "A".into(), ..Default::default() };
        let jetstream = jetstream(&server.url()).await;
        jetstream.create_stream(config).await.expect("a stream");
        for _ in 0..100 {
            jetstream.publish("A", "x".into()).await.expect("sent").await.expect("stored");
        }
        server.kill();
        server.restart().await;
        assert_eq!(messages_on(&server.url(), "A").await, 100);
    }
}
