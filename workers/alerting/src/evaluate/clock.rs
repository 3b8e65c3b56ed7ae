//! As of when things are judged.
//!
//! Telemetry comes in batches, some seconds after its own time. So the window of a service ends with the newest second of which the service has told something, and a service that
//! sends every five seconds is judged on whole windows. One that is silent for longer than [`PATIENCE_S`] is waited for no more: its window moves on, and what drains out of it proves
//! nothing. What is ahead of the clock (clocks differ) counts when its time has come.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

/// How long the telemetry of a service may take, in seconds.
pub(super) const PATIENCE_S: u64 = 30;

/// What a group is judged as of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Unix milliseconds.
    pub now_ms: u64,
    /// The second with which its window ends.
    pub end_s: u64,
    /// Whether its telemetry comes in: that there is none of a kind then means that nothing of the kind happened.
    pub is_fresh: bool,
}

impl Moment {
    /// For telemetry whose newest second is `newest_s`, where windows end with `earliest_s` or later.
    pub fn of_telemetry(now_ms: u64, newest_s: u64, earliest_s: u64) -> Self {
        Self { now_ms, end_s: newest_s.max(earliest_s), is_fresh: newest_s >= earliest_s }
    }

    /// For readings, which are told at once, and only when there is something to tell.
    pub fn of_readings(now_ms: u64) -> Self {
        Self { now_ms, end_s: now_ms / 1000, is_fresh: true }
    }
}

/// The seconds of which something is known.
#[derive(Debug, Default)]
pub(super) struct Clock {
    newest_s: u64,
    ahead: BTreeSet<u64>,
    has_moved: bool,
}

impl Clock {
    /// Notes that something happened in this second.
    pub fn note(&mut self, second: u64) {
        if second > self.newest_s {
            self.ahead.insert(second);
        }
    }

    fn advance(&mut self, now_s: u64) {
        self.has_moved = false;
        while let Some(second) = self.ahead.first().copied().filter(|second| *second <= now_s) {
            self.ahead.pop_first();
            self.newest_s = self.newest_s.max(second);
            self.has_moved = true;
        }
    }

    /// The newest second that is not ahead.
    pub fn newest_s(&self) -> u64 {
        self.newest_s
    }

    /// Whether it moved on the last time that time moved on.
    pub fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// The next second at which what is known changes by itself.
    fn next_s(&self, now_s: u64) -> Option<u64> {
        let ahead = self.ahead.first().copied();
        let stale = (self.newest_s > 0).then_some(self.newest_s + PATIENCE_S + 1).filter(|at| *at > now_s);
        ahead.into_iter().chain(stale).min()
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

/// The clocks of all services. A service has a number, by which others refer to it.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    numbers: FxHashMap<String, usize>,
    names: Vec<String>,
    services: Vec<Service>,
    /// The seconds in which nobody listened, or nobody could tell anything.
    gap: (u64, u64),
}

impl Clocks {
    /// Nobody listened between these seconds: that a service was not heard in them says nothing about it.
    pub fn resume(&mut self, from_s: u64, to_s: u64) {
        self.gap = (from_s, to_s);
    }

    /// The second with which windows end at the earliest: as long ago as patience lasts, which does not run out in a gap nor just behind it.
    pub fn earliest_s(&self, now_s: u64) -> u64 {
        let (from_s, to_s) = self.gap;
        let since_s = if (from_s..=to_s + PATIENCE_S).contains(&now_s) { from_s } else { now_s };
        since_s.saturating_sub(PATIENCE_S)
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

    /// Lets time move on.
    pub fn advance(&mut self, now_s: u64) {
        for service in &mut self.services {
            service.traffic.advance(now_s);
            service.hosts.advance(now_s);
        }
    }

    /// The next second at which what is known changes by itself.
    pub fn next_s(&self, now_s: u64) -> Option<u64> {
        let clocks = self.services.iter().flat_map(|service| [&service.traffic, &service.hosts]);
        clocks.filter_map(|clock| clock.next_s(now_s)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_with_the_newest_second_that_is_known_within_the_patience() {
        for (newest_s, end_s, is_fresh) in
            [(1_000, 1_000, true), (995, 995, true), (970, 970, true), (969, 970, false), (0, 970, false)]
        {
            let moment = Moment::of_telemetry(1_000_999, newest_s, Clocks::default().earliest_s(1_000));
            assert_eq!((moment.end_s, moment.is_fresh), (end_s, is_fresh), "{newest_s}");
        }
    }

    #[test]
    fn patience_does_not_run_out_while_nobody_listens() {
        let mut clocks = Clocks::default();
        clocks.resume(1_000, 1_100);
        for (now_s, earliest_s) in
            [(999, 969), (1_000, 970), (1_050, 970), (1_130, 970), (1_131, 1_101), (1_200, 1_170)]
        {
            assert_eq!(clocks.earliest_s(now_s), earliest_s, "{now_s}");
        }
    }

    #[test]
    fn what_is_ahead_waits_for_its_time() {
        let mut clock = Clock::default();
        [1_000, 1_200, 998].into_iter().for_each(|second| clock.note(second));
        for (now_s, newest_s, has_moved, next_s) in [
            (999, 998, true, Some(1_000)),
            (1_000, 1_000, true, Some(1_031)),
            (1_001, 1_000, false, Some(1_031)),
            (1_031, 1_000, false, Some(1_200)),
            (1_300, 1_200, true, None),
        ] {
            clock.advance(now_s);
            let told = (clock.newest_s(), clock.has_moved(), clock.next_s(now_s));
            assert_eq!(told, (newest_s, has_moved, next_s), "{now_s}");
        }
    }
}
