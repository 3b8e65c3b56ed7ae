//! As of when the groups of a rule are judged.

use super::clock::{Clock, Clocks, Moment, Service};
use crate::signal::Source;

/// The clocks that the groups of a rule go by.
pub(super) struct Pace<'a> {
    of: fn(&Service) -> &Clock,
    /// By their numbers; none for readings, which all go by the time.
    services: &'a [Service],
    /// What a group goes by that has no service of its own.
    all: Moment,
    all_has_moved: bool,
}

impl<'a> Pace<'a> {
    /// The pace of a rule about `source` that looks at these services, by their numbers.
    pub fn of(source: Source, looks_at: &[bool], clocks: &'a Clocks) -> Self {
        let of: fn(&Service) -> &Clock = match source {
            Source::Http | Source::Db => |service| &service.traffic,
            Source::Memory | Source::Cpu | Source::Filesystem => |service| &service.hosts,
            Source::Reading => return Self::of_readings(clocks),
        };
        let services = clocks.services();
        let looked_at =
            || services.iter().zip(looks_at).filter(|(_, looks)| **looks).map(|(of, _)| of).map(of);
        let all = looked_at().map(Clock::moment).reduce(Moment::together).unwrap_or_default();
        Self { of, services, all, all_has_moved: looked_at().any(Clock::has_moved) }
    }

    /// Readings are told at once, and only when there is something to tell.
    fn of_readings(clocks: &Clocks) -> Self {
        let all =
            Moment { end_s: clocks.now_s(), is_fresh: true, lag_s: 0, since_s: clocks.listens_since_s() };
        Self { of: |service| &service.traffic, services: &[], all, all_has_moved: false }
    }

    /// As of when a group is judged.
    pub fn moment(&self, service: Option<usize>) -> Moment {
        self.clock(service).map_or(self.all, Clock::moment)
    }

    /// Whether that is another since time moved on.
    pub fn has_moved(&self, service: Option<usize>) -> bool {
        self.clock(service).map_or(self.all_has_moved, Clock::has_moved)
    }

    fn clock(&self, service: Option<usize>) -> Option<&Clock> {
        service.and_then(|number| self.services.get(number)).map(self.of)
    }
}
