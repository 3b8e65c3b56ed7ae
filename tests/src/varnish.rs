//! A real Varnish with the VCL that is shipped, in front of an origin that serves every path alike.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use axum::Router;

use crate::binary::repository;
use crate::place::free_port;
use crate::process::Process;

const PATIENCE: Duration = Duration::from_secs(30);

/// It, and its origin.
pub struct Varnish {
    url: String,
    origin: String,
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Varnish {
    /// Starts both, and waits until Varnish listens.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("keelson-").tempdir().expect("a temporary directory");
        // Its worker process is another user's.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
        let (origin, port) = (origin().await, free_port());
        let (host, origin_port) = origin.rsplit_once(':').expect("a port");
        let vcl = format!(
            "vcl 4.1;\nbackend default {{ .host = \"{host}\"; .port = \"{origin_port}\"; }}\ninclude \"{}\";\n",
            repository().join("compose/varnish/keelson.vcl").display()
        );
        std::fs::write(dir.path().join("varnish.vcl"), vcl).expect("the VCL");
        let mut process = Process::spawn("varnishd", command(dir.path(), port));
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(process.ended().is_none(), "varnishd ended: {}", process.output());
            assert!(Instant::now() < deadline, "varnishd does not listen: {}", process.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (url, origin) = (format!("http://127.0.0.1:{port}"), format!("http://{origin}"));
        Self { url, origin, _process: process, _dir: dir }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its origin does.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

fn command(dir: &Path, port: u16) -> Command {
    // Daemons are not on everybody's PATH.
    let daemon = Path::new("/usr/sbin/varnishd");
    let mut command = Command::new(if daemon.exists() { daemon } else { Path::new("varnishd") });
    command.args(["-F", "-j", "none", "-s", "malloc,512m", "-a", &format!("127.0.0.1:{port}")]);
    command.arg("-n").arg(dir.join("work")).arg("-f").arg(dir.join("varnish.vcl"));
    command
}

/// Everything it serves has the ETag `"1"`.
async fn origin() -> String {
    let served = || async { ([("etag", "\"1\""), ("cache-control", "max-age=600")], "1") };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(served)).await });
    address
}
