//! One section of the configuration: from a table to its type, with every error found at once.
//!
//! Serde stops at the first error. But every field of a section has a default, so each key can be tried alone in an
//! otherwise empty section: what fails then is this key's own fault.

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::ConfigError;

/// Parses a section, or says everything that is wrong with it; keys are within the section.
///
/// # Errors
/// One for every key that is unknown or has a wrong type.
pub fn parse<T: DeserializeOwned>(table: &Table) -> Result<T, Vec<ConfigError>> {
    let whole = try_parse::<T>(table);
    if let Ok(Parsed { value, unknown: false }) = whole {
        return Ok(value);
    }
    let mut errors: Vec<ConfigError> = leaves(table).iter().filter_map(Leaf::error::<T>).collect();
    errors.dedup();
    if let (true, Err(error)) = (errors.is_empty(), whole) {
        errors.push(error);
    }
    Err(errors)
}

/// The section with its defaults filled in and its secrets redacted; empty when it does not parse.
pub fn effective<T: DeserializeOwned + Serialize>(table: &Table) -> Table {
    let parsed = try_parse::<T>(table).ok();
    parsed.and_then(|parsed| Table::try_from(parsed.value).ok()).unwrap_or_default()
}

/// Every key of a table that holds a value, with that value. An array is one value.
pub(super) fn values(table: &Table) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    collect(table, "", &mut found);
    found
}

fn collect<'a>(table: &'a Table, prefix: &str, found: &mut Vec<(String, &'a Value)>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) if !inner.is_empty() => collect(inner, &key, found),
            value => found.push((key, value)),
        }
    }
}

/// A table in which nothing but `key` (a dotted path) is set.
pub(super) fn alone(key: &str, value: Value) -> Table {
    let mut table = Table::new();
    put(&mut table, key, value);
    table
}

/// Sets `key`, a dotted path, replacing what stands in its way.
pub(super) fn put(table: &mut Table, key: &str, value: Value) {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return;
    };
    let inner = table.entry(first).or_insert_with(|| Table::new().into());
    if !inner.is_table() {
        *inner = Table::new().into();
    }
    if let Value::Table(inner) = inner {
        put(inner, rest, value);
    }
}

/// One key, or one element of an array of tables, to be tried alone.
struct Leaf {
    key: String,
    alone: Table,
    /// Its place, when it is an element of an array.
    index: Option<usize>,
}

fn leaves(table: &Table) -> Vec<Leaf> {
    values(table).into_iter().flat_map(|(key, value)| split_array(key, value)).collect()
}

fn split_array(key: String, value: &Value) -> Vec<Leaf> {
    match value {
        Value::Array(elements) if elements.iter().any(Value::is_table) => elements
            .iter()
            .enumerate()
            .map(|(index, element)| Leaf {
                alone: alone(&key, vec![element.clone()].into()),
                key: key.clone(),
                index: Some(index),
            })
            .collect(),
        value => vec![Leaf { alone: alone(&key, value.clone()), key, index: None }],
    }
}

impl Leaf {
    fn error<T: DeserializeOwned>(&self) -> Option<ConfigError> {
        let error = match try_parse::<T>(&self.alone) {
            Ok(Parsed { unknown: false, .. }) => return None,
            Ok(Parsed { unknown: true, .. }) => ConfigError::new(self.key.as_str(), "this key is not known"),
            Err(error) => error,
        };
        match self.index {
            Some(index) => Some(self.element_error(error, index)),
            // Another key is missing, which is not this key's fault: the whole section reports it.
            None if error.message.starts_with("missing field") => None,
            None => Some(ConfigError::new(self.key.as_str(), error.message)),
        }
    }

    /// The lone element stood at index 0; the error names its real place.
    fn element_error(&self, error: ConfigError, index: usize) -> ConfigError {
        let within = error.key.strip_prefix(&format!("{}[0]", self.key)).unwrap_or_default();
        ConfigError::new(format!("{}[{index}]{within}", self.key), error.message)
    }
}

struct Parsed<T> {
    value: T,
    unknown: bool,
}

fn try_parse<T: DeserializeOwned>(table: &Table) -> Result<Parsed<T>, ConfigError> {
    let mut unknown = false;
    let mut track = serde_path_to_error::Track::new();
    let input = serde_path_to_error::Deserializer::new(Value::Table(table.clone()), &mut track);
    match serde_ignored::deserialize(input, |_| unknown = true) {
        Ok(value) => Ok(Parsed { value, unknown }),
        Err(error) => {
            let path = track.path().to_string();
            Err(ConfigError::new(path, without_text(error.to_string().trim_end())))
        }
    }
}

/// What serde says, without the text that it found where something else was expected: it may be a secret.
fn without_text(message: &str) -> String {
    let found = message.split_once(": string \"").and_then(|(what, rest)| {
        let (_, expected) = rest.rsplit_once("\", expected ")?;
        Some(format!("{what}: a text, expected {expected}"))
    });
    found.unwrap_or_else(|| message.to_owned())
}
