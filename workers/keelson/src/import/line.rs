//! One line of an access log in the combined format, as Apache, nginx and many others write it:
//!
//! ```text
//! 203.0.113.9 - - [17/May/2015:10:05:03 +0000] "GET /videos/7?t=1 HTTP/1.1" 200 5316 "https://example.org/" "Mozilla/5.0 …"
//! ```
//!
//! and nginx's with `$request_time` (seconds, such as `0.042`) as the last field. Time, request and status are all that is counted, so a
//! line that breaks off later, which real logs do have, is counted like any other.

use jiff::fmt::strtime::BrokenDownTime;

/// Longest route that is accepted; a longer path is cut there.
const MAX_ROUTE_BYTES: usize = keelson_schemas::limits::MAX_ROUTE_BYTES;
const MAX_METHOD_BYTES: usize = keelson_schemas::limits::MAX_METHOD_BYTES;
/// Longest duration that is accepted; a longer one, of a connection kept open for days, is taken for not known.
const MAX_DURATION_US: u64 = keelson_schemas::histogram::MAX_DURATION_US;
/// What stands for the method and the path of a request line that is no HTTP, such as that of a TLS handshake on a plain port.
const OTHER: &str = keelson_schemas::limits::OTHER_METHOD;

/// What a line says that is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Unix milliseconds.
    pub ts_ms: i64,
    /// The method as written, or `_OTHER`.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// 100 to 599.
    pub status: u16,
    /// How long the request took, where the log says so.
    pub duration_us: Option<u64>,
}

/// Why a line is not a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No `[day/month/year:hour:minute:second zone]`.
    #[error("there is no [time] in it")]
    NoTime,
    /// The time is none.
    #[error("'{0}' is no time like 17/May/2015:10:05:03 +0000")]
    Time(String),
    /// Nothing in quotes after the time.
    #[error("there is no \"request\" after the time")]
    NoRequest,
    /// The request's quotes are never closed.
    #[error("the line ends within the request")]
    EndsInRequest,
    /// What follows the request is no number.
    #[error("there is no status after the request")]
    NoStatus,
    /// HTTP has no such status.
    #[error("the status is {0}, and HTTP knows 100 to 599")]
    Status(u16),
}

/// Reads a line.
///
/// # Errors
/// What is missing in it.
pub fn parse(line: &str) -> Result<Line, Malformed> {
    let (_, rest) = line.split_once('[').ok_or(Malformed::NoTime)?;
    let (time, rest) = rest.split_once(']').ok_or(Malformed::NoTime)?;
    let rest = rest.trim_start().strip_prefix('"').ok_or(Malformed::NoRequest)?;
    let (request, rest) = rest
        .split_at_checked(closing_quote(rest).ok_or(Malformed::EndsInRequest)?)
        .ok_or(Malformed::EndsInRequest)?;
    let (method, path) = method_and_path(request);
    let mut fields = rest[1..].split_ascii_whitespace();
    let status = fields.next().and_then(|field| field.parse().ok()).ok_or(Malformed::NoStatus)?;
    if !keelson_schemas::limits::STATUS.contains(&status) {
        return Err(Malformed::Status(status));
    }
    Ok(Line { ts_ms: unix_ms(time)?, method, path, status, duration_us: request_time(rest) })
}

fn unix_ms(time: &str) -> Result<i64, Malformed> {
    BrokenDownTime::parse("%d/%b/%Y:%H:%M:%S %z", time)
        .and_then(|time| time.to_timestamp())
        .ok()
        .map(jiff::Timestamp::as_millisecond)
        .filter(|ms| *ms >= 0)
        .ok_or_else(|| Malformed::Time(time.into()))
}

/// Where the quotes close: a quote within them is written `\"` by Apache and `\x22` by nginx.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

fn method_and_path(request: &str) -> (String, String) {
    let mut words = request.split_ascii_whitespace();
    match (words.next(), words.next()) {
        (Some(method), Some(target)) if is_method(method) => (method.into(), path(target).into()),
        _ => (OTHER.into(), OTHER.into()),
    }
}

fn is_method(word: &str) -> bool {
    word.len() <= MAX_METHOD_BYTES
        && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_')
}

/// The path of a request target: `/a?b` and `http://host/a?b` are both `/a`.
fn path(target: &str) -> &str {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    let path = match target.split_once("://") {
        Some((_, authority_and_path)) => {
            authority_and_path.find('/').map_or("/", |at| &authority_and_path[at..])
        }
        None => target,
    };
    let path = if path.is_empty() { "/" } else { path };
    &path[..path.floor_char_boundary(MAX_ROUTE_BYTES)]
}

/// The last field, where it is a number of seconds with a decimal point. Apache's `%D`, a whole number, could be anything and is not guessed at.
fn request_time(rest: &str) -> Option<u64> {
    let (_, last) = rest.rsplit_once(['"', ' '])?;
    let (whole, fraction) = last.trim().split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let micros: u64 = format!("{:0<6.6}", fraction).parse().ok()?;
    let total = whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)?;
    Some(total).filter(|us| *us <= MAX_DURATION_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAY_17: i64 = 1_431_857_103_000;

    fn line(method: &str, path: &str, status: u16, duration_us: Option<u64>) -> Result<Line, Malformed> {
        Ok(Line { ts_ms: MAY_17, method: method.into(), path: path.into(), status, duration_us })
    }

    #[test]
    fn lines_are_read_as_servers_write_them() {
        let at = "1.2.3.4 - - [17/May/2015:10:05:03 +0000]";
        for (rest, expected) in [
            (
                r#""GET /a/b.png HTTP/1.1" 200 203023 "http://e.org/" "Mozilla/5.0 (X11)""#,
                line("GET", "/a/b.png", 200, None),
            ),
            (r#""GET /a?b=/c#d HTTP/1.1" 304 - "-" "-""#, line("GET", "/a", 304, None)),
            (r#""GET / HTTP/1.1" 200 1 "-" "curl" 0.042"#, line("GET", "/", 200, Some(42_000))),
            (r#""GET / HTTP/1.1" 200 1 "-" "curl" "10.0.0.1" 12.5"#, line("GET", "/", 200, Some(12_500_000))),
            (r#""GET / HTTP/1.1" 200 1 "-" "curl" 0.000"#, line("GET", "/", 200, Some(0))),
            (r#""GET / HTTP/1.1" 200 1 "-" "curl" 1.23456789"#, line("GET", "/", 200, Some(1_234_567))),
            (r#""GET / HTTP/1.1" 200 1 "-" "curl" 90000.000"#, line("GET", "/", 200, None)),
            (r#""GET / HTTP/1.1" 200 1 "-" "curl" 1500"#, line("GET", "/", 200, None)),
            (r#""GET / HTTP/1.1" 200 1 "-" "curl" -"#, line("GET", "/", 200, None)),
            (r#""GET / HTTP/1.1" 200 1 "-" "curl/7.5"#, line("GET", "/", 200, None)),
            (r#""GET / HTTP/1.1" 200 1 "-" "Mozilla (http://e.org/bot.html"#, line("GET", "/", 200, None)),
            (r#""GET / HTTP/1.1" 200 1"#, line("GET", "/", 200, None)),
            (r#""GET / HTTP/1.1" 200"#, line("GET", "/", 200, None)),
            (r#""GET /a\"b HTTP/1.1" 404 1 "-" "-""#, line("GET", r#"/a\"b"#, 404, None)),
            (r#""GET http://e.org/a/b?c HTTP/1.1" 200 1"#, line("GET", "/a/b", 200, None)),
            (r#""GET http://e.org HTTP/1.1" 200 1"#, line("GET", "/", 200, None)),
            (r#""GET /go?to=http://e.org/x HTTP/1.1" 200 1"#, line("GET", "/go", 200, None)),
            (r#""OPTIONS * HTTP/1.1" 200 1"#, line("OPTIONS", "*", 200, None)),
            (r#""CONNECT e.org:443 HTTP/1.1" 405 1"#, line("CONNECT", "e.org:443", 405, None)),
            (r#""GET /" 200 1"#, line("GET", "/", 200, None)),
            (r#""-" 408 0 "-" "-""#, line("_OTHER", "_OTHER", 408, None)),
            (r#""" 400 0 "-" "-""#, line("_OTHER", "_OTHER", 400, None)),
            (r#""\x16\x03\x01 \x00" 400 0 "-" "-""#, line("_OTHER", "_OTHER", 400, None)),
            (r#""get / HTTP/1.1" 400 0 "-" "-""#, line("_OTHER", "_OTHER", 400, None)),
        ] {
            assert_eq!(parse(&format!("{at} {rest}")), expected, "{rest}");
        }
    }

    #[test]
    fn the_zone_counts() {
        let text = r#"::1 - ann [17/May/2015:12:05:03 +0200] "GET / HTTP/2.0" 200 1"#;
        assert_eq!(parse(text), line("GET", "/", 200, None));
    }

    #[test]
    fn a_malformed_line_says_what_is_missing() {
        let at = "1.2.3.4 - - [17/May/2015:10:05:03 +0000]";
        for (text, expected) in [
            ("".into(), Malformed::NoTime),
            ("hello".into(), Malformed::NoTime),
            ("1.2.3.4 - - [17/May/2015:10:05:03".into(), Malformed::NoTime),
            (r#"h - - [yesterday] "GET / HTTP/1.1" 200 1"#.into(), Malformed::Time("yesterday".into())),
            (
                r#"h - - [31/Feb/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1"#.into(),
                Malformed::Time("31/Feb/2015:10:05:03 +0000".into()),
            ),
            (
                r#"h - - [01/Jan/1960:10:05:03 +0000] "GET / HTTP/1.1" 200 1"#.into(),
                Malformed::Time("01/Jan/1960:10:05:03 +0000".into()),
            ),
            (at.into(), Malformed::NoRequest),
            (format!("{at} GET / 200"), Malformed::NoRequest),
            (format!(r#"{at} "GET / HTT"#), Malformed::EndsInRequest),
            (format!(r#"{at} "GET / HTTP/1.1""#), Malformed::NoStatus),
            (format!(r#"{at} "GET / HTTP/1.1" - 1"#), Malformed::NoStatus),
            (format!(r#"{at} "GET / HTTP/1.1" -200 1"#), Malformed::NoStatus),
            (format!(r#"{at} "GET / HTTP/1.1" 99 1"#), Malformed::Status(99)),
            (format!(r#"{at} "GET / HTTP/1.1" 000 1"#), Malformed::Status(0)),
            (format!(r#"{at} "GET / HTTP/1.1" 1000 1"#), Malformed::Status(1000)),
        ] {
            assert_eq!(parse(&text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_long_path_is_cut_between_characters() {
        let text = format!(
            r#"h - - [17/May/2015:10:05:03 +0000] "GET /{} HTTP/1.1" 200 1"#,
            "ü".repeat(MAX_ROUTE_BYTES)
        );
        let path = parse(&text).unwrap().path;
        assert_eq!(path.len(), MAX_ROUTE_BYTES - 1);
    }
}
