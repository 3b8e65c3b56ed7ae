//! Where one deployment lives: a directory, ports, a configuration, an environment.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::binary;

/// The bearer token of the tests, and what the configuration knows of it. It may do everything.
pub const TOKEN: &str = "keelson-tests";
const TOKEN_SHA256: &str = "f27c000938e5877d18b75061b930e77471c735b882310f3d749fb0b3099c9abe";

/// Below the ports that Linux gives to whoever asks for any (`net.ipv4.ip_local_port_range`, from 32768).
const PORTS: Range<u16> = 12_000..32_000;

/// A directory that goes away, a port for HTTP, and what processes started here are told.
pub struct Place {
    dir: tempfile::TempDir,
    http_port: u16,
    token: bool,
    env: Vec<(String, String)>,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// A fresh one, in which the token of the tests is known.
    pub fn new() -> Self {
        let place = Self { token: true, ..Self::without_token() };
        let tokens =
            format!("[[auth.tokens]]\nid = \"tests\"\nsha256 = \"{TOKEN_SHA256}\"\nscopes = [\"admin\"]\n");
        std::fs::write(place.config(), tokens).expect("the temporary directory can be written");
        place
    }

    /// A fresh one with no configuration at all.
    pub fn without_token() -> Self {
        let dir = tempfile::Builder::new().prefix("keelson-").tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("keelson.toml"), "").expect("the temporary directory can be written");
        Self { dir, http_port: free_port(), token: false, env: Vec::new() }
    }

    /// Sets an environment variable for all that is started here.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Adds to the configuration.
    #[must_use]
    pub fn configured(self, toml: &str) -> Self {
        let config = std::fs::read_to_string(self.config()).expect("the configuration");
        std::fs::write(self.config(), format!("{toml}\n{config}")).expect("the configuration");
        self
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where processes keep their data.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Where HTTP is, across restarts.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// The command that runs `executable` here. The environment of the test itself is kept out, so that a developer's settings change nothing.
    pub fn command(&self, executable: &Path) -> Command {
        let mut command = Command::new(executable);
        command.current_dir(self.path()).env_clear();
        for kept in ["PATH", "HOME"] {
            command.envs(std::env::var_os(kept).map(|value| (kept, value)));
        }
        command.env("KEELSON_NATS_SERVER", binary::nats_server());
        command.env("KEELSON_CONFIG", self.config());
        command.env("KEELSON_DATA_DIR", self.data());
        command.env("KEELSON_HTTP_ADDR", format!("127.0.0.1:{}", self.http_port));
        command.env("NO_COLOR", "1").env("KEELSON_URL", self.url());
        if self.token {
            command.env("KEELSON_TOKEN", TOKEN);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn config(&self) -> PathBuf {
        self.path().join("keelson.toml")
    }
}

/// A port that nobody listens on at this moment, nor is given by the system to others before it is used, or while who uses it
/// is dead: it lies below those that Linux hands out by itself, and each process begins elsewhere.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(97);
    let ports = u32::from(PORTS.end - PORTS.start);
    let next = || (begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % ports) as u16 + PORTS.start;
    let mut tried = std::iter::repeat_with(next).take(ports as usize);
    tried.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).expect("a free port")
}
