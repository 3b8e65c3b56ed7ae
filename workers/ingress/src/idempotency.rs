//! `Idempotency-Key`: how a client says that a request is the one it sent before.

use axum::http::HeaderMap;
use keelson_schemas::id;

use crate::auth::Caller;
use crate::problem::Problem;

/// The header's name.
pub const HEADER: &str = "idempotency-key";
/// Bytes of a key.
const MAX_BYTES: usize = 255;

/// A client's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The key of a request, if it has one.
    ///
    /// # Errors
    /// 422 when it is empty, too long or not visible ASCII.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = headers.get(HEADER) else {
            return Ok(None);
        };
        let bytes = value.as_bytes();
        let fine = (1..=MAX_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        match std::str::from_utf8(bytes).ok().filter(|_| fine) {
            Some(key) => Ok(Some(Self(key.to_owned()))),
            None => Err(Problem::field("Idempotency-Key", "must be 1 to 255 visible ASCII characters")),
        }
    }

    /// The key as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The message id of a part of a body that this caller sent under this key. The body is in it, so that a client which reuses
    /// a key for other samples loses none of them.
    #[must_use]
    pub fn id_of(&self, caller: &Caller, part: &str, body: &[u8]) -> String {
        let parts = [caller.principal.as_bytes(), self.0.as_bytes(), part.as_bytes(), body];
        id::derive_bytes("telemetry", parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &[u8]) -> Result<Option<Key>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, http::HeaderValue::from_bytes(value).expect("a header"));
        Key::of(&headers).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn keys_are_bounded() {
        assert_eq!(Key::of(&HeaderMap::new()), Ok(None));
        assert_eq!(key(b"abc-1"), Ok(Some(Key("abc-1".into()))));
        assert!(key(&[b'x'; 255]).is_ok());
        for wrong in [&b""[..], b"a b", b"caf\xc3\xa9", &[b'x'; 256]] {
            assert_eq!(key(wrong), Err(422), "{wrong:?}");
        }
    }
}
