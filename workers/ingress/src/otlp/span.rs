//! One span as one sample. Pure: a span in, a sample or the reason why it is none out.

use std::borrow::Cow;

use keelson_schemas::limits::{
    MAX_AHEAD_MS, MAX_METHOD_BYTES, MAX_NAMESPACE_BYTES, MAX_OPERATION_BYTES, MAX_ROUTE_BYTES, STATUS,
    UNKNOWN, UNROUTED,
};
use keelson_schemas::telemetry::{Invalid, duration, name};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use super::attributes::Attributes;

const METHOD: [&str; 2] = ["http.request.method", "http.method"];
const STATUS_CODE: [&str; 2] = ["http.response.status_code", "http.status_code"];
const PATH: [&str; 2] = ["url.path", "http.target"];
const SYSTEM: [&str; 2] = ["db.system.name", "db.system"];
const DATABASE: [&str; 2] = ["db.namespace", "db.name"];
const COLLECTION: [&str; 5] = [
    "db.collection.name",
    "db.mongodb.collection",
    "db.sql.table",
    "db.cassandra.table",
    "db.cosmosdb.container",
];
const OPERATION: [&str; 2] = ["db.operation.name", "db.operation"];
const STATEMENT: [&str; 2] = ["db.query.text", "db.statement"];

/// What a span says was measured. Its time is the span's end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sample<'a> {
    /// Unix milliseconds of the span's end.
    pub ts_ms: u64,
    /// From the span's start to its end.
    pub duration_us: u64,
    /// What was measured.
    pub what: What<'a>,
}

/// What a sample is of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What<'a> {
    /// A request that the service answered.
    Http { method: Cow<'a, str>, route: Cow<'a, str>, status: u16 },
    /// A call that the service made to a database.
    Db { system: Cow<'a, str>, namespace: Cow<'a, str>, operation: Cow<'a, str> },
}

/// The sample of a span; `None` for a span of which nothing is counted.
///
/// # Errors
/// The attribute that keeps it from being counted.
pub(super) fn sample(span: &Span, now_ms: u64) -> Result<Option<Sample<'_>>, Invalid> {
    let attributes = Attributes(&span.attributes);
    let what = match span.kind() {
        SpanKind::Server if attributes.any(&METHOD) => http(span, attributes)?,
        SpanKind::Client if attributes.any(&SYSTEM) => db(attributes)?,
        _ => return Ok(None),
    };
    let (ts_ms, duration_us) = times(span, now_ms)?;
    Ok(Some(Sample { ts_ms, duration_us, what }))
}

fn http<'a>(span: &'a Span, attributes: Attributes<'a>) -> Result<What<'a>, Invalid> {
    let method = attributes.text(&METHOD).unwrap_or(Cow::Borrowed(UNKNOWN));
    name(METHOD[0], &method, MAX_METHOD_BYTES)?;
    let route = route(span, attributes);
    name("http.route", &route, MAX_ROUTE_BYTES)?;
    Ok(What::Http { method, route, status: status(span, attributes)? })
}

/// The response's status. A span that failed without one ended in an error of the server (the handler threw, or the peer went away),
/// so it counts as 500; one that neither failed nor has a status says nothing that could be counted.
fn status(span: &Span, attributes: Attributes<'_>) -> Result<u16, Invalid> {
    let failed = span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
    match attributes.number(&STATUS_CODE) {
        Some(code) => {
            let known = u16::try_from(code).ok().filter(|code| STATUS.contains(code));
            known.ok_or_else(|| Invalid::new(STATUS_CODE[0], format!("is {code}, and HTTP knows 100 to 599")))
        }
        None if failed => Ok(500),
        None => Err(Invalid::new(STATUS_CODE[0], "is missing, and the span has no error status either")),
    }
}

/// The route's template: `http.route`, else the one in the span's name (`GET /videos/:id`), else [`UNROUTED`].
///
/// Never the path: `/videos/17` would be a series for every video. Some instrumentation puts the path into the span's name, so
/// a name counts as a template only if it has a parameter in it, or nothing that looks like an identifier.
fn route<'a>(span: &'a Span, attributes: Attributes<'a>) -> Cow<'a, str> {
    let named = || template_in(&span.name, attributes);
    attributes.text(&["http.route"]).or_else(|| named().map(Cow::Borrowed)).unwrap_or(Cow::Borrowed(UNROUTED))
}

fn template_in<'a>(span_name: &'a str, attributes: Attributes<'_>) -> Option<&'a str> {
    let route = span_name.rsplit(' ').next().filter(|last| last.starts_with('/'))?;
    let has_parameter = route.contains(['{', ':', '<', '*', '[']);
    (has_parameter || !looks_like_a_path(route, attributes)).then_some(route)
}

/// Whether an identifier is in it: a digit, an escape, a query, or (if it is the very path that was asked for) a segment as long as names
/// of resources seldom are, and slugs and hashes usually.
fn looks_like_a_path(route: &str, attributes: Attributes<'_>) -> bool {
    let is_path = attributes.text(&PATH).is_some_and(|path| path.split('?').next() == Some(route));
    route.contains(|c: char| c.is_ascii_digit() || "?%@".contains(c))
        || (is_path && route.split('/').any(|segment| segment.len() > 24))
}

fn db(attributes: Attributes<'_>) -> Result<What<'_>, Invalid> {
    let unknown = || Cow::Borrowed(UNKNOWN);
    let system = attributes.text(&SYSTEM).unwrap_or_else(unknown);
    let namespace = namespace(attributes).unwrap_or_else(unknown);
    let operation = attributes.text(&OPERATION).or_else(|| verb(attributes)).unwrap_or_else(unknown);
    name(SYSTEM[0], &system, MAX_OPERATION_BYTES)?;
    name(DATABASE[0], &namespace, MAX_NAMESPACE_BYTES)?;
    name(OPERATION[0], &operation, MAX_OPERATION_BYTES)?;
    Ok(What::Db { system, namespace, operation })
}

/// Database and collection as MongoDB writes them: `click.videos`.
fn namespace(attributes: Attributes<'_>) -> Option<Cow<'_, str>> {
    match (attributes.text(&DATABASE), attributes.text(&COLLECTION)) {
        (Some(database), Some(collection)) => Some(Cow::Owned(format!("{database}.{collection}"))),
        (database, collection) => database.or(collection),
    }
}

/// The first word of a statement, which in SQL and in Redis is the operation. A statement that begins otherwise (MongoDB's are JSON)
/// tells none.
fn verb(attributes: Attributes<'_>) -> Option<Cow<'_, str>> {
    let statement = attributes.text(&STATEMENT)?;
    let word: String =
        statement.trim_start().chars().take_while(char::is_ascii_alphabetic).take(17).collect();
    (2..=16).contains(&word.len()).then(|| Cow::Owned(word.to_ascii_uppercase()))
}

/// End in Unix milliseconds and length in microseconds.
fn times(span: &Span, now_ms: u64) -> Result<(u64, u64), Invalid> {
    let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
    if start == 0 || end < start {
        return Err(Invalid::new(
            "endTimeUnixNano",
            "must not be before startTimeUnixNano, and both must be set",
        ));
    }
    let ts_ms = end / 1_000_000;
    if ts_ms > now_ms.saturating_add(MAX_AHEAD_MS) {
        return Err(Invalid::new("endTimeUnixNano", "is more than five minutes ahead"));
    }
    let duration_us = (end - start) / 1_000;
    duration(duration_us).map_err(|reason| Invalid::new("endTimeUnixNano - startTimeUnixNano", reason))?;
    Ok((ts_ms, duration_us))
}
