//! One request to one instance, and what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keelson_kit::trace;
use keelson_schemas::services::{Body, RefusedBecause};
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Client, Response, Url};
use tracing::{Instrument, Span, field, info_span};

use super::request::Request;
use crate::address::Target;
use crate::directory::Instance;
use crate::http::{self, BodyError};

/// How much time is left for the answer, in milliseconds: the header by which Envoy says it.
const DEADLINE: &str = "x-envoy-expected-rq-timeout-ms";

/// What an instance answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Body,
}

/// Whether an instance may have got a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It may.
    Yes,
    /// It surely has not.
    No,
}

/// What came in the place of an answer.
#[derive(Debug)]
pub struct Fault {
    pub reason: String,
    pub status: Option<u16>,
    pub sent: Sent,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It failed: it is away, breaks off, or talks garbage.
    Failed,
    /// It did not answer in time.
    TimedOut,
    /// It answered, and that is not passed on.
    NotPassedOn,
}

impl Fault {
    /// No instance may be asked.
    pub fn nobody() -> Self {
        Self {
            reason: "no instance may be called: the breaker of each is forced open".to_owned(),
            status: None,
            sent: Sent::No,
            kind: Kind::NotPassedOn,
        }
    }

    /// Whether it counts against the service.
    pub fn is_of_service(&self) -> bool {
        self.kind != Kind::NotPassedOn
    }

    /// What whoever asked is told.
    pub fn because(&self) -> RefusedBecause {
        match self.kind {
            Kind::TimedOut => RefusedBecause::TimedOut,
            Kind::Failed | Kind::NotPassedOn => RefusedBecause::Failed,
        }
    }

    fn of(error: reqwest::Error) -> Self {
        let sent = if error.is_connect() { Sent::No } else { Sent::Yes };
        let kind = if error.is_timeout() && sent == Sent::Yes { Kind::TimedOut } else { Kind::Failed };
        Self { sent, kind, status: None, reason: http::said(error) }
    }

    fn kept_back(status: u16, reason: String) -> Self {
        Self { reason, status: Some(status), sent: Sent::Yes, kind: Kind::NotPassedOn }
    }
}

/// Makes one attempt, within the time that is left.
pub async fn make(
    client: &Client,
    instance: &Instance,
    request: &Request,
    left: Duration,
    number: usize,
    most_bytes: usize,
) -> Result<Answer, Fault> {
    let span = info_span!(
        "call",
        otel.name = %format!("{} {}", request.method, instance.url),
        otel.kind = "client",
        otel.status_code = field::Empty,
        http.request.method = %request.method,
        url.full = %format!("{}{}", instance.url, request.path.split('?').next().unwrap_or_default()),
        http.request.resend_count = number,
        http.response.status_code = field::Empty,
        error.message = field::Empty,
    );
    let asked = ask(client, instance, request, left, most_bytes).instrument(span.clone());
    let made = match tokio::time::timeout(left, asked).await {
        Ok(made) => made,
        Err(_) => Err(Fault {
            reason: format!("it did not answer within {} ms", left.as_millis()),
            status: None,
            sent: Sent::Yes,
            kind: Kind::TimedOut,
        }),
    };
    note(&span, &made);
    made
}

fn note(span: &Span, made: &Result<Answer, Fault>) {
    let (status, error) = match made {
        Ok(answer) => (Some(answer.status), None),
        Err(fault) => (fault.status, Some(fault.reason.as_str())),
    };
    if let Some(status) = status {
        span.record("http.response.status_code", status);
    }
    if let Some(error) = error {
        span.record("error.message", error);
    }
    if error.is_some() || status.is_some_and(|status| status >= 500) {
        span.record("otel.status_code", "ERROR");
    }
}

async fn ask(
    client: &Client,
    instance: &Instance,
    request: &Request,
    left: Duration,
    most_bytes: usize,
) -> Result<Answer, Fault> {
    let Target::Http(base) = &instance.target else {
        let reason = format!("{} is not http, and cannot be called", instance.url);
        return Err(Fault { reason, status: None, sent: Sent::No, kind: Kind::NotPassedOn });
    };
    let url = format!("{}{}", base.as_str().trim_end_matches('/'), request.path);
    let mut asked = client
        .request(request.method.clone(), url)
        .headers(request.headers.clone())
        .header(DEADLINE, left.as_millis().to_string());
    let context = trace::current();
    for (name, value) in [("traceparent", context.traceparent), ("tracestate", context.tracestate)] {
        if let Some(value) = value {
            asked = asked.header(name, value);
        }
    }
    if !request.body.is_empty() {
        asked = asked.body(request.body.clone());
    }
    let response = asked.send().await.map_err(Fault::of)?;
    read(base, response, most_bytes).await
}

/// Redirects are not followed. One to the same place is passed on; one to elsewhere is not, lest whoever asked follows it in our name.
async fn read(base: &Url, response: Response, most_bytes: usize) -> Result<Answer, Fault> {
    let status = response.status().as_u16();
    if response.status().is_redirection() && leads_elsewhere(base, response.headers()) {
        return Err(Fault::kept_back(
            status,
            "it redirects to another host, where nobody is sent".to_owned(),
        ));
    }
    let headers = shown(response.headers());
    let is_json = headers.get(CONTENT_TYPE.as_str()).is_some_and(|kind| is_json(kind));
    match http::body(response, most_bytes).await {
        Ok(bytes) => Ok(Answer { status, headers, body: body(bytes, is_json) }),
        Err(BodyError::TooLarge(most)) => {
            let reason = format!("its answer has more than {most} bytes (services.call.max_response_bytes)");
            Err(Fault::kept_back(status, reason))
        }
        Err(BodyError::Broken(why)) => Err(Fault {
            reason: format!("its answer broke off: {why}"),
            status: Some(status),
            sent: Sent::Yes,
            kind: Kind::Failed,
        }),
    }
}

fn leads_elsewhere(base: &Url, headers: &HeaderMap) -> bool {
    headers.get_all(LOCATION).iter().any(|location| {
        let to = location.to_str().ok().and_then(|location| base.join(location).ok());
        to.is_none_or(|to| to.origin() != base.origin())
    })
}

fn shown(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let known = shown.entry(name.as_str().to_owned()).or_default();
        if !known.is_empty() {
            known.push_str(", ");
        }
        known.push_str(&value);
    }
    shown
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

fn body(bytes: Vec<u8>, is_json: bool) -> Body {
    if is_json && let Ok(json) = serde_json::from_slice(&bytes) {
        return Body::Json(json);
    }
    String::from_utf8(bytes).map_or_else(|error| Body::Base64(STANDARD.encode(error.as_bytes())), Body::Text)
}
