//! A text that is never shown.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands where a secret would.
pub const REDACTED: &str = "<redacted>";

/// A password, key or token. Printing, logging and serialising it give [`REDACTED`]; a wrong type is reported without
/// the value.
#[derive(Clone, Debug)]
pub struct Secret(SecretString);

impl Secret {
    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)
            .map(Self::from)
            .map_err(|_| serde::de::Error::custom("expected a text in quotes (its value is not shown)"))
    }
}

/// Serialises an address with what stands before the `@` redacted: `nats://<redacted>@host:4222`.
pub(super) fn without_userinfo<S: Serializer>(
    url: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    url.as_deref().map(redact_userinfo).serialize(serializer)
}

fn redact_userinfo(urls: &str) -> String {
    urls.split(',').map(redact_one).collect::<Vec<_>>().join(",")
}

fn redact_one(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    match (scheme, rest.rsplit_once('@')) {
        (_, None) => url.to_owned(),
        ("", Some((_, host))) => format!("{REDACTED}@{host}"),
        (scheme, Some((_, host))) => format!("{scheme}://{REDACTED}@{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userinfo_is_redacted_in_every_address_of_a_list() {
        assert_eq!(redact_userinfo("nats://a:b@h:1,h:2,c@h:3"), "nats://<redacted>@h:1,h:2,<redacted>@h:3");
    }

    #[test]
    fn neither_debug_nor_serialise_shows_a_secret() {
        let secret = Secret::from("hunter2".to_owned());
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(serde_json::to_value(&secret).ok(), Some(REDACTED.into()));
        assert_eq!(secret.expose(), "hunter2");
    }
}
