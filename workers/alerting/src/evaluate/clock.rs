//! As of when things are judged.
//!
//! Telemetry comes in batches, some seconds after its own time, and by clocks that may be behind. So the window of a service ends with the newest second of which the service has told
//! something, and a service that sends every five seconds is judged on whole windows. One of which nothing newer comes for [`PATIENCE_S`] is waited for no more: its window moves on, and
//! what drains out of it proves nothing. No window ends further back than [`MAX_LAG_S`]: what is imported later is the past. What is ahead of the clock counts when its time has come.

use std::collections::BTreeSet;

use keelson_schemas::limits::LATE_AFTER_MS;
use rustc_hash::FxHashMap;

/// How long the next telemetry of a service may take, in seconds.
pub(super) const PATIENCE_S: u64 = 30;
/// How far behind the newest that a service tells of may be, in seconds; what is further behind is late.
pub(super) const MAX_LAG_S: u64 = LATE_AFTER_MS / 1000;

/// As of when something is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment {
    /// The second with which its window ends.
    pub end_s: u64,
    /// Whether its telemetry comes in: that there is none of a kind then means that nothing of the kind happened.
    pub is_fresh: bool,
    /// How far behind the time the window ends if nothing more comes, in seconds.
    pub lag_s: u64,
    /// The second from which on all is listened to that is told but once.
    pub since_s: u64,
}

impl Moment {
    /// As of when things of several services are judged together.
    pub fn together(self, other: Self) -> Self {
        Self {
            end_s: self.end_s.max(other.end_s),
            is_fresh: self.is_fresh || other.is_fresh,
            lag_s: self.lag_s.min(other.lag_s),
            since_s: self.since_s.max(other.since_s),
        }
    }
}

/// The seconds of which something is known.
#[derive(Debug, Default)]
pub(super) struct Clock {
    newest_s: u64,
    /// When that became the newest.
    moved_s: u64,
    ahead: BTreeSet<u64>,
    moment: Moment,
    has_moved: bool,
}

impl Clock {
    /// Notes that something happened in this second.
    pub fn note(&mut self, second: u64) {
        if second > self.newest_s {
            self.ahead.insert(second);
        }
    }

    /// Lets time move on to `now_s`. Patience goes by `heard_s`: when it was heard last whether there is something new.
    fn advance(&mut self, now_s: u64, heard_s: u64) {
        while let Some(second) = self.ahead.first().copied().filter(|second| *second <= now_s) {
            self.ahead.pop_first();
            self.newest_s = second;
            self.moved_s = now_s;
        }
        if self.newest_s == 0 {
            return;
        }
        let lag_s = (self.moved_s - self.newest_s + PATIENCE_S).min(MAX_LAG_S);
        let end_s = self.newest_s.max(heard_s.saturating_sub(lag_s)).max(self.moment.end_s);
        let is_fresh = self.last_fresh_s() >= heard_s;
        let before = std::mem::replace(&mut self.moment, Moment { end_s, is_fresh, lag_s, since_s: 0 });
        self.has_moved = self.moment != before;
    }

    /// The last second in which it is fresh if nothing more comes.
    fn last_fresh_s(&self) -> u64 {
        (self.moved_s + PATIENCE_S).min(self.newest_s + MAX_LAG_S)
    }

    /// As of when what it is the clock of is judged.
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// Whether that is another since time moved on.
    pub fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// The next second at which what is known changes by itself.
    fn next_s(&self) -> Option<u64> {
        let is_over = self.moment.is_fresh.then(|| self.last_fresh_s() + 1);
        self.ahead.first().copied().into_iter().chain(is_over).min()
    }
}

/// What is known of when a service told something.
#[derive(Debug, Default)]
pub(super) struct Service {
    /// Of requests and database calls.
    pub traffic: Clock,
    /// Of machines.
    pub hosts: Clock,
}

/// The clocks of all services, and the time. A service has a number, by which others refer to it.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    now_ms: u64,
    numbers: FxHashMap<String, usize>,
    names: Vec<String>,
    services: Vec<Service>,
    /// The seconds in which nobody listened, or nobody could tell anything.
    gap: (u64, u64),
}

impl Clocks {
    /// Up to when time has moved on, in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// See [`Clocks::now_ms`].
    pub fn now_s(&self) -> u64 {
        self.now_ms / 1000
    }

    /// Lets time move on. It does not go back.
    pub fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        let (now_s, heard_s) = (self.now_s(), self.heard_s());
        for service in &mut self.services {
            service.traffic.advance(now_s, heard_s);
            service.hosts.advance(now_s, heard_s);
        }
    }

    /// Nobody listened between these seconds: that a service was not heard in them says nothing about it.
    pub fn resume(&mut self, from_s: u64, to_s: u64) {
        self.gap = (from_s, to_s);
    }

    /// The second from which on it is listened without a gap.
    pub fn listens_since_s(&self) -> u64 {
        self.gap.1
    }

    /// As of when patience goes by. It does not run out in a gap, nor just behind it.
    fn heard_s(&self) -> u64 {
        let (from_s, to_s) = self.gap;
        if (from_s..=to_s + PATIENCE_S).contains(&self.now_s()) { from_s } else { self.now_s() }
    }

    /// The number of a service.
    pub fn number(&mut self, service: &str) -> usize {
        if let Some(number) = self.numbers.get(service) {
            return *number;
        }
        self.numbers.insert(service.to_owned(), self.services.len());
        self.names.push(service.to_owned());
        self.services.push(Service::default());
        self.services.len() - 1
    }

    /// The clocks of a service.
    pub fn of(&mut self, number: usize) -> &mut Service {
        &mut self.services[number]
    }

    /// The names of all services in the order of their numbers.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// All services in the order of their numbers.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The next second at which what is known changes by itself.
    pub fn next_s(&self) -> Option<u64> {
        let clocks = self.services.iter().flat_map(|service| [&service.traffic, &service.hosts]);
        clocks.filter_map(Clock::next_s).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a clock says at each time, when the newest that it was told of by then is this: its end and whether it is fresh.
    fn says(told: &[(u64, Option<u64>, u64, bool)]) {
        let mut clock = Clock::default();
        for (now_s, newest_s, end_s, is_fresh) in told.iter().copied() {
            newest_s.into_iter().for_each(|second| clock.note(second));
            clock.advance(now_s, now_s);
            assert_eq!((clock.moment().end_s, clock.moment().is_fresh), (end_s, is_fresh), "at {now_s}");
        }
    }

    #[test]
    fn a_window_ends_with_what_is_newest_until_patience_is_over() {
        says(&[
            (1_000, None, 0, false),
            (1_000, Some(998), 998, true),
            (1_005, Some(1_003), 1_003, true),
            (1_035, None, 1_003, true),
            (1_036, None, 1_004, false),
            (1_100, None, 1_068, false),
            (1_101, Some(1_050), 1_068, true),
            (1_102, Some(1_102), 1_102, true),
        ]);
    }

    #[test]
    fn a_clock_that_is_behind_is_gone_by_unless_it_is_too_far_behind() {
        says(&[(1_000, Some(800), 800, true), (1_001, Some(801), 801, true), (1_032, None, 802, false)]);
        says(&[(1_000, Some(700), 700, true), (1_001, None, 701, false)]);
        says(&[(1_000, Some(600), 700, false), (1_001, Some(650), 701, false)]);
    }

    #[test]
    fn what_is_ahead_waits_for_its_time() {
        let mut clock = Clock::default();
        [1_000, 1_200, 998].into_iter().for_each(|second| clock.note(second));
        for (now_s, end_s, has_moved, next_s) in [
            (999, 998, true, Some(1_000)),
            (1_000, 1_000, true, Some(1_031)),
            (1_001, 1_000, false, Some(1_031)),
            (1_031, 1_001, true, Some(1_200)),
            (1_200, 1_200, true, Some(1_231)),
            (1_300, 1_270, true, None),
        ] {
            clock.advance(now_s, now_s);
            assert_eq!((clock.moment().end_s, clock.has_moved(), clock.next_s()), (end_s, has_moved, next_s));
        }
    }

    #[test]
    fn patience_does_not_run_out_while_nobody_listens() {
        let mut clocks = Clocks::default();
        let number = clocks.number("web");
        clocks.of(number).traffic.note(990);
        clocks.resume(1_000, 1_100);
        for (now_s, end_s, is_fresh) in [
            (991, 990, true),
            (1_000, 990, true),
            (1_050, 990, true),
            (1_130, 990, true),
            (1_131, 1_100, false),
            (1_200, 1_169, false),
        ] {
            clocks.advance(now_s * 1000);
            let moment = clocks.services()[number].traffic.moment();
            assert_eq!((moment.end_s, moment.is_fresh), (end_s, is_fresh), "{now_s}");
        }
    }

    #[test]
    fn it_is_known_when_a_window_will_end_with_a_second() {
        for (now_s, newest_s, end_s) in [(1_000, 998, 1_050), (1_000, 800, 900), (1_000, 710, 900)] {
            let mut clock = Clock::default();
            clock.note(newest_s);
            clock.advance(now_s, now_s);
            let reached_s = end_s + clock.moment().lag_s;
            for (at_s, is_reached) in [(reached_s - 1, false), (reached_s, true)] {
                clock.advance(at_s, at_s);
                assert_eq!(clock.moment().end_s >= end_s, is_reached, "{newest_s} {at_s}");
            }
        }
    }
}
