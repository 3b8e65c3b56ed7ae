//! The audit trail: seals over what the stream AUDIT holds.

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::message::Message;
use crate::operation::State;

/// The stream.
pub const STREAM: &str = "AUDIT";
/// Where seals are published; as events they are in AUDIT themselves, and the next seal covers them.
pub const SEALED: &str = "keelson.evt.audit.sealed";
/// Bytes of one digest: SHA-256.
pub const DIGEST_BYTES: usize = 32;

/// A block of entries that stands as it is from here on: `keelson.evt.audit.sealed`. Each seal holds the hash of the one before it, so that they are a chain;
/// and the digest of every entry, so that it can be said which one is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Seal {
    /// From 1 on, none left out.
    pub number: u64,
    /// When the stream was made whose sequences are meant, Unix milliseconds.
    pub stream_created_ms: i64,
    /// The sequence of the block's first entry.
    pub first: u64,
    /// The sequence of its last entry; none between them is missing.
    pub last: u64,
    /// When the entry before the first one was stored, Unix milliseconds; 0 when there was none.
    pub after_ms: u64,
    /// When its first entry was stored.
    pub first_ms: u64,
    /// When its last entry was stored.
    pub last_ms: u64,
    /// The digest of each entry, one after the other.
    #[schemars(with = "String")]
    pub digests: Bytes,
    /// The hash of the seal before this one, in hex; none for the first.
    #[serde(default)]
    pub previous: Option<String>,
    /// The epoch of the sealer's lease.
    pub epoch: u64,
    /// When it was sealed, by the sealer's clock.
    #[schemars(with = "String")]
    pub sealed_at: Timestamp,
    /// The public key (Ed25519, base64) of who signed; none without a key.
    #[serde(default)]
    pub signer: Option<String>,
    /// The signature (base64) of this seal's hash.
    #[serde(default)]
    pub signature: Option<String>,
}

impl Message for Seal {
    const TYPE: &'static str = "keelson.audit.sealed.v1";

    fn example() -> Self {
        Self {
            number: 2,
            stream_created_ms: 1_764_000_000_000,
            first: 4,
            last: 5,
            after_ms: 1_764_000_060_123,
            first_ms: 1_764_000_060_456,
            last_ms: 1_764_000_069_456,
            digests: Bytes::from_static(&[0x5a; 2 * DIGEST_BYTES]),
            previous: Some("0f".repeat(DIGEST_BYTES)),
            epoch: 3,
            sealed_at: Timestamp::constant(1_764_000_070, 0),
            signer: Some("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".into()),
            signature: Some("hgyY0il+MGCjP0JzlnkSdVhlnRmRL6ZD3lM1aKgHpRw=".into()),
        }
    }
}

/// How far the stream is sealed: answers `keelson.qry.audit.status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditStatus {
    /// Seals.
    pub seals: u64,
    /// The last entry that is sealed.
    pub sealed_through: u64,
    /// The last seal's hash, in hex.
    #[serde(default)]
    pub head: Option<String>,
    /// Whether seals are signed by a key that the sealer trusts.
    pub signed: bool,
}

impl Message for AuditStatus {
    const TYPE: &'static str = "keelson.audit.status.v1";

    fn example() -> Self {
        Self { seals: 2, sealed_through: 5, head: Some("0f".repeat(DIGEST_BYTES)), signed: true }
    }
}

/// An entry as people read it: a line of `GET /api/audit`. What is not known is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Its place in the stream.
    pub sequence: u64,
    /// When the stream took it.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Its subject.
    pub subject: String,
    /// Who asked, as the record of the operation has it; `unverified` where anybody may have.
    pub actor: String,
    /// Who says that it published.
    pub source: Option<String>,
    /// The message's id.
    pub id: Option<String>,
    /// The operation that a command is.
    pub operation: Option<String>,
    /// The trace that it belongs to.
    pub trace: Option<String>,
    /// What became of a command, while that is known.
    pub outcome: Option<State>,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// Its type.
    pub message_type: Option<String>,
    /// Its body; base64 where it is neither MessagePack nor JSON.
    pub body: serde_json::Value,
}
