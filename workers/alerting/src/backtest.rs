//! What rules would have said about the past.
//!
//! By arrival, slices are taken as they were cut, one after the other. By event time all of them are taken in first: what they tell of waits in the windows until its time comes, as
//! telemetry that is ahead of the clock does, and then time passes.

use std::sync::Arc;

use keelson_schemas::alerting::{AlertState, BacktestReport, Firing, TimeAxis};
use keelson_schemas::slice::{Cell, Slice};
use rustc_hash::FxHashMap;

use crate::evaluate::{Change, Evaluator};
use crate::rules::RuleSet;

/// What a replay by event time may keep.
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Firings that are told.
const MAX_FIRINGS: usize = 1_000;

/// A replay of the past. Takes slices in the order of their stream.
///
/// What is needed of the stream is what was stored from `since` less [`RuleSet::longest_window`] on; by event time up to its end, because what
/// happened before `until` may have become known much later, and by arrival up to `until`.
#[derive(Debug)]
pub struct Backtest {
    evaluator: Evaluator,
    axis: TimeAxis,
    since_ms: u64,
    until_ms: u64,
    has_begun: bool,
    report: Report,
}

/// The report as it grows.
#[derive(Debug, Default)]
struct Report {
    told: BacktestReport,
    /// Where in it what still fires is, by fingerprint; none for what is not told.
    firing: FxHashMap<String, Option<usize>>,
}

/// There is more than a replay by event time can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is more than can be sorted by event time ({} MiB): ask for less time, or look at less things apart", .0 / (1024 * 1024))]
pub struct TooMuch(pub usize);

impl Backtest {
    /// A replay of the time from `since_ms` up to and with `until_ms`.
    #[must_use]
    pub fn new(rules: Arc<RuleSet>, axis: TimeAxis, since_ms: u64, until_ms: u64) -> Self {
        let mut evaluator = Evaluator::new(rules, Vec::new());
        if axis == TimeAxis::Event {
            evaluator.advance(since_ms);
        }
        Self { evaluator, axis, since_ms, until_ms, has_begun: false, report: Report::default() }
    }

    /// Takes the next slice in.
    ///
    /// # Errors
    /// It is more than can be held.
    pub fn slice(&mut self, slice: &Slice) -> Result<(), TooMuch> {
        match self.axis {
            TimeAxis::Event => self.gather(slice),
            TimeAxis::Arrival => {
                self.arrive(slice);
                Ok(())
            }
        }
    }

    /// What would have fired.
    #[must_use]
    pub fn finish(mut self) -> BacktestReport {
        self.pass_until(self.until_ms);
        self.report.told
    }

    fn gather(&mut self, slice: &Slice) -> Result<(), TooMuch> {
        let (since_s, until_s) = (self.since_ms.div_ceil(1000), self.until_ms / 1000);
        self.evaluator.observe_until(slice, until_s);
        self.report.count(slice, |second| (since_s..=until_s).contains(&second));
        if self.evaluator.bytes() > MAX_BYTES { Err(TooMuch(MAX_BYTES)) } else { Ok(()) }
    }

    fn arrive(&mut self, slice: &Slice) {
        let at_ms = slice.cut_at_ms;
        if at_ms > self.until_ms {
            return;
        }
        if at_ms < self.since_ms {
            self.evaluator.observe(slice);
            return self.evaluator.advance(at_ms);
        }
        self.pass_until(at_ms.saturating_sub(1));
        self.evaluator.observe(slice);
        self.report.count(slice, |_| true);
        self.pass_until(at_ms);
    }

    /// Lets time pass.
    fn pass_until(&mut self, at_ms: u64) {
        let report = &mut self.report;
        if !std::mem::replace(&mut self.has_begun, true) {
            self.evaluator.play_until(self.since_ms, |change| report.note(change));
        }
        self.evaluator.play_until(at_ms, |change| report.note(change));
    }
}

impl Report {
    fn note(&mut self, Change { mut alert, .. }: Change) {
        match alert.state {
            AlertState::Firing => {
                let place = (self.told.firings.len() < MAX_FIRINGS).then_some(self.told.firings.len());
                self.firing.insert(alert.fingerprint, place);
                let firing = Firing {
                    labels: alert.labels,
                    summary: alert.annotations.remove("summary").unwrap_or_default(),
                    value: alert.value,
                    starts_at_ms: alert.starts_at_ms.unwrap_or(alert.active_at_ms),
                    ends_at_ms: None,
                };
                match place {
                    Some(_) => self.told.firings.push(firing),
                    None => self.told.more += 1,
                }
            }
            AlertState::Resolved => {
                if let Some(place) = self.firing.remove(&alert.fingerprint).flatten() {
                    self.told.firings[place].ends_at_ms = alert.ends_at_ms;
                }
            }
            AlertState::Pending | AlertState::Inactive => {}
        }
    }

    /// Counts what of a slice lies within the time that was asked for.
    fn count(&mut self, slice: &Slice, is_within: impl Fn(u64) -> bool) {
        self.told.slices += 1;
        let cell = |cell: &Cell| (cell.second, cell.count);
        for service in &slice.services {
            let http = service.http.iter().flat_map(|delta| &delta.cells).map(cell);
            let db = service.db.iter().flat_map(|delta| &delta.cells).map(cell);
            let hosts = service.hosts.iter().map(|host| (host.reading.ts / 1000, 1));
            for (second, count) in http.chain(db).chain(hosts).filter(|(second, _)| is_within(*second)) {
                self.told.samples += count;
                self.told.from = Some(self.told.from.map_or(second, |from| from.min(second)));
                self.told.to = Some(self.told.to.map_or(second, |to| to.max(second)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_schemas::slice::{HttpDelta, ServiceSlice};
    use keelson_schemas::telemetry::HttpSeries;

    use super::*;
    use crate::rules::Source;

    const NOW: u64 = 1_764_000_000;

    fn rules(rule: &str) -> Arc<RuleSet> {
        let text = format!("[[rules]]\nname = \"Rule\"\n{rule}");
        Arc::new(RuleSet::parse(&[Source { name: "test".into(), text }], &[], false).unwrap())
    }

    /// A slice cut at a second with requests at others: (second, status, count).
    fn slice(cut_at: u64, requests: &[(u64, u16, u64)]) -> Slice {
        let http = requests.iter().map(|(second, status, count)| HttpDelta {
            series: HttpSeries { method: "GET".into(), route: "/".into(), status: *status },
            cells: vec![Cell { second: *second, count: *count, ..Cell::default() }],
        });
        let services =
            vec![ServiceSlice { service: "web".into(), http: http.collect(), ..ServiceSlice::default() }];
        Slice { cut_at_ms: cut_at * 1000, services, ..Slice::default() }
    }

    fn replay(rule: &str, axis: TimeAxis, since: u64, until: u64, slices: &[Slice]) -> BacktestReport {
        let mut backtest = Backtest::new(rules(rule), axis, since * 1000, until * 1000);
        slices.iter().for_each(|slice| backtest.slice(slice).unwrap());
        backtest.finish()
    }

    fn times(report: &BacktestReport) -> Vec<(u64, Option<u64>)> {
        let after = |ms: u64| ms / 1000 - NOW;
        report.firings.iter().map(|f| (after(f.starts_at_ms), f.ends_at_ms.map(after))).collect()
    }

    /// An hour of a log, imported a day later, in no order.
    fn import() -> Vec<Slice> {
        let good = (0..3_600).step_by(7).map(|at| (NOW + at, 200, 1));
        let bad = [100, 1_000, 1_030].map(|at| (NOW + at, 500, 1));
        let mut requests: Vec<_> = good.chain(bad).collect();
        requests.reverse();
        let cut_at = NOW + 86_400;
        requests.chunks(100).enumerate().map(|(n, chunk)| slice(cut_at + n as u64, chunk)).collect()
    }

    #[test]
    fn by_event_time_the_past_is_as_it_was_however_late_it_became_known() {
        let rule = "signal = \"errors\"\nabove = 0\nwindow = \"10s\"";
        let report = replay(rule, TimeAxis::Event, 0, NOW + 100_000, &import());
        assert_eq!(times(&report), [(100, Some(112)), (1_000, Some(1_015)), (1_030, Some(1_043))]);
        assert_eq!((report.slices, report.samples), (6, 518));
        assert_eq!((report.from, report.to), (Some(NOW), Some(NOW + 3_598)));
        assert_eq!(report.firings[0].summary, "web: failed requests is 1, above 0");
        assert_eq!(report.firings[0].value, Some(1.0));
    }

    #[test]
    fn by_arrival_it_is_as_it_became_known() {
        let rule = "signal = \"errors\"\nabove = 0\nwindow = \"10s\"";
        assert_eq!(times(&replay(rule, TimeAxis::Arrival, 0, NOW + 100_000, &import())), []);
        let late = [slice(NOW + 5, &[(NOW, 500, 1)]), slice(NOW + 40, &[(NOW + 40, 200, 1)])];
        let report = replay(rule, TimeAxis::Arrival, 0, NOW + 100, &late);
        assert_eq!(times(&report), [(5, Some(40))]);
        assert_eq!(
            (report.slices, report.samples, report.from, report.to),
            (2, 2, Some(NOW), Some(NOW + 40))
        );
    }

    #[test]
    fn only_the_time_asked_for_is_told_of_and_windows_are_full_at_its_beginning() {
        let rule = "signal = \"errors\"\nabove = 2\nwindow = \"1m\"";
        let requests: Vec<_> =
            (0..200).map(|at| (NOW + at, if at % 10 == 0 { 500 } else { 200 }, 1)).collect();
        let slices: Vec<_> = requests.iter().map(|request| slice(request.0, &[*request])).collect();
        for axis in [TimeAxis::Event, TimeAxis::Arrival] {
            let report = replay(rule, axis, NOW + 100, NOW + 150, &slices);
            assert_eq!(times(&report), [(100, None)], "{axis:?}");
            assert_eq!(report.samples, 51, "{axis:?}");
            assert_eq!((report.from, report.to), (Some(NOW + 100), Some(NOW + 150)), "{axis:?}");
        }
    }

    #[test]
    fn what_is_told_and_what_is_kept_is_bounded() {
        let rule = "signal = \"errors\"\nabove = 0\nwindow = \"1s\"";
        let requests: Vec<_> =
            (0..2_400).map(|at| (NOW + at, if at % 2 == 0 { 500 } else { 200 }, 1)).collect();
        let report = replay(rule, TimeAxis::Event, 0, NOW + 5_000, &[slice(NOW + 5_000, &requests)]);
        assert_eq!((report.firings.len(), report.more), (MAX_FIRINGS, 200));
        let mut backtest =
            Backtest::new(rules("signal = \"latency_p99\"\nabove = 9"), TimeAxis::Event, 0, u64::MAX);
        let much: Vec<_> = (0..300_000).map(|second| (second, 200, 1)).collect();
        assert_eq!(backtest.slice(&slice(NOW, &much)), Err(TooMuch(MAX_BYTES)));
    }
}
