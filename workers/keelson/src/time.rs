//! Times as they are given on the command line, and as people read them.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A time: RFC 3339, or a date with or without a time of day in UTC.
///
/// # Errors
/// How one is written.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    let utc = |text: &str| text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
    let read = text.parse().ok().or_else(|| Some(utc(text)?.timestamp()));
    read.ok_or_else(|| "write a time like 2026-01-31T12:00:00Z, or a date like 2026-01-31".to_owned())
}

/// A time as [`moment`] reads it, or how long before `now` it was: `2h`, `7days`.
///
/// # Errors
/// How one is written.
pub fn moment_or_ago(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    match humantime::parse_duration(text) {
        Ok(ago) => Ok(now.saturating_sub(signed(ago)).unwrap_or(Timestamp::MIN)),
        Err(_) => moment(text).map_err(|how| format!("{how}, or how long ago it was, like 2h")),
    }
}

/// How long something went on, to the second; to the millisecond below one.
pub fn span(from_ms: u64, to_ms: u64) -> String {
    let ms = to_ms.saturating_sub(from_ms);
    let whole = if ms < 1_000 { ms } else { ms - ms % 1_000 };
    humantime::format_duration(Duration::from_millis(whole)).to_string()
}

/// A time of the API; past what can be shown, the last one that can.
pub fn timestamp(ms: u64) -> Timestamp {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

/// A time as the API takes it.
pub fn milliseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = Timestamp::constant(1_764_000_000, 0);
        let cases = [
            ("2025-11-24T16:00:00Z", Some(0)),
            ("2025-11-24T17:00:00+01:00", Some(0)),
            ("2025-11-24T16:00:01", Some(1)),
            ("2025-11-24 16:00", Some(0)),
            ("2025-11-24", Some(-16 * 3_600)),
            ("2h", Some(-7_200)),
            ("1day 1s", Some(-86_401)),
            ("999999999999years", None),
            ("yesterday", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let read = moment_or_ago(text, now).ok().map(|time| time.as_second() - now.as_second());
            assert_eq!(read, expected, "{text:?}");
        }
        assert_eq!(moment_or_ago("100000years", now), Ok(Timestamp::MIN));
    }

    #[test]
    fn spans_are_shown_to_the_second() {
        let cases = [(0, "0s"), (250, "250ms"), (1_250, "1s"), (90_000, "1m 30s"), (7_200_001, "2h")];
        for (ms, expected) in cases {
            assert_eq!(span(5, 5 + ms), expected);
        }
        assert_eq!(span(5, 4), "0s");
    }

    #[test]
    fn times_come_back_as_they_went() {
        assert_eq!(milliseconds(timestamp(1_764_000_000_123)), 1_764_000_000_123);
        assert_eq!(milliseconds(Timestamp::MIN), 0);
    }
}
