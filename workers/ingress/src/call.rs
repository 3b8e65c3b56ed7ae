//! A call to a service, over HTTP: what is asked of the services worker, and how its answer is shown.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::Request;
use keelson_schemas::services::{Attempt, Body, Call, CallAnswer, CallRefusal, CallReply, RefusedBecause};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::app::App;
use crate::ask;
use crate::decode;
use crate::problem::{Kind, Problem};

/// The largest call that is taken: with its frame it has to fit into one message on the bus.
const MAX_CALL_BYTES: usize = 6 << 20;
/// How long the worker has beyond what the call may take.
const TO_ANSWER: Duration = Duration::from_secs(2);
/// The longest that a call may take, and how long one takes at most that does not say: both as the worker has them.
const LONGEST: Duration = Duration::from_secs(25);

/// What an instance answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShownReply {
    /// The instance that answered.
    instance: String,
    /// Its status.
    status: u16,
    /// Its headers, in lower case.
    headers: BTreeMap<String, String>,
    /// JSON as it is, a text as a text, and anything else in Base64.
    body: Value,
    /// `base64` where the body is neither JSON nor a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_encoding: Option<&'static str>,
    /// Every attempt, in order; the last one is that which is answered here.
    attempts: Vec<Attempt>,
}

/// Calls a service.
///
/// # Errors
/// Why there is no answer.
pub async fn call(app: &App, service: String, request: Request) -> Result<ShownReply, Problem> {
    let held = app.budget.read(request).await?;
    if held.bytes.len() > MAX_CALL_BYTES {
        let detail = format!("a call has at most {MAX_CALL_BYTES} bytes");
        return Err(Problem::new(Kind::TooLarge, detail));
    }
    let bytes: &[u8] = if held.bytes.is_empty() { b"{}" } else { &held.bytes };
    let asked: Call = decode::json(bytes)?;
    if !asked.service.is_empty() && asked.service != service {
        return Err(Problem::field("service", "it stands in the path already, and there it is another"));
    }
    let asked = Call { service, ..asked };
    let within = asked.timeout_ms.map_or(LONGEST, Duration::from_millis).min(LONGEST) + TO_ANSWER;
    match ask::within(&app.bus, "services", "call", &asked, within).await? {
        CallAnswer::Answered(reply) => Ok(shown(reply)),
        CallAnswer::Refused(refusal) => Err(problem(refusal)),
    }
}

fn shown(reply: CallReply) -> ShownReply {
    let CallReply { instance, status, headers, body, attempts } = reply;
    let (body, body_encoding) = match body {
        Body::Json(json) => (json, None),
        Body::Text(text) => (text.into(), None),
        Body::Base64(text) => (text.into(), Some("base64")),
    };
    ShownReply { instance, status, headers, body, body_encoding, attempts }
}

fn problem(refusal: CallRefusal) -> Problem {
    let CallRefusal { because, reason, retry_after_ms, attempts } = refusal;
    let kind = match because {
        RefusedBecause::NotRegistered => Kind::NotFound,
        RefusedBecause::BreakerOpen => Kind::BreakerOpen,
        RefusedBecause::Busy => Kind::Overloaded,
        RefusedBecause::Invalid => Kind::InvalidField,
        RefusedBecause::NotAllowed => Kind::CallNotAllowed,
        RefusedBecause::TooLarge => Kind::TooLarge,
        RefusedBecause::Failed => Kind::CallFailed,
        RefusedBecause::TimedOut => Kind::CallTimedOut,
    };
    let problem = Problem::new(kind, detail(reason, &attempts));
    match retry_after_ms {
        Some(ms) => problem.retry_after(Duration::from_millis(ms)),
        None => problem,
    }
}

/// What was tried says more than the last word on it.
fn detail(reason: String, attempts: &[Attempt]) -> String {
    if attempts.is_empty() {
        return reason;
    }
    let told = attempts.iter().map(|attempt| {
        let status = attempt.status.map(|status| format!("it answered {status}"));
        let said = attempt.error.clone().or(status).unwrap_or_default();
        format!("{} after {} ms: {said}", attempt.instance, attempt.duration_ms)
    });
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_breaker_is_503_and_says_for_how_long() {
        let refusal = |because| CallRefusal {
            because,
            reason: "no".into(),
            retry_after_ms: Some(11_200),
            attempts: Vec::new(),
        };
        let cases = [
            (RefusedBecause::NotRegistered, 404),
            (RefusedBecause::BreakerOpen, 503),
            (RefusedBecause::Busy, 429),
            (RefusedBecause::Invalid, 422),
            (RefusedBecause::NotAllowed, 403),
            (RefusedBecause::TooLarge, 413),
            (RefusedBecause::Failed, 502),
            (RefusedBecause::TimedOut, 504),
        ];
        for (because, status) in cases {
            assert_eq!(problem(refusal(because)).status(), status, "{because:?}");
        }
        let response =
            axum::response::IntoResponse::into_response(problem(refusal(RefusedBecause::BreakerOpen)));
        assert_eq!(response.headers()["retry-after"], "12");
    }
}
