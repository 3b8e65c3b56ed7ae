//! A real Prometheus, as Debian ships it.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::place::free_port;
use crate::process::Process;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// One on loopback.
pub struct Prometheus {
    _process: Process,
    _dir: tempfile::TempDir,
    url: String,
    http: reqwest::Client,
}

impl Prometheus {
    /// Starts one with this configuration and these rules (YAML), which the configuration names `rules.yml`.
    pub fn start(config: &str, rules: &str) -> Self {
        Self::start_with(config, rules, &["--enable-feature=native-histograms"])
    }

    /// The same, which reads classic histograms, as it does unless it is told otherwise.
    pub fn start_as_shipped(config: &str, rules: &str) -> Self {
        Self::start_with(config, rules, &[])
    }

    fn start_with(config: &str, rules: &str, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("prometheus.yml"), config).expect("it can be written");
        std::fs::write(dir.path().join("rules.yml"), rules).expect("it can be written");
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus");
        command.current_dir(dir.path()).arg("--config.file=prometheus.yml").arg("--storage.tsdb.path=data");
        command.arg(format!("--web.listen-address={address}")).args(more);
        let process = Process::spawn("prometheus", command);
        Self { _process: process, _dir: dir, url: format!("http://{address}"), http: reqwest::Client::new() }
    }

    /// An answer of its API; nothing while it does not answer.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let url = reqwest::Url::parse_with_params(&format!("{}{path}", self.url), query).expect("a URL");
        self.http.get(url).send().await.ok()?.json().await.ok()
    }

    /// The value of a query, if it has one.
    pub async fn value(&self, query: &str) -> Option<String> {
        let answer = self.get("/api/v1/query", &[("query", query)]).await?;
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    }

    /// Waits until a query has this value.
    pub async fn wait_for(&self, query: &str, expected: &str) {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let value = self.value(query).await;
            if value.as_deref() == Some(expected) {
                return;
            }
            assert!(Instant::now() < deadline, "{query} is {value:?}, not {expected}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The part of a configuration that scrapes Keelson at `url` with its token.
pub fn scrapes(url: &str, every: &str, token: &str) -> String {
    let target = url.replace("http://", "");
    format!(
        "scrape_configs:\n- job_name: keelson\n  scrape_interval: {every}\n  metrics_path: /api/monitoring/prometheus\n  authorization: {{credentials: {token}}}\n  static_configs: [{{targets: ['{target}']}}]\n"
    )
}
