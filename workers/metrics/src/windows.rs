//! Counts over the last minute, five minutes and hour of event time.
//!
//! Windows are folded from the slices of the last hour, like the totals from all of them, and kept in memory only: an owner that takes over reads those slices again.

use std::collections::BTreeMap;

use keelson_schemas::slice::Slice;
use keelson_schemas::telemetry::{DbSeries, HttpSeries};
use keelson_schemas::totals::{self, DbTotal, HttpTotal, InstanceReading, ServiceTotals, Tally};
use rustc_hash::FxHashMap;

use crate::totals::{add_call, add_request, db_total, http_total, keep_newest};

/// The longest window in seconds: what lies further back is in the totals only.
pub const LONGEST_S: u64 = 3600;
/// How far ahead of the clock cells are kept, in seconds: the most that a sample may be ahead, and a little for the clocks.
const AHEAD_S: u64 = 420;

/// The windows of one partition.
#[derive(Debug)]
pub struct Windows {
    minute: Window,
    five_minutes: Window,
    hour: Window,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            minute: Window::new(60, 1),
            five_minutes: Window::new(300, 5),
            hour: Window::new(LONGEST_S, 60),
        }
    }
}

impl Windows {
    /// Adds what of a slice lies within the windows at the Unix second `now`.
    pub fn apply(&mut self, slice: &Slice, now: u64) {
        for window in [&mut self.minute, &mut self.five_minutes, &mut self.hour] {
            window.forget(now);
            window.apply(slice, now);
        }
    }

    /// Adds everything that another instance holds.
    pub fn merge(&mut self, other: Self) {
        self.minute.merge(other.minute);
        self.five_minutes.merge(other.five_minutes);
        self.hour.merge(other.hour);
    }

    /// The last minute, five minutes and hour before and at the Unix second `now`.
    #[must_use]
    pub fn told(&self, now: u64) -> totals::Windows {
        totals::Windows {
            minute: self.minute.told(now),
            five_minutes: self.five_minutes.told(now),
            hour: self.hour.told(now),
        }
    }
}

/// Counts over one span, kept in steps: the span moves on by whole steps.
#[derive(Debug)]
struct Window {
    span_s: u64,
    step_s: u64,
    /// By the Unix second at which the step begins.
    steps: BTreeMap<u64, Step>,
}

/// Counts within one step, by service and series.
#[derive(Debug, Default)]
struct Step(FxHashMap<String, StepOfService>);

#[derive(Debug, Default)]
struct StepOfService {
    tally: Tally,
    hosts: Vec<InstanceReading>,
    http: FxHashMap<HttpSeries, HttpTotal>,
    db: FxHashMap<DbSeries, DbTotal>,
}

impl Window {
    fn new(span_s: u64, step_s: u64) -> Self {
        Self { span_s, step_s, steps: BTreeMap::new() }
    }

    /// The first second of the oldest step within the span.
    fn begin(&self, now: u64) -> u64 {
        (now + 1).saturating_sub(self.span_s).next_multiple_of(self.step_s)
    }

    fn forget(&mut self, now: u64) {
        self.steps = self.steps.split_off(&self.begin(now));
    }

    fn apply(&mut self, slice: &Slice, now: u64) {
        let kept = self.begin(now)..=now + AHEAD_S;
        for service in &slice.services {
            // What came late or overflowed is told by when it came: its own time may be long ago.
            let came = slice.cut_at_ms / 1000;
            if kept.contains(&came) {
                self.service(&service.service, came).tally.add(service.tally);
            }
            for host in service.hosts.iter().filter(|host| kept.contains(&(host.reading.ts / 1000))) {
                keep_newest(&mut self.service(&service.service, host.reading.ts / 1000).hosts, host);
            }
            for delta in &service.http {
                for cell in delta.cells.iter().filter(|cell| kept.contains(&cell.second)) {
                    self.service(&service.service, cell.second)
                        .add_http(&delta.series, |total| add_request(total, cell));
                }
            }
            for delta in &service.db {
                for cell in delta.cells.iter().filter(|cell| kept.contains(&cell.second)) {
                    self.service(&service.service, cell.second)
                        .add_db(&delta.series, |total| add_call(total, cell));
                }
            }
        }
    }

    fn service(&mut self, service: &str, second: u64) -> &mut StepOfService {
        let begin = second - second % self.step_s;
        self.steps.entry(begin).or_default().service(service)
    }

    fn merge(&mut self, other: Self) {
        for (begin, step) in other.steps {
            self.steps.entry(begin).or_default().merge(&step);
        }
    }

    fn told(&self, now: u64) -> Vec<ServiceTotals> {
        let mut sum = Step::default();
        for (_, step) in self.steps.range(self.begin(now)..=now) {
            sum.merge(step);
        }
        sum.0.into_iter().map(|(service, step)| step.told(service)).collect()
    }
}

impl Step {
    fn service(&mut self, service: &str) -> &mut StepOfService {
        if !self.0.contains_key(service) {
            self.0.insert(service.to_owned(), StepOfService::default());
        }
        self.0.entry(service.to_owned()).or_default()
    }

    fn merge(&mut self, other: &Self) {
        for (service, step) in &other.0 {
            let mine = self.service(service);
            mine.tally.add(step.tally);
            step.hosts.iter().for_each(|host| {
                keep_newest(&mut mine.hosts, host);
            });
            for (series, total) in &step.http {
                mine.add_http(series, |sum| {
                    sum.requests += total.requests;
                    sum.latency.merge(&total.latency);
                });
            }
            for (series, total) in &step.db {
                mine.add_db(series, |sum| {
                    sum.calls += total.calls;
                    sum.slow += total.slow;
                    sum.latency.merge(&total.latency);
                });
            }
        }
    }
}

impl StepOfService {
    fn add_http(&mut self, series: &HttpSeries, add: impl FnOnce(&mut HttpTotal)) {
        match self.http.get_mut(series) {
            Some(total) => add(total),
            None => add(self.http.entry(series.clone()).or_insert_with(|| http_total(series.clone()))),
        }
    }

    fn add_db(&mut self, series: &DbSeries, add: impl FnOnce(&mut DbTotal)) {
        match self.db.get_mut(series) {
            Some(total) => add(total),
            None => add(self.db.entry(series.clone()).or_insert_with(|| db_total(series.clone()))),
        }
    }

    fn told(self, service: String) -> ServiceTotals {
        ServiceTotals {
            tally: self.tally,
            hosts: self.hosts,
            http: self.http.into_values().collect(),
            db: self.db.into_values().collect(),
            ..ServiceTotals::named(service)
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_schemas::slice::{Cell, HttpDelta, ServiceSlice};

    use super::*;

    const NOW: u64 = 1_764_000_000;

    fn slice(seconds: &[u64]) -> Slice {
        let cells =
            seconds.iter().map(|second| Cell { second: *second, count: 1, ..Cell::default() }).collect();
        let series = HttpSeries { method: "GET".into(), route: "/a".into(), status: 200 };
        let http = vec![HttpDelta { series, cells }];
        Slice {
            services: vec![ServiceSlice { service: "content".into(), http, ..ServiceSlice::default() }],
            ..Slice::default()
        }
    }

    fn requests(windows: &Windows, now: u64) -> [u64; 3] {
        let told = windows.told(now);
        [told.minute, told.five_minutes, told.hour]
            .map(|services| services.iter().flat_map(|s| &s.http).map(|total| total.requests).sum())
    }

    #[test]
    fn a_sample_is_in_the_windows_that_its_own_time_lies_in() {
        for (ago, expected) in [
            (0, [1, 1, 1]),
            (59, [1, 1, 1]),
            (60, [0, 1, 1]),
            (299, [0, 1, 1]),
            (300, [0, 0, 1]),
            (3_599, [0, 0, 1]),
            (3_600, [0; 3]),
        ] {
            let now = NOW + 59; // the last second of a minute, so that all windows begin on a step
            let mut windows = Windows::default();
            windows.apply(&slice(&[now - ago]), now);
            assert_eq!(requests(&windows, now), expected, "{ago} s ago");
        }
    }

    #[test]
    fn windows_move_on_and_forget() {
        let mut windows = Windows::default();
        windows.apply(&slice(&[NOW, NOW + 10]), NOW + 10);
        assert_eq!(requests(&windows, NOW + 59), [2, 2, 2]);
        assert_eq!(requests(&windows, NOW + 60), [1, 2, 2]);
        assert_eq!(requests(&windows, NOW + 4_000), [0; 3]);
        windows.apply(&slice(&[]), NOW + 4_000);
        assert!(windows.hour.steps.is_empty() && windows.minute.steps.is_empty());
    }

    #[test]
    fn a_sample_ahead_of_the_clock_counts_when_its_time_has_come() {
        let mut windows = Windows::default();
        windows.apply(&slice(&[NOW + 100, NOW + 10_000]), NOW);
        assert_eq!(requests(&windows, NOW)[0], 0);
        assert_eq!(requests(&windows, NOW + 100)[0], 1);
        assert_eq!(requests(&windows, NOW + 10_000)[0], 0, "too far ahead to be kept");
    }

    #[test]
    fn what_came_late_is_told_by_when_it_came() {
        let mut late = slice(&[NOW - 100_000]);
        late.cut_at_ms = (NOW + 50) * 1000;
        late.services[0].tally = Tally { samples: 1, late: 1, overflow: 0 };
        let mut windows = Windows::default();
        windows.apply(&late, NOW + 59);
        let told = windows.told(NOW + 59);
        assert_eq!(told.minute[0].tally.late, 1);
        assert!(told.minute[0].http.is_empty(), "its own time is outside the window");
    }

    #[test]
    fn windows_read_again_are_the_windows_that_were() {
        let slices: Vec<Slice> = (0..100).map(|i| slice(&[NOW - i * 17, NOW - i])).collect();
        let mut whole = Windows::default();
        slices.iter().for_each(|slice| whole.apply(slice, NOW));
        let (mut older, mut newer) = (Windows::default(), Windows::default());
        slices[..60].iter().for_each(|slice| older.apply(slice, NOW));
        slices[60..].iter().for_each(|slice| newer.apply(slice, NOW));
        newer.merge(older);
        assert_eq!(requests(&newer, NOW), requests(&whole, NOW));
    }
}
