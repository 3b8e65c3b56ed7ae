//! Whether a provider takes calls, as its answers tell.

use std::time::{Duration, Instant};

use crate::flow::{Now, Quota};

/// Failures in a row after which a provider counts as down, and is tried by one call at a time.
const DOWN_AFTER: u32 = 3;
/// The wait after the first failure; twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait: a provider that is back is noticed so soon.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often credentials that were refused are tried again: somebody has to change something first.
const REFUSED_WAIT: Duration = Duration::from_secs(60);
/// The longest that a provider can ask to be left alone.
const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(15 * 60);

/// How a provider fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Health {
    /// Nothing was sent yet.
    #[default]
    Unknown,
    /// It takes what is sent.
    Up,
    /// It does not, for this reason.
    Down(String),
    /// It refuses the credentials, in its own words.
    Refused(String),
}

/// How a provider fares, since when, and when it may be called next.
#[derive(Debug, Default)]
pub struct Standing {
    health: Health,
    since_ms: u64,
    failures: u32,
    paused_until: Option<Instant>,
    /// What the provider said is left, and until when that holds.
    quota: Option<(u64, Instant)>,
}

impl Standing {
    /// How it fares.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Since when, Unix milliseconds.
    #[must_use]
    pub fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// Until when it is left alone.
    #[must_use]
    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Whether a call may be made beside those under way.
    pub(crate) fn may_call(&self, now: Instant, under_way: usize) -> bool {
        let paused = self.paused_until.is_some_and(|until| now < until);
        let trying = self.failures >= DOWN_AFTER || matches!(self.health, Health::Refused(_));
        !paused && (!trying || under_way == 0)
    }

    /// A call was taken; whether the provider was away before.
    pub(crate) fn succeeded(&mut self, now_ms: u64) -> bool {
        let was_away = self.failures >= DOWN_AFTER || matches!(self.health, Health::Refused(_));
        self.failures = 0;
        self.paused_until = None;
        self.become_(Health::Up, now_ms);
        was_away
    }

    /// A call that was tried so often before was not taken; how long to wait with it. What fails again and again while others succeed waits longer
    /// and longer by itself.
    pub(crate) fn failed(
        &mut self,
        tries: u32,
        after: Option<Duration>,
        reason: String,
        now: Now,
    ) -> Duration {
        let doublings = self.failures.max(tries).min(10);
        self.failures = self.failures.saturating_add(1);
        let own = (FIRST_WAIT * 2_u32.saturating_pow(doublings)).min(LONGEST_WAIT);
        let wait = after.map_or(own, |after| after.min(LONGEST_ASKED_WAIT));
        if after.is_some() || self.failures >= DOWN_AFTER {
            self.pause(now.at + wait);
        }
        if self.failures >= DOWN_AFTER {
            self.become_(Health::Down(reason), now.ms);
        }
        wait
    }

    /// It is well and has too much in progress for a call that was tried so often before; how long to wait.
    pub(crate) fn full(&mut self, tries: u32, now: Instant) -> Duration {
        let wait = (FIRST_WAIT * 2_u32.saturating_pow(tries.min(10))).min(LONGEST_WAIT);
        self.pause(now + wait);
        wait
    }

    /// The credentials were refused; how long to wait.
    pub(crate) fn refused(&mut self, reason: String, now: Now) -> Duration {
        self.pause(now.at + REFUSED_WAIT);
        self.become_(Health::Refused(reason), now.ms);
        REFUSED_WAIT
    }

    /// What the provider says may still be sent; when that is nothing, it is left alone until there is something.
    pub(crate) fn has_left(&mut self, quota: Option<Quota>, now: Instant) {
        let Some(Quota { left, resets_after }) = quota else { return };
        let resets_at = now + resets_after.min(LONGEST_ASKED_WAIT);
        self.quota = Some((left, resets_at));
        if left == 0 {
            self.pause(resets_at);
        }
    }

    /// What the provider said is left, while that holds.
    #[must_use]
    pub fn quota_left(&self, now: Instant) -> Option<u64> {
        self.quota.filter(|(_, until)| now < *until).map(|(left, _)| left)
    }

    fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    fn become_(&mut self, health: Health, now_ms: u64) {
        if std::mem::discriminant(&self.health) != std::mem::discriminant(&health) {
            self.since_ms = now_ms;
        }
        self.health = health;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_and_it_is_tried_by_one_call_at_a_time() {
        let start = Instant::now();
        let at = |seconds: u64| Now { at: start + Duration::from_secs(seconds), ms: seconds * 1000 };
        let mut standing = Standing::default();
        standing.succeeded(at(0).ms);
        for _ in 0..2 {
            standing.failed(0, None, "no".into(), at(1));
            assert!(standing.may_call(at(1).at, 7) && *standing.health() == Health::Up);
        }
        let wait = standing.failed(0, None, "no".into(), at(2));
        assert_eq!(
            (standing.health(), standing.since_ms(), wait),
            (&Health::Down("no".into()), 2000, FIRST_WAIT * 4)
        );
        assert!(!standing.may_call(at(2).at, 0), "it is left alone for a while");
        assert!(standing.may_call(at(3).at, 0) && !standing.may_call(at(3).at, 1));
        let longest = (0..40).map(|_| standing.failed(0, None, "no".into(), at(3))).max();
        assert_eq!(longest, Some(LONGEST_WAIT));
        assert!(standing.succeeded(at(9).ms) && standing.may_call(at(9).at, 7));
        assert!(!standing.succeeded(at(9).ms));
    }

    #[test]
    fn what_the_provider_asks_for_is_kept_within_reason() {
        let now = Now { at: Instant::now(), ms: 1 };
        let mut standing = Standing::default();
        let minute = Duration::from_secs(60);
        assert_eq!(standing.failed(0, Some(minute), "429".into(), now), minute);
        assert!(
            !standing.may_call(now.at + minute - Duration::from_millis(1), 0)
                && standing.may_call(now.at + minute, 5)
        );
        assert_eq!(standing.failed(0, Some(minute * 1000), "429".into(), now), LONGEST_ASKED_WAIT);
        assert_eq!(standing.refused("bad key".into(), now), REFUSED_WAIT);
        assert_eq!(standing.health(), &Health::Refused("bad key".into()));
    }
}
