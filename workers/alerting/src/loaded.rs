//! Rules, routes and receivers as they were last read without an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keelson_kit::role::Context;

use crate::Alerting;
use crate::config::AlertingConfig;
use crate::notify::config::NotifyConfig;
use crate::receivers::Receivers;
use crate::rules::{RuleSet, Source};

/// What takes effect.
#[derive(Debug)]
pub struct Loaded {
    /// Unix milliseconds at which it was read.
    pub at_ms: u64,
    /// The section it was read from.
    pub config: AlertingConfig,
    /// The rules of the section and of the files that it names.
    pub rules: Arc<RuleSet>,
    /// Routes and receivers.
    pub notify: Arc<NotifyConfig>,
    /// The receivers, ready to be told: what could not be told is an error here, and not when something is to be told.
    pub receivers: Arc<Receivers>,
}

impl Loaded {
    /// The section as the process was started with it, and the files that it names.
    ///
    /// # Errors
    /// All that is wrong, a line each.
    pub fn first(config: AlertingConfig, ctx: &Context) -> Result<Self, Vec<String>> {
        let rules = rules(&config, &ctx.config.dir())?;
        let notify = config.notify(ctx.core.http.addr);
        let receivers = Receivers::of(&notify).map_err(|error| vec![format!("{error:#}")])?;
        Ok(Self {
            at_ms: ctx.clock.now_ms(),
            config,
            rules: Arc::new(rules),
            notify: Arc::new(notify),
            receivers: Arc::new(receivers),
        })
    }

    /// Everything as it stands now.
    ///
    /// # Errors
    /// All that is wrong, a line each.
    pub fn again(ctx: &Context) -> Result<Self, Vec<String>> {
        let config = ctx.config.read::<Alerting>();
        Self::first(
            config.map_err(|errors| errors.0.iter().map(ToString::to_string).collect::<Vec<_>>())?,
            ctx,
        )
    }

    /// The names of all receivers.
    #[must_use]
    pub fn receiver_names(&self) -> Vec<String> {
        self.config.receivers.iter().map(|receiver| receiver.name.clone()).collect()
    }

    /// The section as it takes effect, secrets redacted; for people.
    #[must_use]
    pub fn shown(&self) -> String {
        toml::to_string(&self.config).unwrap_or_else(|error| format!("# it cannot be shown: {error}\n"))
    }
}

/// The rules of a section and of the files that it names, relative to `dir`.
///
/// # Errors
/// All that is wrong, a line each.
pub fn rules(config: &AlertingConfig, dir: &Path) -> Result<RuleSet, Vec<String>> {
    let (sources, mut errors) = sources(&config.rule_files, dir);
    let rules = RuleSet::parse(&sources, &config.rules, config.default_rules);
    errors.extend(rules.as_ref().err().into_iter().flatten().map(ToString::to_string));
    rules
        .map_err(|_| errors.clone())
        .and_then(|rules| if errors.is_empty() { Ok(rules) } else { Err(errors) })
}

fn sources(patterns: &[String], dir: &Path) -> (Vec<Source>, Vec<String>) {
    let (mut sources, mut errors) = (Vec::new(), Vec::new());
    for pattern in patterns {
        match files(&dir.join(pattern)) {
            Ok(files) => {
                for file in files {
                    match std::fs::read_to_string(&file) {
                        Ok(text) => sources.push(Source { name: file.display().to_string(), text }),
                        Err(error) => errors.push(format!("{}: {error}", file.display())),
                    }
                }
            }
            Err(error) => errors.push(format!("alerting.rule_files: {pattern:?} {error}")),
        }
    }
    (sources, errors)
}

/// The files of a pattern, in the order of their names. A name without wildcards has to exist.
fn files(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let pattern = pattern.to_str().ok_or("is no UTF-8")?;
    let found = glob::glob(pattern).map_err(|error| format!("is no pattern: {error}"))?;
    let files = found.collect::<Result<Vec<_>, _>>().map_err(|error| format!("cannot be read: {error}"))?;
    if files.is_empty() && !pattern.contains(['*', '?', '[']) {
        return Err("is not there".to_owned());
    }
    Ok(files)
}
