//! The configuration: keelson.toml, then the environment, then flags, each overriding what came before.
//!
//! Nothing unknown is passed over, and all that is wrong is reported at once, each error naming its key and where the
//! value came from.

mod core;
mod secret;
pub mod section;
mod source;
mod span;
mod token;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

pub use self::core::{AuthConfig, CoreConfig, HttpConfig, LogConfig, LogFormat, NatsConfig, OtelConfig};
pub use self::secret::{REDACTED, Secret};
pub use self::source::ConfigSource;
pub use self::span::Span;
pub use self::token::{Scope, Token, TokenHash};
use crate::role::AnyRole;

/// The file that is read when neither `--config` nor KEELSON_CONFIG names one; it may be absent.
const DEFAULT_FILE: &str = "keelson.toml";

/// Where values come from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The file named by `--config`; it must exist.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// What flags set.
    pub flags: Vec<Flag>,
}

/// A command-line flag that sets a key.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As the user typed it: `--http-addr`.
    pub name: String,
    /// The key it sets: `http.addr`.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Inputs {
    /// The environment of this process, with the file and flags of its command line. Variables that are not UTF-8 or
    /// are empty count as unset.
    pub fn of_this_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { file, env: std::env::vars_os().filter_map(text).collect(), flags }
    }

    fn var(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The file to read, and whether it must exist.
    fn file(&self) -> (PathBuf, bool) {
        match (&self.file, self.var("KEELSON_CONFIG")) {
            (Some(file), _) => (file.clone(), true),
            (None, Some(file)) => (file.into(), true),
            (None, None) => (DEFAULT_FILE.into(), false),
        }
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// This file.
    File(PathBuf),
    /// This environment variable.
    Env(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::Env(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The dotted key.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// Where the value came from; known once the whole configuration is loaded.
    pub origin: Option<Origin>,
}

impl ConfigError {
    /// An error of `key`; in a role's `validate` the key is within the role's section.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), origin: None }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)?;
        match &self.origin {
            Some(origin) => write!(f, " (from {origin})"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong, one line each.
#[derive(Debug, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// One key as it takes effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The dotted key.
    pub key: String,
    /// Its value, secrets redacted.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// A configuration in which nothing is wrong.
#[derive(Clone, Debug)]
pub struct Config {
    /// What concerns more than one role.
    pub core: CoreConfig,
    sections: BTreeMap<&'static str, Table>,
    settings: Vec<Setting>,
    inputs: Inputs,
}

impl Config {
    /// Reads and checks the sections of all `roles`, whether they will be run or not.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn load(roles: &[&dyn AnyRole], inputs: &Inputs) -> Result<Self, ConfigErrors> {
        let mut layers = Layers { roles, values: Table::new(), origins: BTreeMap::new(), errors: Vec::new() };
        layers.read_file(inputs);
        layers.read_env(inputs);
        layers.read_flags(inputs);
        layers.check(inputs)
    }

    /// The section of a role, for [`AnyRole::launch`].
    pub fn section(&self, role: &str) -> Table {
        self.sections.get(role).cloned().unwrap_or_default()
    }

    /// What it was read from.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Every key with its value and where it came from, for `keelson config show`.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }
}

struct Layers<'a> {
    roles: &'a [&'a dyn AnyRole],
    values: Table,
    origins: BTreeMap<String, Origin>,
    errors: Vec<ConfigError>,
}

impl Layers<'_> {
    fn read_file(&mut self, inputs: &Inputs) {
        let (path, required) = inputs.file();
        match read_table(&path) {
            Ok(table) => {
                let origin = Origin::File(path);
                self.origins
                    .extend(section::values(&table).into_iter().map(|(key, _)| (key, origin.clone())));
                self.values = table;
            }
            Err(FileError::Absent) if !required => {}
            Err(error) => self.errors.push(ConfigError::new(path.display().to_string(), error.to_string())),
        }
    }

    fn read_env(&mut self, inputs: &Inputs) {
        let of_roles = self.roles.iter().flat_map(|role| {
            role.env_keys().iter().map(|(name, key)| (*name, format!("{}.{key}", role.name())))
        });
        let of_core = core::ENV.iter().map(|(name, key)| (*name, (*key).to_owned()));
        let keys: Vec<_> = of_core.chain(of_roles).collect();
        for (name, key) in keys {
            if let Some(value) = inputs.var(name) {
                self.set(&key, value, Origin::Env(name.to_owned()));
            }
        }
    }

    fn read_flags(&mut self, inputs: &Inputs) {
        for flag in &inputs.flags {
            self.set(&flag.key, &flag.value, Origin::Flag(flag.name.clone()));
        }
    }

    /// Sets a key from a text, which becomes whatever type the key has.
    fn set(&mut self, key: &str, text: &str, origin: Origin) {
        let mut wrong = None;
        for value in readings(text) {
            match self.faults_alone(key, value.clone()).into_iter().next() {
                None => {
                    section::put(&mut self.values, key, value);
                    self.origins.insert(key.to_owned(), origin);
                    return;
                }
                Some(error) => _ = wrong.get_or_insert(error),
            }
        }
        self.errors.extend(wrong.map(|error| ConfigError { origin: Some(origin), ..error }));
    }

    /// What the type of `key` has against `value`. Rules that span keys are not asked here.
    fn faults_alone(&self, key: &str, value: Value) -> Vec<ConfigError> {
        let role = key.split_once('.').and_then(|(name, rest)| Some((self.role(name)?, rest)));
        let (prefix, result) = match role {
            Some((role, rest)) => (role.name(), role.type_errors(&section::alone(rest, value))),
            None => ("", section::parse::<CoreConfig>(&section::alone(key, value)).err().unwrap_or_default()),
        };
        result.into_iter().map(|error| error.within(prefix)).collect()
    }

    fn role(&self, name: &str) -> Option<&dyn AnyRole> {
        self.roles.iter().copied().find(|role| role.name() == name)
    }

    fn check(mut self, inputs: &Inputs) -> Result<Config, ConfigErrors> {
        let (sections, core_table) = self.split();
        let core = self.check_core(&core_table);
        for role in self.roles {
            let errors = role.check(&sections[role.name()]);
            self.errors.extend(errors.into_iter().map(|error| error.within(role.name())));
        }
        match core {
            Some(core) if self.errors.is_empty() => {
                let settings = self.settings(&core_table, &sections);
                Ok(Config { core, sections, settings, inputs: inputs.clone() })
            }
            _ => Err(ConfigErrors(self.with_origins())),
        }
    }

    fn split(&mut self) -> (BTreeMap<&'static str, Table>, Table) {
        let mut rest = std::mem::take(&mut self.values);
        let mut sections = BTreeMap::new();
        for role in self.roles {
            let table = match rest.remove(role.name()) {
                Some(Value::Table(table)) => table,
                Some(_) => {
                    self.errors.push(ConfigError::new(role.name(), "must be a section, [name]"));
                    Table::new()
                }
                None => Table::new(),
            };
            sections.insert(role.name(), table);
        }
        (sections, rest)
    }

    fn check_core(&mut self, table: &Table) -> Option<CoreConfig> {
        match section::parse::<CoreConfig>(table) {
            Ok(core) => {
                self.errors.extend(core.validate());
                Some(core)
            }
            Err(errors) => {
                self.errors.extend(errors);
                None
            }
        }
    }

    fn settings(&self, core: &Table, sections: &BTreeMap<&'static str, Table>) -> Vec<Setting> {
        let mut effective = section::effective::<CoreConfig>(core);
        for role in self.roles {
            effective.insert(role.name().to_owned(), role.effective(&sections[role.name()]).into());
        }
        let setting = |(key, value): (String, &Value)| Setting {
            origin: self.origins.get(&key).cloned().unwrap_or(Origin::Default),
            value: value.clone(),
            key,
        };
        section::values(&effective).into_iter().map(setting).collect()
    }

    fn with_origins(self) -> Vec<ConfigError> {
        let origins = self.origins;
        let placed = |error: ConfigError| {
            let key = error.key.split('[').next().unwrap_or_default();
            let origin = error.origin.or_else(|| origins.get(key).cloned());
            ConfigError { origin, ..error }
        };
        self.errors.into_iter().map(placed).collect()
    }
}

impl ConfigError {
    fn within(self, section: &str) -> Self {
        match (section, self.key.as_str()) {
            ("", _) => self,
            (section, "" | ".") => Self { key: section.to_owned(), ..self },
            (section, key) => Self { key: format!("{section}.{key}"), ..self },
        }
    }
}

/// What a text may mean, in the order of preference: itself, a TOML literal (`true`, `250`, `["a"]`), a comma-separated
/// list.
fn readings(text: &str) -> Vec<Value> {
    let literal = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    let list = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let list = list.map(|item| Value::from(item.to_owned())).collect::<Vec<_>>();
    [Some(Value::from(text.to_owned())), literal, Some(list.into())].into_iter().flatten().collect()
}

#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("there is no such file")]
    Absent,
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    #[error("is no valid TOML: line {line}: {message}")]
    NoToml { line: usize, message: String },
}

fn read_table(path: &Path) -> Result<Table, FileError> {
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => FileError::Absent,
        _ => FileError::Unreadable(error),
    })?;
    text.parse().map_err(|error: toml::de::Error| FileError::NoToml {
        // Without the line itself, which may hold a secret.
        line: error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count()),
        message: error.message().to_owned(),
    })
}

#[cfg(test)]
mod tests;
