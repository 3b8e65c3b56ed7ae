//! A real Alertmanager, as Debian ships it.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::place::free_port;
use crate::process::Process;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// One on loopback, without a cluster.
pub struct Alertmanager {
    _process: Process,
    _dir: tempfile::TempDir,
    url: String,
}

impl Alertmanager {
    /// Starts one with this configuration (YAML) and waits until it is ready.
    pub async fn start(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("alertmanager.yml"), config).expect("it can be written");
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus-alertmanager");
        command.current_dir(dir.path()).args(["--config.file=alertmanager.yml", "--storage.path=data"]);
        command.args([&format!("--web.listen-address={address}"), "--cluster.listen-address="]);
        let process = Process::spawn("alertmanager", command);
        let alertmanager = Self { _process: process, _dir: dir, url: format!("http://{address}") };
        alertmanager.ready().await;
        alertmanager
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The alerts that it has.
    pub async fn alerts(&self) -> Vec<Value> {
        let answer = reqwest::get(format!("{}/api/v2/alerts", self.url)).await.expect("an answer");
        answer.json().await.expect("a list of alerts")
    }

    /// Its alerts, once they are as `are` wants them.
    pub async fn alerts_when(
        &self,
        what: &str,
        patience: Duration,
        are: impl Fn(&[Value]) -> bool,
    ) -> Vec<Value> {
        let deadline = Instant::now() + patience;
        loop {
            let alerts = self.alerts().await;
            if are(&alerts) {
                return alerts;
            }
            assert!(Instant::now() < deadline, "Alertmanager's alerts are not {what}: {alerts:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn ready(&self) {
        let deadline = Instant::now() + READY_WITHIN;
        while !reqwest::get(format!("{}/-/ready", self.url)).await.is_ok_and(|answer| answer.status() == 200)
        {
            assert!(Instant::now() < deadline, "Alertmanager is not ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
