//! Which nats-server to run: the one that was named, the one in `.tools`, or the one on the PATH; and never one that is too old.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use keelson_kit::bus::MINIMUM_SERVER;
use semver::Version;

const INSTALL: &str = "run `make tools` in the checkout, which puts 2.15.1 into .tools; or install it yourself and name it with KEELSON_NATS_SERVER; or set NATS_URL to use a server of yours";

/// A nats-server that is new enough.
#[derive(Clone, Debug)]
pub struct Executable {
    /// Where it is.
    pub path: PathBuf,
    /// What it says it is.
    pub version: Version,
}

/// Finds a nats-server: the one that the configuration names and no other if it names one; else `.tools/nats-server` in this directory,
/// one above it, or one above this executable; else the first on the PATH.
///
/// # Errors
/// When there is none or it is too old, saying what to install.
pub fn locate(named: Option<&Path>) -> anyhow::Result<Executable> {
    if let Some(named) = named {
        return examine(named)
            .context("nats.server (KEELSON_NATS_SERVER) does not name a nats-server that will do");
    }
    let Some(found) = in_tools().or_else(on_path) else {
        bail!("no nats-server was found, and Keelson needs one, {MINIMUM_SERVER} or newer: {INSTALL}");
    };
    examine(&found)
}

fn examine(path: &Path) -> anyhow::Result<Executable> {
    let shown = path.display();
    let output = Command::new(path)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {shown}: {INSTALL}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some(version) = version(&said) else {
        bail!("{shown} does not say which version it is (it said {:?}): {INSTALL}", said.trim());
    };
    if (version.major, version.minor) < (MINIMUM_SERVER.major, MINIMUM_SERVER.minor) {
        bail!(
            "{shown} is nats-server {version}, and Keelson needs {MINIMUM_SERVER} or newer (Debian's own package is too old): {INSTALL}"
        );
    }
    Ok(Executable { path: path.to_owned(), version })
}

fn in_tools() -> Option<PathBuf> {
    let places = [env::current_dir().ok(), env::current_exe().ok()];
    places
        .iter()
        .flatten()
        .flat_map(|place| place.ancestors())
        .map(|place| place.join(".tools/nats-server"))
        .find(|path| path.is_file())
}

fn on_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|place| place.join("nats-server")).find(|path| path.is_file())
}

/// Reads what `nats-server --version` prints: `nats-server: v2.15.1`.
fn version(said: &str) -> Option<Version> {
    Version::parse(said.trim().strip_prefix("nats-server: v")?).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn stand_in(place: &Path, says: &str) -> PathBuf {
        let path = place.join("nats-server");
        fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn only_a_nats_server_that_is_new_enough_will_do() {
        let place = tempfile::tempdir().unwrap();
        for (says, fine) in [
            ("nats-server: v2.15.1", true),
            ("nats-server: v2.14.0", true),
            ("nats-server: v2.14.0-RC.1", true),
            ("nats-server: v3.0.0", true),
            ("nats-server: v2.13.9", false),
            ("nats-server: v2.9.10", false),
            ("nats-server: v2.15", false),
            ("redis 7.0.0", false),
            ("", false),
        ] {
            assert_eq!(examine(&stand_in(place.path(), says)).is_ok(), fine, "{says:?}");
        }
        let refusal = examine(&stand_in(place.path(), "nats-server: v2.9.10")).unwrap_err().to_string();
        assert!(
            refusal.contains("2.9.10") && refusal.contains("2.14.0") && refusal.contains("make tools"),
            "{refusal}"
        );
    }
}
