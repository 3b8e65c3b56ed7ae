//! A mongod of our own in which a restore is rehearsed: empty, behind a socket that nobody else may open, and gone afterwards.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use bson::doc;
use keelson_kit::clock::Clock;
use keelson_kit::config::Secret;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::process::{Child, Command};

use crate::mongo::Deployment;

/// The name of its socket in its folder.
const SOCKET: &str = "mongod.sock";
/// What is written otherwise in an address. The driver knows a socket by the end of its name, before it reads it.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');
/// What Linux allows for the path of a socket.
const MAX_SOCKET_PATH: usize = 107;
const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long one that was left is asked to end.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// What is told of the log when it does not start.
const LOG_TOLD: usize = 500;

/// A server with an empty database; gone when dropped.
#[derive(Debug)]
pub struct Scratch {
    /// How it is reached.
    pub deployment: Deployment,
    /// Killed when dropped.
    process: Child,
}

/// The executable, if there is one.
#[must_use]
pub fn program(named: &Path) -> Option<PathBuf> {
    if named.components().count() > 1 {
        return named.is_file().then(|| named.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(named)).find(|file| file.is_file())
}

/// Ends one whose worker was killed, so that it does not go on for ever.
pub async fn end_left(folder: &Path) {
    let Ok(socket) = socket(folder) else { return };
    if !socket.exists() {
        return;
    }
    let ending = async {
        let left = Deployment::new(&address(&socket)).await?;
        left.ask("admin", doc! { "shutdown": 1, "force": true }).await
    };
    // It ends without an answer.
    let _ = tokio::time::timeout(ENDS_WITHIN, ending).await;
}

impl Scratch {
    /// Starts one that keeps what it has in a folder, which is empty.
    ///
    /// # Errors
    /// When it does not start, in its own words.
    pub async fn start(program: &Path, folder: &Path, clock: &Clock) -> anyhow::Result<Self> {
        // Whoever may open the socket may read all of the database.
        fs::set_permissions(folder, PermissionsExt::from_mode(0o700))
            .with_context(|| format!("keep {} to ourselves", folder.display()))?;
        let (data, log, socket) = (folder.join("data"), folder.join("log"), socket(folder)?);
        fs::create_dir(&data).with_context(|| format!("make {}", data.display()))?;
        let out = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let mut command = Command::new(program);
        command.arg("--dbpath").arg(&data).arg("--bind_ip").arg(&socket).arg("--nounixsocket");
        command.args(["--wiredTigerCacheSizeGB", "0.5"]);
        // What has expired since the backup has to come back, too.
        command.args(["--setParameter", "ttlMonitorEnabled=false"]);
        command.args(["--setParameter", "diagnosticDataCollectionEnabled=false"]);
        command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).kill_on_drop(true);
        let process = command.spawn().with_context(|| format!("start {}", program.display()))?;
        let deployment = Deployment::new(&address(&socket)).await?;
        let mut scratch = Self { deployment, process };
        scratch.ready(clock, &log).await?;
        Ok(scratch)
    }

    /// Ends it. What it kept can be removed then.
    pub async fn end(mut self) {
        if let Err(error) = self.process.kill().await {
            tracing::warn!(%error, "the scratch mongod could not be ended");
        }
    }

    async fn ready(&mut self, clock: &Clock, log: &Path) -> anyhow::Result<()> {
        let until = clock.now() + READY_WITHIN;
        loop {
            if let Some(status) = self.process.try_wait().context("look after mongod")? {
                bail!("mongod ended with {status}: {}", last_words(log));
            }
            match self.deployment.standing().await {
                Ok(_) => return Ok(()),
                Err(error) if clock.now() > until => {
                    return Err(error.context(format!("mongod does not answer: {}", last_words(log))));
                }
                Err(_) => {}
            }
            clock.sleep(LOOK_EVERY).await;
        }
    }
}

fn socket(folder: &Path) -> anyhow::Result<PathBuf> {
    let socket = folder.join(SOCKET);
    if socket.as_os_str().len() > MAX_SOCKET_PATH {
        bail!(
            "{} is too long for a socket: set backup.spool to a folder with a shorter path",
            socket.display()
        );
    }
    Ok(socket)
}

fn address(socket: &Path) -> Secret {
    let socket = utf8_percent_encode(&socket.to_string_lossy(), ESCAPED).to_string();
    Secret::from(format!("mongodb://{socket}/?directConnection=true"))
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let from = text.char_indices().rev().nth(LOG_TOLD - 1).map_or(0, |(index, _)| index);
    text[from..].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_path_or_by_its_name() {
        assert_eq!(
            program(Path::new("sh")).and_then(|file| file.file_name().map(Into::into)),
            Some(PathBuf::from("sh"))
        );
        assert_eq!(program(Path::new("/bin/sh")), Some("/bin/sh".into()));
        assert_eq!(program(Path::new("/bin")), None);
        assert_eq!(program(Path::new("no-mongod-at-all")), None);
    }

    #[test]
    fn a_socket_has_a_path_that_is_short_enough() {
        assert!(socket(Path::new("/data/backup/drill")).is_ok());
        assert!(
            socket(Path::new(&format!("/{}", "a".repeat(100))))
                .unwrap_err()
                .to_string()
                .contains("backup.spool")
        );
    }
}
