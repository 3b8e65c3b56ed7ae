//! When backups are due. Pure.

use std::str::FromStr;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Who asks for what is due.
pub const REQUESTED_BY: &str = "schedule";

/// A schedule in a time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    /// Whose days and hours count.
    pub zone: TimeZone,
}

impl Schedule {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(schedule: &str, timezone: &str) -> Result<Self, String> {
        let cron = Cron::from_str(schedule).map_err(|error| {
            format!("schedule: {schedule:?} is no cron pattern such as \"0 2 * * *\": {error}")
        })?;
        let zone = TimeZone::get(timezone).map_err(|_| {
            format!("timezone: {timezone:?} is not known; write it as \"Europe/Berlin\" or \"UTC\"")
        })?;
        Ok(Self { cron, zone })
    }

    /// The last time at which something was due after `after`, up to `now`; what was missed before that is not made up for.
    #[must_use]
    pub fn due(&self, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let now = now.to_zoned(self.zone.clone());
        let last = self.cron.find_previous_occurrence(&now, true).ok()?.timestamp();
        (last > after).then_some(last)
    }

    /// The next time after `now`.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let now = now.to_zoned(self.zone.clone());
        Some(self.cron.find_next_occurrence(&now, false).ok()?.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_missed_is_due_once() {
        let daily = Schedule::parse("0 2 * * *", "UTC").unwrap();
        let cases = [
            ("2026-03-01T02:00:00Z", "2026-03-02T01:59:59Z", None),
            ("2026-03-01T02:00:00Z", "2026-03-02T02:00:00Z", Some("2026-03-02T02:00:00Z")),
            ("2026-03-01T02:00:00Z", "2026-03-09T11:00:00Z", Some("2026-03-09T02:00:00Z")),
            ("2026-03-09T02:00:00Z", "2026-03-09T11:00:00Z", None),
            ("2026-03-09T10:00:00Z", "2026-03-09T11:00:00Z", None),
        ];
        for (after, now, expected) in cases {
            assert_eq!(daily.due(at(after), at(now)), expected.map(at), "{now}");
        }
        assert_eq!(daily.next(at("2026-03-02T02:00:00Z")), Some(at("2026-03-03T02:00:00Z")));
    }

    #[test]
    fn hours_are_those_of_the_time_zone_and_none_is_due_twice() {
        let berlin = Schedule::parse("30 2 * * *", "Europe/Berlin").unwrap();
        assert_eq!(berlin.next(at("2026-01-10T00:00:00Z")), Some(at("2026-01-10T01:30:00Z")));
        assert_eq!(berlin.next(at("2026-07-10T00:00:00Z")), Some(at("2026-07-10T00:30:00Z")));
        // In the night of 25 October 2026 half past two comes twice.
        let mut now = at("2026-10-24T12:00:00Z");
        let mut times = Vec::new();
        while times.len() < 2 {
            now = berlin.next(now).unwrap();
            times.push(now);
        }
        assert!(times[1].duration_since(times[0]).as_hours() > 20, "{times:?}");
    }

    #[test]
    fn what_is_no_schedule_is_said() {
        for (schedule, timezone, says) in [
            ("often", "UTC", "cron"),
            ("61 * * * *", "UTC", "cron"),
            ("0 2 * * *", "Mars/Olympus", "timezone"),
        ] {
            assert!(Schedule::parse(schedule, timezone).unwrap_err().contains(says), "{schedule}");
        }
        assert!(Schedule::parse("* * * * *", "UTC").is_ok());
    }
}
