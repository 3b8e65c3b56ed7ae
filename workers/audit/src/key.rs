//! The keys of seals: Ed25519, in base64. The private one is kept outside the bus, so that who can write there cannot sign.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{SigningKey, VerifyingKey};

/// A key whose signatures count.
pub type Public = VerifyingKey;

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoKey;

impl std::fmt::Display for NoKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("is no key: 32 bytes in base64, as `keelson audit key` prints them")
    }
}

/// A private key.
///
/// # Errors
/// When it is none.
pub fn private(text: &str) -> Result<SigningKey, NoKey> {
    Ok(SigningKey::from_bytes(&bytes(text)?))
}

/// A public key.
///
/// # Errors
/// When it is none.
pub fn public(text: &str) -> Result<VerifyingKey, NoKey> {
    VerifyingKey::from_bytes(&bytes(text)?).map_err(|_| NoKey)
}

/// As text.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A new private key.
#[must_use]
pub fn generate() -> SigningKey {
    SigningKey::from_bytes(&rand::random())
}

fn bytes(text: &str) -> Result<[u8; 32], NoKey> {
    STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(NoKey)
}
