//! The share of checks that found an instance well, over an hour, a day, a month.

use std::collections::VecDeque;

use keelson_schemas::services::Uptime;
use serde::{Deserialize, Serialize};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// What checks found. Those that could see nothing are in none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    minutes: Ring<MINUTE_MS, 60>,
    hours: Ring<HOUR_MS, 24>,
    days: Ring<DAY_MS, 30>,
}

/// So many spans of time, each with the checks in it; those without any are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ring<const WIDTH_MS: u64, const MOST: u64>(VecDeque<(u64, u32, u32)>);

impl History {
    /// A check found something.
    pub fn add(&mut self, well: bool, now_ms: u64) {
        self.minutes.add(well, now_ms);
        self.hours.add(well, now_ms);
        self.days.add(well, now_ms);
    }

    /// What it comes to.
    #[must_use]
    pub fn uptime(&self, now_ms: u64) -> Uptime {
        Uptime {
            hour: self.minutes.share(now_ms),
            day: self.hours.share(now_ms),
            month: self.days.share(now_ms),
        }
    }
}

impl<const WIDTH_MS: u64, const MOST: u64> Ring<WIDTH_MS, MOST> {
    fn add(&mut self, well: bool, now_ms: u64) {
        let at = now_ms / WIDTH_MS;
        // A clock that was set back adds to the newest span there is.
        if self.0.back().is_none_or(|(last, _, _)| *last < at) {
            self.0.push_back((at, 0, 0));
        }
        if let Some((_, wells, ills)) = self.0.back_mut() {
            let count = if well { wells } else { ills };
            *count = count.saturating_add(1);
        }
        while self.0.front().is_some_and(|(first, _, _)| first + MOST <= at) {
            self.0.pop_front();
        }
    }

    fn share(&self, now_ms: u64) -> Option<f64> {
        let since = (now_ms / WIDTH_MS).saturating_sub(MOST - 1);
        let within = self.0.iter().filter(|(at, _, _)| *at >= since);
        let (wells, ills) = within
            .fold((0_u64, 0_u64), |(wells, ills), (_, w, i)| (wells + u64::from(*w), ills + u64::from(*i)));
        (wells + ills > 0).then(|| wells as f64 / (wells + ills) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_span_forgets_what_is_older_than_it() {
        let mut history = History::default();
        let start = 20_000 * DAY_MS;
        let mut now = start;
        let mut check_for = |history: &mut History, checks: u64, well: bool| {
            for _ in 0..checks {
                history.add(well, now);
                now += MINUTE_MS;
            }
            now
        };
        assert_eq!(history.uptime(start), Uptime::default());
        let now = check_for(&mut history, 60, false);
        assert_eq!(history.uptime(now - 1), Uptime { hour: Some(0.0), day: Some(0.0), month: Some(0.0) });
        let now = check_for(&mut history, 60, true);
        assert_eq!(history.uptime(now - 1), Uptime { hour: Some(1.0), day: Some(0.5), month: Some(0.5) });
        let now = check_for(&mut history, 23 * 60, true);
        assert_eq!(history.uptime(now - 1).day, Some(1.0));
        assert_eq!(history.uptime(now - 1).month, Some(1.0 - 60.0 / 1500.0));
        assert_eq!(history.uptime(now - MINUTE_MS + HOUR_MS).hour, None, "nothing was seen for an hour");
        assert_eq!(history.uptime(now + 31 * DAY_MS), Uptime::default());
    }

    #[test]
    fn it_stays_small() {
        let mut history = History::default();
        for check in 0..100_000_u64 {
            history.add(check % 7 > 0, check * 30_000);
        }
        let kept = keelson_schemas::codec::encode(&history).unwrap().len();
        assert!(kept < 2_048, "{kept} bytes");
    }
}
