//! Bodies: MessagePack with named fields, so that fields can be added; JSON is read wherever a person may write.
//!
//! Without a content type the first byte that is not white space decides. A JSON object begins with `{` (0x7b). A
//! MessagePack body is always a map and begins with 0x80–0x8f, 0xde or 0xdf; 0x7b, like the bytes of white space, would
//! be a small integer there. So no body is ever taken for the other kind.

use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

/// The content type of what Keelson writes.
pub const MSGPACK: &str = "application/msgpack";
/// The content type of what people write.
pub const JSON: &str = "application/json";

/// A value that MessagePack cannot hold: a defect in the type, never a matter of input.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode as MessagePack: {0}")]
pub struct EncodeError(#[from] rmp_serde::encode::Error);

/// Why a body is not the message it should be, in words fit for the one who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Neither MessagePack nor JSON by its content type.
    #[error("content type {0:?} is not understood: send application/json or application/msgpack")]
    ContentType(String),
    /// The bytes are not well formed, or a field is missing or of the wrong type.
    #[error("not a valid {format} body: {}{reason}", at(path))]
    Body {
        /// `JSON` or `MessagePack`.
        format: &'static str,
        /// The field, e.g. `urls[2]`; empty for the body as a whole.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// MessagePack with named fields.
    MsgPack,
    /// JSON.
    Json,
}

/// `message` as MessagePack with named fields.
pub fn encode<T: Serialize + ?Sized>(message: &T) -> Result<Vec<u8>, EncodeError> {
    Ok(rmp_serde::to_vec_named(message)?)
}

/// Reads a body by its content type, or by its first byte when it has none.
pub fn decode<T: DeserializeOwned>(content_type: Option<&str>, body: &[u8]) -> Result<T, DecodeError> {
    match format_of(content_type, body)? {
        Format::MsgPack => from_msgpack(body),
        Format::Json => from_json(body),
    }
}

/// The format of a body: what its content type says, else what its first byte shows.
pub fn format_of(content_type: Option<&str>, body: &[u8]) -> Result<Format, DecodeError> {
    let Some(content_type) = content_type else { return Ok(sniff(body)) };
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media.as_str() {
        "" => Ok(sniff(body)),
        "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => Ok(Format::MsgPack),
        "application/json" | "text/json" => Ok(Format::Json),
        other if other.ends_with("+json") => Ok(Format::Json),
        _ => Err(DecodeError::ContentType(content_type.to_owned())),
    }
}

fn sniff(body: &[u8]) -> Format {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'{') { Format::Json } else { Format::MsgPack }
}

fn from_msgpack<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(body);
    let Ok(value) = T::deserialize(&mut reader) else { return Err(why_not_msgpack::<T>(body)) };
    match IgnoredAny::deserialize(&mut reader) {
        Err(_) => Ok(value),
        Ok(_) => Err(whole("MessagePack", "more follows after the end of the message")),
    }
}

/// Decodes again, tracking the path: that costs too much to be done for every good message.
fn why_not_msgpack<T: DeserializeOwned>(body: &[u8]) -> DecodeError {
    let mut reader = rmp_serde::Deserializer::from_read_ref(body);
    match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) => refuse("MessagePack", &error),
        Ok(_) => whole("MessagePack", "cannot be decoded"),
    }
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| refuse("JSON", &error))?;
    reader.end().map_err(|error| whole("JSON", &error.to_string()))?;
    Ok(value)
}

fn whole(format: &'static str, reason: &str) -> DecodeError {
    DecodeError::Body { format, path: String::new(), reason: reason.to_owned() }
}

fn refuse<E: std::fmt::Display>(format: &'static str, error: &serde_path_to_error::Error<E>) -> DecodeError {
    let path = error.path().to_string();
    let path = if path == "." || path == "?" { String::new() } else { path };
    DecodeError::Body { format, path, reason: error.inner().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    struct Purge {
        urls: Vec<String>,
        #[serde(default)]
        soft: bool,
    }

    fn purge() -> Purge {
        Purge { urls: vec!["https://a/b".into()], soft: false }
    }

    #[test]
    fn reads_what_it_wrote_and_what_people_write() {
        let msgpack = encode(&purge()).unwrap();
        let json = br#"{"urls":["https://a/b"]}"#;
        let cases: &[(Option<&str>, &[u8])] = &[
            (None, &msgpack),
            (Some(MSGPACK), &msgpack),
            (Some(""), &msgpack),
            (None, json),
            (None, b" \r\n\t{\"urls\":[\"https://a/b\"]} "),
            (Some("application/json; charset=utf-8"), json),
            (Some("application/vnd.keelson+json"), json),
        ];
        for (content_type, body) in cases {
            assert_eq!(decode::<Purge>(*content_type, body), Ok(purge()), "{content_type:?} {body:?}");
        }
    }

    #[test]
    fn refuses_in_words_that_name_the_field() {
        let trailing = [encode(&purge()).unwrap(), vec![0xc0]].concat();
        let cases: &[(Option<&str>, &[u8], &str)] = &[
            (Some("text/html"), b"<p>", "text/html"),
            (None, b"", "MessagePack"),
            (None, b"{", "JSON"),
            (None, br#"{"urls":[1]}"#, "urls[0]"),
            (None, br#"{}"#, "missing field `urls`"),
            (None, br#"{"urls":[]} x"#, "trailing"),
            (None, &trailing, "more follows"),
            (Some(JSON), &encode(&purge()).unwrap(), "JSON"),
        ];
        for (content_type, body, says) in cases {
            let said = decode::<Purge>(*content_type, body).unwrap_err().to_string();
            assert!(said.contains(says), "{said:?} should contain {says:?}");
        }
    }

    #[test]
    fn unknown_fields_are_passed_over_so_that_fields_can_be_added() {
        let newer = br#"{"urls":[],"soft":true,"since":5}"#;
        assert!(decode::<Purge>(None, newer).is_ok());
    }
}
