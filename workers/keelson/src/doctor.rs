//! `keelson doctor`: one check after another, each with what it found and what to do.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use keelson_bus_config::BusConfig;
use keelson_kit::bus::Bus;
use keelson_kit::bus_admin;
use keelson_kit::config::{Config, CoreConfig};
use nix::sys::statvfs::statvfs;
use reqwest::StatusCode;
use serde::Serialize;

use crate::data_dir::{DataDir, Running};
use crate::global::Global;
use crate::nats_server::locate;
use crate::output::{Exit, say, say_json};
use crate::process::bus_options;

/// The check of free space.
const DISK: &str = "disk";
/// Below this the streams will soon refuse.
const LITTLE_SPACE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// `keelson doctor`
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 all is well, 3 something is not; each check says what to do.")]
pub struct Doctor {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What one check found.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    Bad,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Good, found: found.into(), advice: None }
    }

    fn bad(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Bad, found: found.into(), advice: Some(advice.into()) }
    }
}

impl Doctor {
    /// Checks everything that can be checked, whatever else is wrong.
    ///
    /// # Errors
    /// Never for what is found: that is the result.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let checks = examine(global).await;
        if self.json {
            say_json(&checks)?;
        } else {
            checks.iter().for_each(tell);
        }
        let well = checks.iter().all(|check| check.verdict == Verdict::Good);
        Ok(if well { Exit::Done } else { Exit::Findings })
    }
}

fn tell(check: &Check) {
    let sign = if check.verdict == Verdict::Good { "ok " } else { "BAD" };
    say(&format!("{sign}  {:<15} {}", check.name, check.found));
    if let Some(advice) = &check.advice {
        say(&format!("     {:<15} -> {advice}", ""));
    }
}

async fn examine(global: &Global) -> Vec<Check> {
    let config = match global.config(Vec::new()) {
        Ok(config) => config,
        Err(errors) => {
            return vec![Check::bad(
                "configuration",
                errors.to_string(),
                "mend these keys; `keelson config check` checks again",
            )];
        }
    };
    let data_dir = DataDir::new(config.core.data_dir.clone());
    let running = data_dir.running();
    let mut checks = vec![
        Check::good("configuration", "is right"),
        nats_server(&config),
        directory(&data_dir),
        space(data_dir.path()),
    ];
    checks.push(http(&config.core, running.as_ref()).await);
    checks.extend(bus(&config.core, running.as_ref()).await);
    if let Some(running) = &running {
        checks.push(roles(running, &data_dir).await);
    }
    checks
}

fn nats_server(config: &Config) -> Check {
    const NAME: &str = "nats-server";
    if let Some(url) = shown_url(config) {
        return Check::good(NAME, format!("none is needed here: NATS_URL is {url}"));
    }
    match locate(config.core.nats.server.as_deref()) {
        Ok(found) => Check::good(NAME, format!("{} at {}", found.version, found.path.display())),
        Err(error) => Check::bad(NAME, format!("{error:#}"), "run `make tools`, or set KEELSON_NATS_SERVER"),
    }
}

/// NATS_URL without what is secret in it.
fn shown_url(config: &Config) -> Option<String> {
    let setting = config.settings().iter().find(|setting| setting.key == "nats.url")?;
    setting.value.as_str().map(ToOwned::to_owned)
}

fn directory(data_dir: &DataDir) -> Check {
    const NAME: &str = "data directory";
    let shown = data_dir.path().display();
    let probe = data_dir.path().join(".doctor");
    if !data_dir.path().exists() {
        return Check::good(NAME, format!("{shown} does not exist yet; `keelson up` makes it"));
    }
    match fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)) {
        Ok(()) => Check::good(NAME, format!("{shown} can be written")),
        Err(error) => Check::bad(
            NAME,
            format!("{shown} cannot be written: {error}"),
            "give this user the right to write there, or set KEELSON_DATA_DIR",
        ),
    }
}

fn space(path: &Path) -> Check {
    let existing = path
        .ancestors()
        .map(|place| if place.as_os_str().is_empty() { Path::new(".") } else { place })
        .find(|place| place.exists());
    let Some(Ok(stat)) = existing.map(statvfs) else {
        return Check::bad(DISK, "the free space is not known", "look with `df`");
    };
    room(stat.blocks_available() * stat.fragment_size(), streams_bytes())
}

/// Whether what is free is enough for streams that may grow so large.
fn room(free_bytes: u64, streams_bytes: u64) -> Check {
    let found = format!(
        "{:.1} GB are free; the streams may grow to {:.1} GB in all",
        gigabytes(free_bytes),
        gigabytes(streams_bytes)
    );
    if free_bytes < LITTLE_SPACE_BYTES {
        return Check::bad(DISK, found, "make room, or put KEELSON_DATA_DIR on a larger disk");
    }
    Check::good(DISK, found)
}

fn streams_bytes() -> u64 {
    BusConfig::load().map_or(0, |config| config.streams.iter().map(|stream| stream.max_bytes).sum())
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

async fn http(core: &CoreConfig, running: Option<&Running>) -> Check {
    const NAME: &str = "http";
    let Some(running) = running else {
        return match TcpListener::bind(core.http.addr) {
            Ok(_) => Check::good(
                NAME,
                format!("{} is free; `keelson up` does not run on this data directory", core.http.addr),
            ),
            Err(error) => Check::bad(
                NAME,
                format!("{}: {error}", core.http.addr),
                "stop what listens there, or choose another address with KEELSON_HTTP_ADDR",
            ),
        };
    };
    match reqwest::get(format!("{}/readyz", running.http)).await {
        Ok(answer) if answer.status().is_success() => {
            Check::good(NAME, format!("{} is ready (process {})", running.http, running.pid))
        }
        Ok(answer) => {
            let status = answer.status();
            let why = answer.text().await.unwrap_or_default();
            Check::bad(
                NAME,
                format!("{} is not ready ({status}): {why}", running.http),
                "read the log of `keelson up`",
            )
        }
        Err(error) => Check::bad(
            NAME,
            format!("{} does not answer: {error}", running.http),
            "read the log of `keelson up`",
        ),
    }
}

/// The export is asked of the owner of every partition: an answer says that all of them are there.
async fn roles(running: &Running, data_dir: &DataDir) -> Check {
    const NAME: &str = "roles";
    const LOG: &str =
        "read the log of `keelson up`; on a bus of yours, see that `keelson run metrics` runs somewhere";
    let export = reqwest::Client::new().get(format!("{}/api/monitoring/prometheus", running.http));
    let token = std::env::var("KEELSON_TOKEN").ok().or_else(|| data_dir.admin_token());
    let export = if let Some(token) = token { export.bearer_auth(token) } else { export };
    match export.timeout(PATIENCE).send().await {
        Ok(answer) if answer.status().is_success() => {
            Check::good(NAME, "every partition of telemetry has an owner")
        }
        Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
            Check::bad(NAME, "cannot be seen without a token", "set KEELSON_TOKEN to one with the scope read")
        }
        Ok(answer) => {
            let status = answer.status();
            Check::bad(NAME, format!("{status}: {}", answer.text().await.unwrap_or_default()), LOG)
        }
        Err(error) => Check::bad(NAME, error.to_string(), LOG),
    }
}

async fn bus(core: &CoreConfig, running: Option<&Running>) -> Option<Check> {
    const NAME: &str = "bus";
    let url = core.nats.url.clone().or_else(|| Some(running?.nats.clone()))?;
    let options = keelson_kit::bus::BusOptions { connect_within: None, ..bus_options(core, url, "doctor") };
    let bus = match Bus::connect(options).await {
        Ok(bus) => bus,
        Err(error) => return Some(Check::bad(NAME, error.to_string(), "start the server, or mend NATS_URL")),
    };
    let version = bus.server_version();
    Some(match bus_admin::plan(&bus).await {
        Ok(plan) if plan.is_done() => {
            Check::good(NAME, format!("nats-server {version}, everything as configured"))
        }
        Ok(_) => Check::bad(
            NAME,
            format!("nats-server {version} differs from the configuration"),
            "see `keelson bus plan`, then `keelson bus apply`",
        ),
        Err(error) => Check::bad(NAME, error.to_string(), "see the server's log"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_nearly_full_is_bad() {
        let full = room(LITTLE_SPACE_BYTES - 1, 20_000_000_000);
        assert_eq!(full.verdict, Verdict::Bad);
        assert_eq!(full.found, "2.1 GB are free; the streams may grow to 20.0 GB in all");
        assert_eq!(room(LITTLE_SPACE_BYTES, 20_000_000_000).verdict, Verdict::Good);
    }
}
