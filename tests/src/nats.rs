//! A nats-server of the test's own, with the configuration that is shipped.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use bytes::Bytes;
use futures::StreamExt;

use crate::binary;
use crate::place::free_port;
use crate::process::Process;
use crate::wire::Wire;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that can be killed and comes back on the same port with the same store.
pub struct NatsServer {
    dir: tempfile::TempDir,
    port: u16,
    process: Option<Process>,
    /// The passwords of its users, where it knows users.
    passwords: Vec<(String, String)>,
}

impl NatsServer {
    /// Starts one with an empty store.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("keelson-nats-").tempdir().expect("a temporary directory");
        let mut server = Self { dir, port: free_port(), process: None, passwords: Vec::new() };
        server.restart().await;
        server
    }

    /// Starts one with the configuration that has a user for each role, whose passwords are made up here.
    pub async fn start_secured() -> Self {
        let dir = tempfile::Builder::new().prefix("keelson-nats-").tempdir().expect("a temporary directory");
        let passwords = users().into_iter().map(|user| (user, format!("k{:032x}", rand::random::<u128>())));
        let mut server = Self { dir, port: free_port(), process: None, passwords: passwords.collect() };
        server.restart().await;
        server
    }

    /// The password of a user.
    pub fn password(&self, user: &str) -> &str {
        let known = self.passwords.iter().find(|(name, _)| name == user);
        &known.unwrap_or_else(|| panic!("there is no user {user}")).1
    }

    /// What a process has to be told to be this user.
    pub fn environment(&self, user: &str) -> [(&'static str, String); 4] {
        [
            ("NATS_URL", self.url()),
            ("NATS_USER", user.to_owned()),
            ("NATS_PASSWORD", self.password(user).to_owned()),
            ("NATS_INBOX_PREFIX", format!("_INBOX_{user}")),
        ]
    }

    /// A connection of a user, as it is on the wire.
    pub async fn wire(&self, user: &str) -> Wire {
        let address = format!("127.0.0.1:{}", self.port);
        let wire = Wire::connect(&address, Some((user, self.password(user)))).await;
        wire.unwrap_or_else(|error| panic!("{user}: {error}"))
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
        let secured = !self.passwords.is_empty();
        command.arg("--config").arg(if secured { secured_configuration() } else { shipped_configuration() });
        command.envs(self.passwords.iter().map(|(user, password)| (password_variable(user), password)));
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

/// What lies on the subjects of a stream.
pub async fn stored(url: &str, stream: &str, subject: &str) -> Vec<Bytes> {
    let stream = jetstream(url).await.get_stream(stream).await.expect("the stream");
    let config = pull::Config {
        filter_subject: subject.to_owned(),
        ack_policy: AckPolicy::None,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.expect("a consumer");
    let stored = usize::try_from(consumer.cached_info().num_pending).expect("fits");
    let messages = consumer.messages().await.expect("its messages").take(stored);
    messages.map(|message| message.expect("a message").payload.clone()).collect().await
}

fn shipped_configuration() -> PathBuf {
    binary::repository().join("bus-config/nats-server.conf")
}

/// The configuration with a user for each role.
pub fn secured_configuration() -> PathBuf {
    binary::repository().join("bus-config/nats-server.secure.conf")
}

/// The users in it.
pub fn users() -> Vec<String> {
    let text = std::fs::read_to_string(secured_configuration()).expect("the configuration");
    let users = text.lines().filter_map(|line| line.trim().strip_prefix("user: "));
    users.map(|line| line.split(',').next().unwrap_or_default().to_owned()).collect()
}

/// The environment variable from which the server has a user's password.
pub fn password_variable(user: &str) -> String {
    format!("KEELSON_NATS_{}_PASSWORD", user.to_uppercase())
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
