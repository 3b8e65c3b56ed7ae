//! What every command may be told: which configuration, which data directory.

use std::path::PathBuf;

use clap::Args;
use keelson_kit::config::{Config, ConfigErrors, Flag, Inputs};

use crate::data_dir::DataDir;
use crate::roles::ROLES;

/// Options that go with every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The configuration file [env: KEELSON_CONFIG] [default: keelson.toml, where there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory [env: KEELSON_DATA_DIR] [default: ./.keelson]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Global {
    /// The configuration: file, then environment, then these options and the command's own flags.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn config(&self, mut flags: Vec<Flag>) -> Result<Config, ConfigErrors> {
        flags.extend(self.data_dir.as_ref().map(|dir| flag("--data-dir", "data_dir", dir.to_string_lossy())));
        Config::load(ROLES, &Inputs::of_this_process(self.config.clone(), flags))
    }

    /// The data directory of the configuration.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub fn data_dir(&self) -> Result<DataDir, ConfigErrors> {
        Ok(DataDir::new(self.config(Vec::new())?.core.data_dir))
    }
}

/// A flag that sets a key of the configuration.
pub fn flag(name: &str, key: &str, value: impl Into<String>) -> Flag {
    Flag { name: name.into(), key: key.into(), value: value.into() }
}
