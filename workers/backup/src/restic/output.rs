//! What restic says, as far as it is read. Fields that are not named here are passed over: newer versions say more.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Deserialize;

use crate::files::Stamp;

/// Complaints that are kept; more say the same.
const MAX_COMPLAINTS: usize = 5;

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Snapshot {
    /// Its whole id.
    pub id: String,
    /// When it was made.
    pub time: Timestamp,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// A file as it is stored: a line of `restic ls --json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Node {
    /// From the root of the snapshot.
    pub path: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    size: u64,
    mtime: Timestamp,
    ctime: Timestamp,
}

impl Node {
    /// Its path and what it was when it was read; none of a folder.
    #[must_use]
    pub fn file(self) -> Option<(String, Stamp)> {
        let stamp = Stamp::stored(self.size, self.mtime, self.ctime);
        (self.kind == "file").then(|| (self.path.trim_start_matches('/').to_owned(), stamp))
    }
}

/// How far a backup is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Bytes read.
    pub bytes_done: u64,
    /// Bytes found so far.
    pub total_bytes: u64,
}

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Stored {
    /// The snapshot, by the beginning of its id.
    pub snapshot_id: String,
    /// Files in it.
    pub total_files_processed: u64,
    /// Their bytes.
    pub total_bytes_processed: u64,
    /// By how much the repository has grown.
    pub data_added: u64,
    /// What could not be read, and so is not in it; none when all could.
    #[serde(skip)]
    pub incomplete: Option<String>,
}

/// A line of `restic backup --json`.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub enum Line {
    /// Said now and then.
    Status(Status),
    /// Said at the end.
    Summary(Stored),
    /// Something could not be read.
    Error {
        /// What.
        #[serde(default)]
        item: String,
        /// Why.
        #[serde(default)]
        error: serde_json::Value,
    },
    /// Something else.
    #[serde(other)]
    Other,
}

/// Reads a line; what is no JSON is nothing.
pub fn line(text: &str) -> Option<Line> {
    serde_json::from_str(text).ok()
}

/// Reads what `restic snapshots --json` says.
///
/// # Errors
/// When it is not that.
pub fn snapshots(bytes: &[u8]) -> Result<Vec<Snapshot>, serde_json::Error> {
    Ok(serde_json::from_slice::<Option<Vec<Snapshot>>>(bytes)?.unwrap_or_default())
}

/// What restic complained of, in a bounded number of words.
#[derive(Debug, Default)]
pub struct Complaints(VecDeque<String>);

impl Complaints {
    /// Takes in a line of standard error. The last ones are kept: what was fatal comes last.
    pub fn take(&mut self, text: &str) {
        let said = match line(text) {
            Some(Line::Error { item, error }) => format!("{item}: {}", reason(&error)),
            _ => text.trim().to_owned(),
        };
        let said: String = said.chars().take(500).collect();
        if said.is_empty() {
            return;
        }
        if self.0.len() == MAX_COMPLAINTS {
            self.0.pop_front();
        }
        self.0.push_back(said);
    }

    /// In a sentence.
    pub fn words(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}

/// An error is a text, or an object of Go's with the text somewhere in it.
fn reason(error: &serde_json::Value) -> String {
    match error {
        serde_json::Value::String(text) => text.clone(),
        object => object["message"].as_str().map_or_else(|| object.to_string(), str::to_owned),
    }
}
