//! Section `[audit]`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ed25519_dalek::{SigningKey, VerifyingKey};
use keelson_kit::config::{ConfigError, Secret, Span};
use serde::{Deserialize, Serialize};

use crate::key;

/// Environment variables, and the keys that they set.
pub(crate) const ENV: &[(&str, &str)] =
    &[("KEELSON_AUDIT_KEY", "key"), ("KEELSON_AUDIT_KEY_FILE", "key_file")];

/// How the audit trail is sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// The private key that signs seals, as `keelson audit key` makes it. Without one, and without a file, seals are unsigned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
    /// A file that holds it; relative to keelson.toml's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Public keys of former signers, and for `keelson audit verify` where the private one is not: it trusts these and the one above.
    pub trusted_keys: Vec<String>,
    /// How long an entry may wait for its seal. 10 s
    pub seal_every: Span,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { key: None, key_file: None, trusted_keys: Vec::new(), seal_every: Span::seconds(10) }
    }
}

impl AuditConfig {
    /// What is wrong with it.
    #[must_use]
    pub fn errors(&self) -> Vec<ConfigError> {
        let wrong_key = self.key.as_ref().and_then(|text| key::private(text.expose()).err());
        let mut errors: Vec<ConfigError> =
            wrong_key.into_iter().map(|error| ConfigError::new("key", error.to_string())).collect();
        if self.key.is_some() && self.key_file.is_some() {
            errors.push(ConfigError::new("key_file", "there is a `key` already: one of them signs"));
        }
        for text in &self.trusted_keys {
            if let Err(error) = key::public(text) {
                errors.push(ConfigError::new("trusted_keys", format!("{text:?} {error}")));
            }
        }
        if self.seal_every.0.is_zero() {
            errors.push(ConfigError::new("seal_every", "is nothing; write 1s or more"));
        }
        errors
    }

    /// The private key, if there is one; `dir` is the folder of keelson.toml.
    ///
    /// # Errors
    /// When its file cannot be read, or holds none.
    pub fn signer(&self, dir: &Path) -> anyhow::Result<Option<SigningKey>> {
        let text = match (&self.key, &self.key_file) {
            (Some(key), _) => key.clone(),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(dir.join(file));
                Secret::from(
                    text.with_context(|| format!("audit.key_file: {} cannot be read", file.display()))?,
                )
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(key::private(text.expose()).map_err(|error| anyhow::anyhow!("audit: the key {error}"))?))
    }

    /// The keys whose signatures count.
    ///
    /// # Errors
    /// As [`AuditConfig::signer`].
    pub fn trusted(&self, dir: &Path) -> anyhow::Result<Vec<VerifyingKey>> {
        let listed = self.trusted_keys.iter().filter_map(|text| key::public(text).ok());
        Ok(self.signer(dir)?.iter().map(SigningKey::verifying_key).chain(listed).collect())
    }
}
