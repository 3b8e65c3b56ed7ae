//! What an entry is, in 32 bytes.

use keelson_kit::incoming::Stored;
use keelson_schemas::audit::DIGEST_BYTES;
use sha2::{Digest as _, Sha256};

/// SHA-256.
pub type Digest = [u8; DIGEST_BYTES];

/// An entry of the stream, as far as it is sealed: all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub sequence: u64,
    /// When the stream took it, Unix milliseconds.
    pub time_ms: u64,
    /// Its subject.
    pub subject: String,
    /// Its headers, in any order.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: bytes::Bytes,
}

impl From<&Stored> for Entry {
    fn from(stored: &Stored) -> Self {
        Self {
            sequence: stored.sequence,
            time_ms: stored.time_ms,
            subject: stored.subject().to_owned(),
            headers: stored.headers.to_vec(),
            body: stored.payload.clone(),
        }
    }
}

impl Entry {
    /// Over place, time, subject, headers and body, so that an entry that was moved is another one.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut headers: Vec<&(String, String)> = self.headers.iter().collect();
        // The server keeps their order, clients do not; of one name, values stay as they were.
        headers.sort_by(|a, b| a.0.cmp(&b.0));
        let mut hasher = Parts::of("keelson audit entry v1");
        hasher.number(self.sequence).number(self.time_ms).part(self.subject.as_bytes());
        hasher.number(headers.len() as u64);
        for (name, value) in headers {
            hasher.part(name.as_bytes()).part(value.as_bytes());
        }
        hasher.part(&self.body);
        hasher.end()
    }
}

/// Hashes parts, each behind its length, so that no two lists of parts run together.
pub(crate) struct Parts(Sha256);

impl Parts {
    pub(crate) fn of(what: &str) -> Self {
        let mut parts = Self(Sha256::new());
        parts.part(what.as_bytes());
        parts
    }

    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(number.to_be_bytes());
        self
    }

    pub(crate) fn part(&mut self, part: &[u8]) -> &mut Self {
        self.number(part.len() as u64).0.update(part);
        self
    }

    pub(crate) fn end(self) -> Digest {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Entry {
            sequence: 7,
            time_ms: 1_764_000_000_123,
            subject: "keelson.cmd.cdn.purge".into(),
            headers: vec![header("b", "1"), header("a", "2"), header("a", "1")],
            body: bytes::Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn a_digest_is_the_same_for_ever() {
        let digest: String = entry().digest().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "f61a03dc2ea4fe58afd50f351afab58439d9fff44c30fee2026bdf4a7f2de81f");
    }

    #[test]
    fn whatever_is_changed_changes_it() {
        let change = |change: fn(&mut Entry)| {
            let mut entry = entry();
            change(&mut entry);
            entry.digest()
        };
        let changed = [
            change(|entry| entry.sequence = 8),
            change(|entry| entry.time_ms += 1),
            change(|entry| entry.subject.push('d')),
            change(|entry| entry.headers[0].0.push('d')),
            change(|entry| entry.headers[0].1.push('d')),
            change(|entry| entry.headers.swap(1, 2)),
            change(|entry| drop(entry.headers.pop())),
            change(|entry| entry.body = bytes::Bytes::from_static(b"{ }")),
        ];
        for (number, digest) in changed.iter().enumerate() {
            assert_ne!(*digest, entry().digest(), "{number}");
        }
    }

    #[test]
    fn headers_of_different_names_may_come_in_any_order() {
        let mut other = entry();
        other.headers.swap(0, 1);
        assert_eq!(other.digest(), entry().digest());
    }
}
