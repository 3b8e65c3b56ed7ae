//! `keelson config`: is it right, and what takes effect.

use clap::{Args, Subcommand};
use keelson_kit::config::Setting;
use serde_json::json;

use crate::global::Global;
use crate::output::{Exit, say, say_json, say_table};

/// `keelson config`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the configuration: every error at once, each naming its key and where the value came from
    Check,
    /// Show what takes effect, and where each value came from; secrets are redacted
    Show(Show),
}

/// `keelson config show`
#[derive(Debug, Args)]
pub struct Show {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let config = global.config(Vec::new())?;
        match self {
            Self::Check => say("the configuration is right"),
            Self::Show(Show { json: true }) => {
                say_json(&config.settings().iter().map(as_json).collect::<Vec<_>>())?
            }
            Self::Show(Show { json: false }) => {
                say_table(["key", "value", "from"], config.settings().iter().map(row))
            }
        }
        Ok(Exit::Done)
    }
}

fn row(setting: &Setting) -> [String; 3] {
    [setting.key.clone(), setting.value.to_string(), setting.origin.to_string()]
}

fn as_json(setting: &Setting) -> serde_json::Value {
    json!({"key": setting.key, "value": setting.value, "from": setting.origin.to_string()})
}
