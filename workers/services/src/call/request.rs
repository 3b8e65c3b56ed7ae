//! What is asked, checked: nothing that the service does not allow, and nothing that is not for it.

use std::time::Duration;

use keelson_schemas::services::{Call, CallRefusal, RefusedBecause};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::{LONGEST, refusal};
use crate::allow::{self, METHODS};
use crate::config::CallConfig;
use crate::directory::Known;

/// Headers of one call, and bytes in them.
const MOST_HEADERS: usize = 64;
const MOST_HEADER_BYTES: usize = 16 << 10;
/// What is not passed on: what is about the connection, and what is not for the service to know.
const KEPT_BACK: [&str; 20] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// A request that may be made.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub timeout: Duration,
    /// Whether a second time does no harm.
    pub idempotent: bool,
}

impl Request {
    /// Reads what is asked of a service.
    pub fn of(call: &Call, known: &Known, config: &CallConfig) -> Result<Self, CallRefusal> {
        let invalid = |why: String| refusal(RefusedBecause::Invalid, why);
        let name = if call.method.is_empty() { "GET" } else { call.method.as_str() };
        let method =
            METHODS.iter().find(|known| **known == name).and_then(|name| name.parse::<Method>().ok());
        let method = method.ok_or_else(|| {
            let shown: String = name.chars().take(32).collect();
            invalid(format!("method: {shown:?} is none of {}", METHODS.join(", ")))
        })?;
        allow::check(&call.path).map_err(|why| invalid(format!("path: {why}")))?;
        if !known.allow.iter().any(|rule| rule.allows(name, &call.path)) {
            return Err(refusal(RefusedBecause::NotAllowed, not_allowed(name, call, known)));
        }
        let mut headers = headers(call).map_err(invalid)?;
        let body = body(call, &mut headers);
        if body.len() > config.max_request_bytes {
            let most = config.max_request_bytes;
            let why = format!(
                "body: {} bytes, and at most {most} are sent (services.call.max_request_bytes)",
                body.len()
            );
            return Err(refusal(RefusedBecause::TooLarge, why));
        }
        let idempotent = method.is_idempotent() || headers.contains_key("idempotency-key");
        let timeout = timeout(call, config).map_err(invalid)?;
        Ok(Self { method, path: call.path.clone(), headers, body, timeout, idempotent })
    }
}

fn not_allowed(method: &str, call: &Call, known: &Known) -> String {
    let path: String = call.path.chars().take(80).collect();
    let allowed = match known.service.allow.is_empty() {
        true => "nothing".to_owned(),
        false => known.service.allow.join(", "),
    };
    format!("{} does not allow {method} {path:?}, but {allowed}", call.service)
}

fn headers(call: &Call) -> Result<HeaderMap, String> {
    let bytes: usize = call.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if call.headers.len() > MOST_HEADERS || bytes > MOST_HEADER_BYTES {
        return Err(format!("headers: at most {MOST_HEADERS}, of {MOST_HEADER_BYTES} bytes together"));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        let wrong = || format!("headers: {:?} is no header", name.chars().take(64).collect::<String>());
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        if KEPT_BACK.contains(&name.as_str()) {
            continue;
        }
        headers.insert(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
    }
    Ok(headers)
}

fn body(call: &Call, headers: &mut HeaderMap) -> Vec<u8> {
    match &call.body {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(json) => {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            json.to_string().into_bytes()
        }
    }
}

fn timeout(call: &Call, config: &CallConfig) -> Result<Duration, String> {
    let asked = call.timeout_ms.map_or(config.timeout.0, Duration::from_millis);
    match asked {
        Duration::ZERO => Err("timeout_ms: at least 1".to_owned()),
        asked if asked > LONGEST => Err(format!("timeout_ms: at most {}", LONGEST.as_millis())),
        asked => Ok(asked),
    }
}
