//! A call from one service to another, by way of Keelson.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::message::Message;

/// Asks `keelson.qry.services.call`: a request to one of a service's instances.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Call {
    /// The service. Over HTTP it stands in the path, and not here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// `GET`
    pub method: String,
    /// Path and query: `/v1/videos?page=2`.
    pub path: String,
    /// Headers; those about the connection and those with credentials are left out. With an `Idempotency-Key` any method may be tried again.
    pub headers: BTreeMap<String, String>,
    /// A text as it is; anything else is sent as JSON.
    pub body: Option<Value>,
    /// How long all of it may take. 5,000, and 25,000 at most
    pub timeout_ms: Option<u64>,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallAnswer {
    /// An instance answered.
    Answered(CallReply),
    /// None did, or none was asked.
    Refused(CallRefusal),
}

/// What an instance answered, whatever it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallReply {
    /// The instance that answered.
    pub instance: String,
    /// Its status.
    pub status: u16,
    /// Its headers, in lower case; several values of one are joined by a comma.
    pub headers: BTreeMap<String, String>,
    /// What it said.
    pub body: Body,
    /// Every attempt, in order; the last one is that which is answered here.
    pub attempts: Vec<Attempt>,
}

/// A body, as it can be shown in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// What said that it was JSON, and was.
    Json(Value),
    /// Any other text.
    Text(String),
    /// What is no text.
    Base64(String),
}

/// One attempt at a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// Where.
    pub instance: String,
    /// What it answered, if it did.
    #[serde(default)]
    pub status: Option<u16>,
    /// What went wrong.
    #[serde(default)]
    pub error: Option<String>,
    /// How long it took.
    pub duration_ms: u64,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallRefusal {
    /// Why, for programs.
    pub because: RefusedBecause,
    /// Why, for people.
    pub reason: String,
    /// When it may be worth asking again.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    /// Every attempt, in order.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RefusedBecause {
    /// No service is registered under this name.
    NotRegistered,
    /// Its breaker is open.
    BreakerOpen,
    /// As many calls are under way as may be.
    Busy,
    /// The call makes no sense.
    Invalid,
    /// The service does not allow it.
    NotAllowed,
    /// What was asked or answered is larger than may be.
    TooLarge,
    /// No instance answered.
    Failed,
    /// None answered in time.
    TimedOut,
}

impl CallRefusal {
    fn example() -> Self {
        Self {
            because: RefusedBecause::BreakerOpen,
            reason: "the breaker of content is open".into(),
            retry_after_ms: Some(12_000),
            attempts: vec![Attempt {
                instance: "http://127.0.0.1:5002".into(),
                status: Some(500),
                error: Some("connection refused".into()),
                duration_ms: 3,
            }],
        }
    }
}

impl Message for Call {
    const TYPE: &'static str = "keelson.services.call.v1";

    fn example() -> Self {
        Self {
            service: "content".into(),
            method: "POST".into(),
            path: "/v1/videos?page=2".into(),
            headers: [("idempotency-key".to_owned(), "7".to_owned())].into(),
            body: Some(Value::from("ok")),
            timeout_ms: Some(2_000),
        }
    }
}

impl Message for CallAnswer {
    const TYPE: &'static str = "keelson.services.call-answer.v1";

    fn example() -> Self {
        Self::Refused(CallRefusal::example())
    }
}

impl Message for CallReply {
    const TYPE: &'static str = "keelson.services.call-reply.v1";

    fn example() -> Self {
        Self {
            instance: "http://127.0.0.1:5002".into(),
            status: 200,
            headers: [("content-type".to_owned(), "application/json".to_owned())].into(),
            body: Body::Json(serde_json::json!({"title": "Otters", "views": 42})),
            attempts: CallRefusal::example().attempts,
        }
    }
}
