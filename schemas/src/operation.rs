//! The life of a command, as it is kept in the `operations` bucket and shown over HTTP.

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::message::Message;

/// Where a command stands. The last four are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Recorded, perhaps not yet published, not yet taken up.
    Accepted,
    /// A worker has begun it.
    Running,
    /// Done.
    Succeeded,
    /// Tried and given up: `error` says why.
    Failed,
    /// Not a thing that can be done: `error` says why.
    Rejected,
    /// Its effect, which must not happen twice, may or may not have happened. Never retried silently.
    Unknown,
}

impl State {
    /// Whether nothing follows it.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Rejected | Self::Unknown)
    }
}

/// How far a long operation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all, when known.
    #[serde(default)]
    pub total: Option<u64>,
    /// What is being done, for people; also what the units are.
    #[serde(default)]
    pub note: Option<String>,
}

/// An operation as everyone may see it: `{"id","kind","state","attempts","progress","result","error","requestedBy","createdAt","updatedAt"}`.
/// What is not there yet is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// See [`crate::id::operation`].
    pub id: String,
    /// `<worker>.<verb>`, e.g. `cdn.purge`.
    pub kind: String,
    /// Where it stands.
    pub state: State,
    /// How often a worker has begun it.
    pub attempts: u32,
    /// How far it is.
    pub progress: Option<Progress>,
    /// What it gave, once succeeded.
    pub result: Option<serde_json::Value>,
    /// Why it did not succeed; while it runs, why the last attempt did not.
    pub error: Option<String>,
    /// The principal of the token, or `unverified` from the bus.
    pub requested_by: String,
    /// When it was recorded.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When the record last changed.
    #[schemars(with = "String")]
    pub updated_at: Timestamp,
}

/// An operation as it is kept: what everyone may see, and what is needed to publish its command again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationRecord {
    /// What everyone may see.
    #[serde(flatten)]
    pub operation: Operation,
    /// The subject of its command.
    pub subject: String,
    /// The command's body as published; kept until a worker has begun it.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub payload: Option<Bytes>,
    /// [`crate::id::body_hash`] of the request, by which the same key with another body is seen.
    #[serde(default)]
    pub body_hash: Option<String>,
    /// The trace in which it was asked for.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// The CloudEvents type of its command.
    #[serde(default)]
    pub message_type: String,
    /// The sequence under which its command is on the stream, once that is known.
    #[serde(default)]
    pub published: Option<u64>,
    /// The message that carries it, `<sequence>@<stored at, ns>`: any other message with its id is a duplicate.
    #[serde(default)]
    pub carrier: Option<String>,
    /// Whether an attempt has begun and not ended: found so by the next attempt, its worker crashed in the midst of it.
    #[serde(default)]
    pub attempt_open: bool,
}

impl Message for OperationRecord {
    const TYPE: &'static str = "keelson.operation.v1";

    fn example() -> Self {
        Self {
            operation: Operation {
                id: "0af7651916cd43dd8448eb211c80319c".into(),
                kind: "steward.redrive".into(),
                state: State::Running,
                attempts: 2,
                progress: Some(Progress { done: 3, total: Some(10), note: Some("letters".into()) }),
                result: Some(serde_json::json!({"republished": 3})),
                error: Some("attempt 1: the bus was away".into()),
                requested_by: "admin".into(),
                created_at: Timestamp::constant(1_764_000_000, 0),
                updated_at: Timestamp::constant(1_764_000_001, 500_000_000),
            },
            subject: "keelson.cmd.steward.redrive".into(),
            payload: Some(Bytes::from_static(b"{\"sequence\":7}")),
            body_hash: Some(crate::id::body_hash(b"{\"sequence\":7}")),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            message_type: "keelson.steward.redrive.v1".into(),
            published: Some(12),
            carrier: Some("12@1764000000123000000".into()),
            attempt_open: true,
        }
    }
}
