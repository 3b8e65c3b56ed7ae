//! The configuration in a backup: this process's environment, keelson.toml, and environment files of applications, all without their secrets.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use keelson_schemas::backup::{ConfigManifest, ConfigSource, Redacted};

use crate::bson_file;
use crate::layout;
use crate::sanitise::{Judged, Names, Sanitiser};

/// A file of settings has at most so many bytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// How keys are written as text.
const PEM_BEGINS: &str = "-----BEGIN";
const PEM_ENDS: &str = "-----END";

/// Where settings are read.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The environment of this process.
    pub environment: BTreeMap<String, String>,
    /// keelson.toml, which need not be there.
    pub file: PathBuf,
    /// Environment files, all of which have to be there.
    pub env_files: Vec<PathBuf>,
}

/// Writes what may be told of the configuration under `root`.
///
/// # Errors
/// When a source cannot be read. The error shows nothing of it.
pub fn collect(sources: &Sources, sanitiser: &Sanitiser, root: &Path) -> anyhow::Result<ConfigManifest> {
    let folder = root.join(layout::CONFIG);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    let mut found = Vec::new();
    let environment = sources.environment.iter().map(|(name, value)| (name.clone(), value.clone()));
    found.push(lines("environment", "environment.env", environment, sanitiser, root)?);
    if sources.file.exists() {
        found.push(toml(&sources.file, sanitiser, root)?);
    }
    for (index, file) in sources.env_files.iter().enumerate() {
        let settings = parse(&read(file)?);
        let name = format!("{}-{}", index + 1, plain_name(file));
        found.push(lines(&file.display().to_string(), &name, settings.into_iter(), sanitiser, root)?);
    }
    Ok(ConfigManifest { sources: found })
}

fn read(file: &Path) -> anyhow::Result<String> {
    let open = || format!("read {}", file.display());
    let size = fs::metadata(file).with_context(open)?.len();
    if size > MAX_BYTES {
        bail!("{} has {size} bytes: a file of settings has {MAX_BYTES} at most", file.display());
    }
    fs::read_to_string(file).with_context(open)
}

/// The name of a file, so that it can be one again.
fn plain_name(file: &Path) -> String {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

/// `NAME="value"`, and a comment for each one of which the value is not told.
fn lines(
    source: &str,
    name: &str,
    settings: impl Iterator<Item = (String, String)>,
    sanitiser: &Sanitiser,
    root: &Path,
) -> anyhow::Result<ConfigSource> {
    let (mut text, mut tally) = (String::new(), Tally::default());
    for (name, value) in settings {
        let judged = tally.take(sanitiser.judge(Names::Variables, &name, &value));
        if let Some(redacted) = &judged.redacted {
            writeln!(text, "# {}: {} ({})", redacted.name, redacted.reason, redacted.fingerprint)?;
        }
        if let Some(value) = &judged.value {
            writeln!(text, "{}={}", sanitiser.name(&name), serde_json::to_string(value)?)?;
        }
    }
    tally.written(source, name, &text, root)
}

fn toml(file: &Path, sanitiser: &Sanitiser, root: &Path) -> anyhow::Result<ConfigSource> {
    // The parser's own words show the line that is wrong.
    let Ok(table) = read(file)?.parse::<toml::Table>() else {
        bail!("{} is no TOML: `keelson config check` says where", file.display());
    };
    let mut tally = Tally::default();
    let left = table_without(&table, "", sanitiser, &mut tally);
    let text = toml::to_string_pretty(&left).context("write what is left of the configuration")?;
    tally.written(&file.display().to_string(), "keelson.toml", &text, root)
}

fn table_without(table: &toml::Table, prefix: &str, sanitiser: &Sanitiser, tally: &mut Tally) -> toml::Table {
    let entry = |(key, value): (&String, &toml::Value)| {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        (sanitiser.name(key), value_without(value, &path, sanitiser, tally))
    };
    table.iter().map(entry).collect()
}

fn value_without(value: &toml::Value, path: &str, sanitiser: &Sanitiser, tally: &mut Tally) -> toml::Value {
    match value {
        toml::Value::Table(inner) => table_without(inner, path, sanitiser, tally).into(),
        toml::Value::Array(all) => {
            all.iter().map(|each| value_without(each, path, sanitiser, tally)).collect::<Vec<_>>().into()
        }
        plain => {
            let text = plain.as_str().map_or_else(|| plain.to_string(), str::to_owned);
            let judged = tally.take(sanitiser.judge(Names::Keys, path, &text));
            match (judged.value, judged.redacted) {
                (Some(_), None) => plain.clone(),
                (Some(told), Some(_)) => told.into(),
                (None, redacted) => {
                    let fingerprint = redacted.map(|redacted| redacted.fingerprint).unwrap_or_default();
                    format!("<redacted {fingerprint}>").into()
                }
            }
        }
    }
}

/// What became of the settings of a source.
#[derive(Default)]
struct Tally {
    kept: u64,
    redacted: Vec<Redacted>,
}

impl Tally {
    fn take(&mut self, judged: Judged) -> Judged {
        match &judged.redacted {
            Some(redacted) => self.redacted.push(redacted.clone()),
            None => self.kept += 1,
        }
        judged
    }

    fn written(self, source: &str, name: &str, text: &str, root: &Path) -> anyhow::Result<ConfigSource> {
        let file = bson_file::write(root, &format!("{}/{name}", layout::CONFIG), text.as_bytes())?;
        Ok(ConfigSource { source: source.to_owned(), file, kept: self.kept, redacted: self.redacted })
    }
}

/// The settings of an environment file: `NAME=value`, `export NAME='value'`, quoted ones over several lines. What is nothing of that is left out.
fn parse(text: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut lines = text.lines();
    let mut after_loose = false;
    while let Some(line) = lines.next() {
        let line = line.trim();
        let named = line.strip_prefix("export ").unwrap_or(line).split_once('=');
        let (name, value) = named.map_or(("", line), |(name, value)| (name.trim(), value.trim()));
        let value = match value.chars().next().filter(|first| matches!(first, '"' | '\'' | '`')) {
            Some(quote) => quoted(value, quote, &mut lines),
            None if line.contains(PEM_BEGINS) => unquoted_key(line, value, &mut lines),
            None => value.split(" #").next().unwrap_or_default().trim().to_owned(),
        };
        // Something random that goes over several lines ends in padding, which makes its last line look like a setting.
        let padding = value == "=" || (after_loose && value.is_empty());
        after_loose = named.is_none() && !line.is_empty();
        if !name.is_empty() && !line.starts_with('#') && !padding {
            settings.push((name.to_owned(), value));
        }
    }
    settings
}

/// What is within the quotes, over as many lines as there are; what follows them is a comment.
fn quoted<'a>(value: &str, quote: char, lines: &mut impl Iterator<Item = &'a str>) -> String {
    let mut within = value[quote.len_utf8()..].to_owned();
    loop {
        if let Some((closed, _)) = within.split_once(quote) {
            return closed.to_owned();
        }
        let Some(next) = lines.next() else { return within };
        within.push('\n');
        within.push_str(next);
    }
}

/// A key that is written without quotes: its lines are no settings, though some have a `=`.
fn unquoted_key<'a>(line: &str, value: &str, lines: &mut impl Iterator<Item = &'a str>) -> String {
    let mut key = value.to_owned();
    let mut ends = line.contains(PEM_ENDS);
    while let Some(next) = (!ends).then(|| lines.next()).flatten() {
        key.push('\n');
        key.push_str(next);
        ends = next.contains(PEM_ENDS);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_file_is_read_as_applications_do() {
        let text = "# a comment=1\nA=1\nexport B = 'two words'\nC=\"line 1\nline 2\"\n\nnothing\n=x\nD=a=b\nE=''\nF=x # hunter2\nG=\"y\" # hunter2\n";
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [
            of("A", "1"),
            of("B", "two words"),
            of("C", "line 1\nline 2"),
            of("D", "a=b"),
            of("E", ""),
            of("F", "x"),
            of("G", "y"),
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn no_line_of_a_key_is_a_setting() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIIC\ntail=\nmore=1\n-----END PRIVATE KEY-----";
        let text = format!(
            "A=1\nKEY={key}\n{key}\n# {key}\nJSON={{\"key\":\"{key}\"}}\nB=2\nBASE64=MIIC\ntail==\nBASE64=MIIC\nMIIC\ntail=\n\nC=\n"
        );
        let settings = parse(&text);
        let names: Vec<&str> = settings.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["A", "KEY", "JSON", "B", "BASE64", "BASE64", "C"]);
        assert_eq!(settings[1].1, key, "its fingerprint shows when it changes");
    }

    #[test]
    fn every_source_is_written_without_its_secrets_and_what_cannot_be_read_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            fs::write(root.path().join(name), text).unwrap();
            root.path().join(name)
        };
        let sources = Sources {
            environment: [("LANG", "C"), ("DB_PASSWORD", "hunter2")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            file: put(
                "keelson.toml",
                "# hunter2\n[http]\naddr = \"a:1\"\n[backup]\npassword = \"hunter2\"\ncollections_at_once = 2\n[[backup.targets]]\nname = \"r\"\nmongodb_uri = \"mongodb://ada:hunter2@a\"\n",
            ),
            env_files: vec![put(".env", "NODE_ENV=production\nSECRET='hunter2\nhunter2'\n")],
        };
        let manifest = collect(&sources, &Sanitiser::new(&[], [1; 32]), root.path()).unwrap();
        let told: Vec<_> = manifest
            .sources
            .iter()
            .map(|source| (source.file.path.as_str(), source.kept, source.redacted.len()))
            .collect();
        assert_eq!(
            told,
            [("config/environment.env", 1, 1), ("config/keelson.toml", 3, 2), ("config/1-.env", 1, 1)]
        );
        for file in manifest.files() {
            let text = fs::read_to_string(root.path().join(&file.path)).unwrap();
            assert!(!text.contains("hunter2"), "{text}");
        }
        let toml = fs::read_to_string(root.path().join("config/keelson.toml")).unwrap();
        assert!(toml.contains("mongodb://<redacted>@a") && toml.contains("addr = \"a:1\""), "{toml}");

        let wrong = Sources { file: put("wrong.toml", "password = hunter2\n"), ..Sources::default() };
        let error = collect(&wrong, &Sanitiser::new(&[], [1; 32]), root.path()).unwrap_err();
        assert!(!format!("{error:#} {error:?}").contains("hunter2"));
        let missing = Sources { env_files: vec!["/nowhere/.env".into()], ..Sources::default() };
        assert!(collect(&missing, &Sanitiser::new(&[], [1; 32]), root.path()).is_err());
    }
}
