//! A TOML text whose errors name their lines.
//!
//! Serde stops at the first error. But every key of the types that are read here may be missing, so each can be tried alone: what fails then is
//! that key's own fault, and the others are gone on with.

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::{RuleError, Source};

/// A text that is TOML.
pub(crate) struct Document<'a> {
    source: &'a Source,
    root: Spanned<DeTable<'a>>,
}

/// A table in an array of tables.
pub(crate) struct Entry<'a> {
    source: &'a Source,
    /// `rules[2]`.
    path: String,
    line: usize,
    table: &'a DeTable<'a>,
}

/// What was read of an entry, and what could not be.
pub(crate) struct Read<T> {
    /// The keys that could be read; the others have their defaults.
    pub value: T,
    /// The keys that could not.
    pub broken: Vec<String>,
    /// Why.
    pub errors: Vec<RuleError>,
}

impl<'a> Document<'a> {
    /// Reads a text.
    ///
    /// # Errors
    /// All places at which it is no TOML.
    pub fn parse(source: &'a Source) -> Result<Self, Vec<RuleError>> {
        let (root, errors) = DeTable::parse_recoverable(&source.text);
        if errors.is_empty() {
            return Ok(Self { source, root });
        }
        let error = |error: toml::de::Error| RuleError {
            source: source.name.clone(),
            line: error.span().map(|span| line_at(&source.text, span.start)),
            key: String::new(),
            message: error.message().trim_end().to_owned(),
        };
        Err(errors.into_iter().map(error).collect())
    }

    /// Errors for all keys but these.
    pub fn unknown_keys(&self, known: &[&str]) -> Vec<RuleError> {
        let unknown = self.root.get_ref().iter().filter(|(key, _)| !known.contains(&key.get_ref().as_ref()));
        let error = |key: &Spanned<std::borrow::Cow<'_, str>>| RuleError {
            source: self.source.name.clone(),
            line: Some(line_at(&self.source.text, key.span().start)),
            key: key.get_ref().to_string(),
            message: format!("this key is not known; there are {}", known.join(", ")),
        };
        unknown.map(|(key, _)| error(key)).collect()
    }

    /// The tables of the array `name`.
    ///
    /// # Errors
    /// It is no array of tables.
    pub fn entries(&self, name: &str) -> Result<Vec<Entry<'_>>, RuleError> {
        entries(self.source, self.root.get_ref(), "", name)
    }
}

impl<'a> Entry<'a> {
    /// The line at which it begins.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The tables of the array `name` in it.
    ///
    /// # Errors
    /// It is no array of tables.
    pub fn entries(&self, name: &str) -> Result<Vec<Entry<'a>>, RuleError> {
        entries(self.source, self.table, &format!("{}.", self.path), name)
    }

    /// An error of a key in it: `where[0]`, `labels.team`.
    pub fn error(&self, key: &str, message: impl Into<String>) -> RuleError {
        RuleError {
            source: self.source.name.clone(),
            line: Some(self.line_of(key)),
            key: format!("{}.{key}", self.path),
            message: message.into(),
        }
    }

    /// Reads it key by key, but for `others`, which are read apart.
    pub fn read<T: DeserializeOwned + Default>(&self, others: &[&str]) -> Read<T> {
        let (mut good, mut broken, mut errors) = (DeTable::new(), Vec::new(), Vec::new());
        for (key, value) in self.table.iter().filter(|(key, _)| !others.contains(&key.get_ref().as_ref())) {
            let mut alone = DeTable::new();
            alone.insert(key.clone(), value.clone());
            match deserialize::<T>(alone) {
                Ok(_) => _ = good.insert(key.clone(), value.clone()),
                Err(error) => {
                    errors.push(self.error(key.get_ref(), error.message().trim_end()));
                    broken.push(key.get_ref().to_string());
                }
            }
        }
        Read { value: deserialize(good).unwrap_or_default(), broken, errors }
    }

    /// The line of a key, or of as much of its path as there is.
    fn line_of(&self, key: &str) -> usize {
        let mut line = self.line;
        let mut within = Some(self.table);
        let mut elements = None;
        for part in key.split(['.', '[']).map(|part| part.trim_end_matches(']')) {
            let of_array =
                elements.take().and_then(|array: &DeArray<'_>| array.get(part.parse::<usize>().ok()?));
            let Some(value) = of_array.or_else(|| within.and_then(|table| table.get(part))) else { break };
            line = line_at(&self.source.text, value.span().start);
            within = value.get_ref().as_table();
            elements = value.get_ref().as_array();
        }
        line
    }
}

fn entries<'a>(
    source: &'a Source,
    table: &'a DeTable<'a>,
    prefix: &str,
    name: &str,
) -> Result<Vec<Entry<'a>>, RuleError> {
    let Some(value) = table.get(name) else { return Ok(Vec::new()) };
    let tables = |value: &'a Spanned<DeValue<'a>>| {
        let elements = value.get_ref().as_array()?.iter().enumerate();
        let entry = |(index, element): (usize, &'a Spanned<DeValue<'a>>)| {
            let line = line_at(&source.text, element.span().start);
            let path = format!("{prefix}{name}[{index}]");
            Some(Entry { source, path, line, table: element.get_ref().as_table()? })
        };
        elements.map(entry).collect::<Option<Vec<_>>>()
    };
    tables(value).ok_or_else(|| RuleError {
        source: source.name.clone(),
        line: Some(line_at(&source.text, value.span().start)),
        key: format!("{prefix}{name}"),
        message: format!("must be tables, each beginning with [[{name}]]"),
    })
}

fn deserialize<T: DeserializeOwned>(table: DeTable<'_>) -> Result<T, toml::de::Error> {
    T::deserialize(Deserializer::from(Spanned::new(0..0, table)))
}

/// The line of a byte of a text, from 1.
fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}
