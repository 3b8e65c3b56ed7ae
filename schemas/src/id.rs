//! Ids that follow from what they name, so that doing a thing twice names it once.
//!
//! Every id is the first 128 bits of a BLAKE3 hash over its parts, each preceded by its length (so that no two lists of parts
//! run together), in lower-case hex: valid as a message id, a KV key and a path segment.

/// The id of a command asked for over HTTP under an `Idempotency-Key`.
pub fn operation(principal: &str, method: &str, path: &str, idempotency_key: &str) -> String {
    derive("operation", &[principal, method, path, idempotency_key])
}

/// The id of a command published by hand: the stream's creation time (Unix ms) tells apart streams that had the same sequence.
pub fn operation_by_hand(stream_created_ms: i64, sequence: u64) -> String {
    derive("operation-by-hand", &[&stream_created_ms.to_string(), &sequence.to_string()])
}

/// The id of what is published because of the message `cause`; `what` tells apart several consequences of one cause.
pub fn consequence(cause: &str, what: &str) -> String {
    derive("consequence", &[cause, what])
}

/// The id of the dead letter of a message, equal for all who may write it.
pub fn dead_letter(stream: &str, consumer: &str, sequence: u64, stored_at_ms: i64) -> String {
    derive("dead-letter", &[stream, consumer, &sequence.to_string(), &stored_at_ms.to_string()])
}

/// The id over `parts` in the name space `kind`.
pub fn derive(kind: &str, parts: &[&str]) -> String {
    derive_bytes(kind, parts.iter().map(|part| part.as_bytes()))
}

/// [`derive()`] over parts that are not text, such as a request's body.
pub fn derive_bytes<'a>(kind: &'a str, parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in std::iter::once(kind.as_bytes()).chain(parts) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// The full hash of a body, by which "the same key with another body" is seen.
pub fn body_hash(body: &[u8]) -> String {
    blake3::hash(body).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_for_ever() {
        let cases = [
            (operation("admin", "POST", "/api/cdn/purge", "k1"), "6bd9d29b217ea733aac0d143cb3b3524"),
            (operation_by_hand(1_764_000_000_123, 7), "6382fb6164bb5a9134f733390260bae1"),
            (consequence("a1", "purged"), "54442ec9ee81880d8c7436d39c0e2fbb"),
            (dead_letter("COMMANDS", "cdn", 7, 1_764_000_000_123), "1885659813ce23f2b21fb55b59f5998e"),
        ];
        for (id, golden) in cases {
            assert_eq!(id, golden);
        }
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(derive("x", &["ab", "c"]), derive("x", &["a", "bc"]));
        assert_ne!(derive("x", &["a"]), derive("xa", &[]));
    }
}
