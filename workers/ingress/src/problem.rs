//! Errors as RFC 9457 `application/problem+json`: what is wrong, where, and what to do.

use axum::extract::Request;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// What kind of thing went wrong. Each kind has one status and one `type`, `urn:keelson:problem:<slug>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The body is not what its content type says.
    Malformed,
    /// A field of the body, the path or a header is missing, unknown, of another type or out of bounds.
    InvalidField,
    /// The body is larger than is taken, before or after decompression, or has too many samples.
    TooLarge,
    /// The content type or the content encoding is not one that is read here.
    UnsupportedMediaType,
    /// The owner of a command says that it cannot be obeyed.
    Rejected,
    /// No token, an unknown one, or one that has expired.
    Unauthenticated,
    /// The token is good and its scopes do not reach so far.
    Forbidden,
    /// There is no such resource.
    NotFound,
    /// The resource exists and does not know this method.
    MethodNotAllowed,
    /// The same Idempotency-Key came with another body.
    KeyReused,
    /// More requests than this principal may make.
    RateLimited,
    /// The ingress holds as much as it can.
    Overloaded,
    /// The bus is away, so nothing can be stored or asked.
    BusUnavailable,
    /// Nobody who could answer did.
    NoAnswer,
    /// The breaker of the service that is called is open.
    BreakerOpen,
    /// The service that is called does not allow this.
    CallNotAllowed,
    /// No instance of the service that is called answered.
    CallFailed,
    /// None did in time.
    CallTimedOut,
    /// The request took longer than any may.
    DeadlineExceeded,
    /// A fault of Keelson's own, which its log tells more of.
    Internal,
}

impl Kind {
    /// Every kind, for the documentation.
    pub const ALL: [Self; 20] = [
        Self::Malformed,
        Self::InvalidField,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Rejected,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::KeyReused,
        Self::RateLimited,
        Self::Overloaded,
        Self::BusUnavailable,
        Self::NoAnswer,
        Self::BreakerOpen,
        Self::CallNotAllowed,
        Self::CallFailed,
        Self::CallTimedOut,
        Self::DeadlineExceeded,
        Self::Internal,
    ];

    /// Status, `type` and title.
    const fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::Malformed => (S::BAD_REQUEST, "urn:keelson:problem:malformed", "The body is malformed"),
            Self::InvalidField => {
                (S::UNPROCESSABLE_ENTITY, "urn:keelson:problem:invalid-field", "A field is invalid")
            }
            Self::TooLarge => {
                (S::PAYLOAD_TOO_LARGE, "urn:keelson:problem:too-large", "The body is too large")
            }
            Self::UnsupportedMediaType => {
                let urn = "urn:keelson:problem:unsupported-media-type";
                (S::UNSUPPORTED_MEDIA_TYPE, urn, "The content type or encoding is not supported")
            }
            Self::Rejected => {
                (S::BAD_REQUEST, "urn:keelson:problem:rejected", "The command cannot be obeyed")
            }
            Self::Unauthenticated => {
                (S::UNAUTHORIZED, "urn:keelson:problem:unauthenticated", "A valid token is needed")
            }
            Self::Forbidden => {
                (S::FORBIDDEN, "urn:keelson:problem:forbidden", "The token does not allow this")
            }
            Self::NotFound => (S::NOT_FOUND, "urn:keelson:problem:not-found", "There is no such resource"),
            Self::MethodNotAllowed => (
                S::METHOD_NOT_ALLOWED,
                "urn:keelson:problem:method-not-allowed",
                "The method is not allowed here",
            ),
            Self::KeyReused => (
                S::UNPROCESSABLE_ENTITY,
                "urn:keelson:problem:key-reused",
                "The Idempotency-Key was used for another request",
            ),
            Self::RateLimited => {
                (S::TOO_MANY_REQUESTS, "urn:keelson:problem:rate-limited", "Too many requests")
            }
            Self::Overloaded => (S::TOO_MANY_REQUESTS, "urn:keelson:problem:overloaded", "Too much at once"),
            Self::BusUnavailable => {
                (S::SERVICE_UNAVAILABLE, "urn:keelson:problem:bus-unavailable", "The bus is not available")
            }
            Self::NoAnswer => (S::SERVICE_UNAVAILABLE, "urn:keelson:problem:no-answer", "No worker answered"),
            Self::BreakerOpen => {
                (S::SERVICE_UNAVAILABLE, "urn:keelson:problem:breaker-open", "The breaker is open")
            }
            Self::CallNotAllowed => {
                (S::FORBIDDEN, "urn:keelson:problem:call-not-allowed", "The service does not allow this call")
            }
            Self::CallFailed => (S::BAD_GATEWAY, "urn:keelson:problem:call-failed", "No instance answered"),
            Self::CallTimedOut => {
                (S::GATEWAY_TIMEOUT, "urn:keelson:problem:call-timed-out", "No instance answered in time")
            }
            Self::DeadlineExceeded => {
                (S::SERVICE_UNAVAILABLE, "urn:keelson:problem:deadline-exceeded", "The request took too long")
            }
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "urn:keelson:problem:internal", "Keelson failed"),
        }
    }

    /// The status of every problem of this kind.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.row().0
    }

    /// The `type` member.
    #[must_use]
    pub const fn urn(self) -> &'static str {
        self.row().1
    }

    /// The `title` member.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().2
    }

    /// How long a client should wait before it tries the same again; `None` where trying again changes nothing.
    const fn retry_after_seconds(self) -> Option<u64> {
        match self {
            Self::RateLimited | Self::Overloaded | Self::NoAnswer => Some(1),
            Self::BusUnavailable | Self::DeadlineExceeded => Some(2),
            _ => None,
        }
    }
}

/// A problem, as the client reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is, to be compared by programs.
    #[serde(rename = "type")]
    #[schema(example = "urn:keelson:problem:invalid-field")]
    kind: &'static str,
    /// The kind in words.
    #[schema(example = "A field is invalid")]
    title: &'static str,
    /// The status, as in the response line.
    #[schema(example = 422)]
    status: u16,
    /// What happened this time, and what to do.
    #[schema(example = "http[3].status: is 99, and HTTP knows 100 to 599")]
    detail: String,
    /// The field that is wrong, as a path into the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "http[3].status")]
    field: Option<String>,
    #[serde(skip)]
    retry_after_seconds: Option<u64>,
}

impl Problem {
    /// A problem of a kind, with what happened and what to do.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind: kind.urn(),
            title: kind.title(),
            status: kind.status().as_u16(),
            detail: detail.into(),
            field: None,
            retry_after_seconds: kind.retry_after_seconds(),
        }
    }

    /// A field that is wrong.
    pub fn field(field: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        let field = field.into();
        Self { field: Some(field.clone()), ..Self::new(Kind::InvalidField, format!("{field}: {reason}")) }
    }

    /// Says how long to wait.
    #[must_use]
    pub fn retry_after(self, wait: std::time::Duration) -> Self {
        Self { retry_after_seconds: Some(wait.as_secs_f64().ceil().max(1.0) as u64), ..self }
    }

    /// The response's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What happened, in one sentence.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// The problem also travels as an extension of the response, so that a route which speaks another protocol can say it there.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::Unauthenticated.urn() {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The answer where no route is.
pub async fn unknown_route(uri: Uri) -> Problem {
    let detail = format!("{} is no route of this API; GET /api/openapi.json lists them all", uri.path());
    Problem::new(Kind::NotFound, detail)
}

/// Gives a bare 405 (axum's own, which knows the methods that exist) its words.
pub async fn method_not_allowed(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let allow = response.headers().get(ALLOW).cloned();
    let methods = allow.as_ref().and_then(|allow| allow.to_str().ok()).unwrap_or("another method");
    let mut told = Problem::new(Kind::MethodNotAllowed, format!("use {methods} here")).into_response();
    told.headers_mut().extend(allow.map(|allow| (ALLOW, allow)));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_by_their_type() {
        let urns: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.urn()).collect();
        assert_eq!(urns.len(), Kind::ALL.len());
    }

    #[tokio::test]
    async fn a_problem_reads_as_rfc_9457_says() {
        let response = Problem::field("http[3].status", "is 99").into_response();
        assert_eq!(response.status(), 422);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
        let read: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let expected = serde_json::json!({"type":"urn:keelson:problem:invalid-field","title":"A field is invalid",
            "status":422,"detail":"http[3].status: is 99","field":"http[3].status"});
        assert_eq!(read, expected);
    }

    #[test]
    fn what_passes_by_waiting_says_how_long() {
        let told = |problem: Problem| problem.into_response().headers().get(RETRY_AFTER).cloned();
        assert_eq!(told(Problem::new(Kind::BusUnavailable, "")), Some(HeaderValue::from(2)));
        let wait = std::time::Duration::from_millis(1_200);
        assert_eq!(told(Problem::new(Kind::RateLimited, "").retry_after(wait)), Some(HeaderValue::from(2)));
        assert_eq!(told(Problem::new(Kind::InvalidField, "")), None);
    }
}
