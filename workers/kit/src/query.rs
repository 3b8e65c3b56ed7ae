//! Questions and answers over NATS, as micro services: `nats micro ls`, `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS` show them.
//!
//! A question goes to `keelson.qry.<worker>.<noun>` and changes nothing. An answer larger than a message comes in parts; one
//! that is refused carries a status as in HTTP. Answers are MessagePack for those who say that they accept it, and JSON
//! for the others, so that `nats request keelson.qry.metrics.summary ''` shows something to read.

mod answer;
mod answered;
mod ask;
mod parts;

use keelson_schemas::codec;

pub use self::answer::Queries;
pub use self::ask::AskError;

/// Header: the formats that the asker understands.
const ACCEPT: &str = "accept";
/// How much of an answer one message carries.
const MAX_PART_BYTES: usize = 512 * 1024;
/// How many parts an answer may have: 128 MiB.
const MAX_PARTS: usize = 256;

/// Why a question gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// As in HTTP: 4xx when the question is at fault, 5xx when the answerer is.
    pub status: u16,
    /// One sentence for the asker.
    pub reason: String,
}

impl Refusal {
    /// A refusal with this status and reason.
    pub fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::new(500, format!("{error:#}"))
    }
}

impl From<codec::DecodeError> for Refusal {
    fn from(error: codec::DecodeError) -> Self {
        Self::new(400, error.to_string())
    }
}

#[cfg(test)]
mod tests;
