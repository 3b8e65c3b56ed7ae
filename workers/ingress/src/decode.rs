//! Bodies into types, with errors that name the field. The fast way knows no path; only a body that fails is read again with one.

use keelson_schemas::telemetry::Invalid;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::problem::{Kind, Problem};

/// Why a body is refused, whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not JSON (or MessagePack) at all; the sentence says where it stops being so.
    #[error("the body is malformed: {0}")]
    Malformed(String),
    /// A field is missing, unknown, of another type or out of bounds.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// More than one body may hold.
    #[error(transparent)]
    TooMany(Invalid),
}

/// Reads JSON.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refused> {
    // Once over the whole body is faster than serde_json's once for each string.
    let text = std::str::from_utf8(body).map_err(|error| malformed(&error))?;
    serde_json::from_str(text).map_err(|error| explain_json::<T>(text).unwrap_or_else(|| malformed(&error)))
}

fn explain_json<'a, T: Deserialize<'a>>(text: &'a str) -> Option<Refused> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let error = serde_path_to_error::deserialize::<_, T>(&mut reader).err()?;
    Some(match error.inner().classify() {
        serde_json::error::Category::Data => wrong_field(&error.path().to_string(), error.inner()),
        _ => malformed(error.inner()),
    })
}

/// Reads MessagePack.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn message_pack<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refused> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(body);
    let value = T::deserialize(&mut reader)
        .map_err(|error| explain_message_pack::<T>(body).unwrap_or_else(|| malformed(&error)))?;
    // The reader does not tell what it left over, so the end is where nothing more can be read.
    match IgnoredAny::deserialize(&mut reader) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(Refused::Malformed("something follows its end".into())),
    }
}

/// The one first byte that MessagePack gives no meaning.
const NEVER_USED: u8 = 0xc1;

fn explain_message_pack<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<Refused> {
    use rmp_serde::decode::Error;
    let mut reader = rmp_serde::Deserializer::from_read_ref(body);
    let error = serde_path_to_error::deserialize::<_, T>(&mut reader).err()?;
    Some(match error.inner() {
        Error::TypeMismatch(marker) if marker.to_u8() == NEVER_USED => malformed(error.inner()),
        Error::Syntax(_) | Error::OutOfRange | Error::TypeMismatch(_) | Error::LengthMismatch(_) => {
            wrong_field(&error.path().to_string(), error.inner())
        }
        other => malformed(other),
    })
}

fn malformed(error: &impl std::error::Error) -> Refused {
    Refused::Malformed(error.to_string())
}

/// A type error as a field and a sentence. Serde reports a missing field at its parent, and in Rust's words.
fn wrong_field(path: &str, error: &impl std::error::Error) -> Refused {
    let text = error.to_string();
    let reason = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
    let parent = if path == "." { "" } else { path };
    let missing = reason.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    match missing {
        Some(name) if parent.is_empty() => Invalid::new(name, "is missing").into(),
        Some(name) => Invalid::new(format!("{parent}.{name}"), "is missing").into(),
        None => Invalid::new(parent, in_plain_words(reason)).into(),
    }
}

fn in_plain_words(reason: &str) -> String {
    reason
        .replace("expected u64", "expected a whole number, not negative")
        .replace("expected u16", "expected a whole number from 0 to 65535")
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Malformed(_) => Self::new(Kind::Malformed, refused.to_string()),
            Refused::Invalid(invalid) => Self::field(invalid.field, invalid.reason),
            Refused::TooMany(invalid) => Self::new(Kind::TooLarge, invalid.reason),
        }
    }
}
