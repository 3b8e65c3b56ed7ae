//! Where the configuration was read, so that a role can read its section again while it runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Config, ConfigErrors, Inputs, section};
use crate::role::{AnyRole, Role};
use crate::tasks::Tasks;

/// The file, environment and flags that a process was started with. Cheap to clone.
#[derive(Clone)]
pub struct ConfigSource {
    roles: &'static [&'static dyn AnyRole],
    inputs: Arc<Inputs>,
    hangups: watch::Sender<u64>,
}

impl Default for ConfigSource {
    /// No file and an empty environment, for tests.
    fn default() -> Self {
        Self::new(&[], Inputs::default())
    }
}

impl ConfigSource {
    /// What `inputs` says to all `roles`.
    pub fn new(roles: &'static [&'static dyn AnyRole], inputs: Inputs) -> Self {
        Self { roles, inputs: Arc::new(inputs), hangups: watch::Sender::new(0) }
    }

    /// The section of a role as it stands now. Everything else is checked as well: a file that would not start does not reload.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn read<R: Role>(&self) -> Result<R::Config, ConfigErrors> {
        let config = Config::load(self.roles, &self.inputs)?;
        section::parse(&config.section(R::NAME)).map_err(ConfigErrors)
    }

    /// The folder of the configuration file, to which names of files in it are relative.
    pub fn dir(&self) -> PathBuf {
        let (file, _) = self.inputs.file();
        file.parent().map_or_else(PathBuf::new, PathBuf::from)
    }

    /// The configuration file, whether it is there or not.
    pub fn file(&self) -> PathBuf {
        self.inputs.file().0
    }

    /// The environment that this process was started with.
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.inputs.env
    }

    /// Changes with every SIGHUP.
    pub fn hangups(&self) -> watch::Receiver<u64> {
        self.hangups.subscribe()
    }

    /// From now on SIGHUP does not end the process but is told to [`ConfigSource::hangups`].
    ///
    /// # Errors
    /// When the signal handler cannot be installed.
    pub fn listen(&self, tasks: &Tasks) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut hangup, hangups, ending) =
            (signal(SignalKind::hangup())?, self.hangups.clone(), tasks.clone());
        tasks.spawn_once("SIGHUP", async move {
            loop {
                tokio::select! {
                    () = ending.cancelled() => return Ok(()),
                    _ = hangup.recv() => hangups.send_modify(|count| *count += 1),
                }
            }
        });
        Ok(())
    }
}
