//! Evaluates rules over slices and readings. Pure: time is a parameter, and what is to change is said, not done.
//!
//! A rule is a `Watch`, which looks at one `Group` for every set of values of the labels in the rule's `by`. A slice touches the groups that it tells something
//! about, and adds to running sums; a window that moves on takes out of them what leaves it.

mod clock;
mod group;
mod lasts;
mod lifecycle;
mod pace;
mod series;
mod sums;
#[cfg(test)]
mod tests;
mod watch;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;

use keelson_schemas::alerting::{Alert, AlertState, Labels, Reading, Rule as RuleStatus};
use keelson_schemas::histogram::Histogram;
use keelson_schemas::limits::MAX_AHEAD_MS;
use keelson_schemas::slice::{Cell, ServiceSlice, Slice};
use keelson_schemas::telemetry::{DbSeries, HttpSeries};
use keelson_schemas::totals::InstanceReading;

use self::clock::Clocks;
use self::series::{Counted, Host, Numbers, Of};
use self::watch::{MAX_GROUPS, Watch};
use self::window::Window;
use crate::rules::{Rule, RuleSet};
use crate::signal::{Measure, Source};

/// How far ahead of the clock something may be and is kept, in seconds: as far as the ingress lets it be, and a little for the clocks.
const AHEAD_S: u64 = MAX_AHEAD_MS / 1000 + 120;

/// About how many bytes all windows with histograms may take.
const HISTOGRAM_BYTES: usize = 512 * 1024 * 1024;

/// An alert that is to change.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The alert as it is to be.
    pub alert: Alert,
    /// What it is.
    pub from: AlertState,
}

/// All rules, what they look at, and the alerts that they made.
#[derive(Debug)]
pub struct Evaluator {
    rules: Arc<RuleSet>,
    watches: Vec<Watch>,
    /// Alerts that no rule makes any more.
    orphans: Vec<Alert>,
    clocks: Clocks,
    http: Numbers<HttpSeries>,
    db: Numbers<DbSeries>,
}

impl Evaluator {
    /// An evaluator that knows the alerts that are pending or firing, and no data yet.
    #[must_use]
    pub fn new(rules: Arc<RuleSet>, alerts: Vec<Alert>) -> Self {
        let mut evaluator = Self {
            watches: watches(&rules),
            rules,
            orphans: Vec::new(),
            clocks: Clocks::default(),
            http: Numbers::default(),
            db: Numbers::default(),
        };
        alerts.iter().for_each(|alert| evaluator.apply(alert));
        evaluator
    }

    /// Whether it goes by rules that say the same.
    #[must_use]
    pub fn goes_by(&self, rules: &RuleSet) -> bool {
        *self.rules == *rules
    }

    /// Counts a slice, and decides nothing.
    pub fn observe(&mut self, slice: &Slice) {
        self.observe_until(slice, u64::MAX);
    }

    /// Counts what of a slice happened up to and with the second `end_s`.
    pub(crate) fn observe_until(&mut self, slice: &Slice, end_s: u64) {
        let end_s = end_s.min(slice.cut_at_ms / 1000 + AHEAD_S);
        for service in &slice.services {
            let number = self.clocks.number(&service.service);
            self.count_requests(number, service, end_s);
            self.count_calls(number, service, end_s);
            let hosts = service.hosts.iter().filter(|host| host.reading.ts / 1000 <= end_s);
            hosts.for_each(|host| self.read_host(number, &service.service, host));
        }
    }

    /// Notes a reading, and decides nothing. Its `ts` is set.
    pub fn read(&mut self, reading: &Reading) {
        let watches = self.watches.iter_mut().filter(|watch| {
            watch.rule.signal.source == Source::Reading && watch.rule.signal.name == reading.signal
        });
        for watch in watches {
            let told = (reading.ts / 1000, reading.value);
            watch.read(&reading.labels, &reading.labels, told, &mut self.clocks);
        }
    }

    /// Lets the windows move on to `now_ms`, and decides nothing: for slices from before the time as of which rules are to be evaluated first.
    pub fn advance(&mut self, now_ms: u64) {
        self.clocks.advance(now_ms);
        self.watches.iter_mut().for_each(|watch| watch.advance(&self.clocks));
    }

    /// Nobody listened from `from_ms` to `to_ms`: that something was not heard in between, or is not heard just behind, says nothing about it.
    pub fn resume(&mut self, from_ms: u64, to_ms: u64) {
        self.clocks.resume(from_ms / 1000, to_ms / 1000);
    }

    /// What is to change as of `now_ms` (Unix milliseconds). Says the same again until it is applied. Time does not go back.
    pub fn evaluate(&mut self, now_ms: u64) -> Vec<Change> {
        self.clocks.advance(now_ms);
        let ended = self.orphans.iter().map(|alert| ended(alert, self.clocks.now_ms()));
        let changes = self.watches.iter_mut().flat_map(|watch| watch.evaluate(&self.clocks));
        ended.chain(changes).collect()
    }

    /// Takes in a change that was made.
    pub fn apply(&mut self, alert: &Alert) {
        self.orphans.retain(|orphan| orphan.fingerprint != alert.fingerprint);
        let is_live = matches!(alert.state, AlertState::Pending | AlertState::Firing);
        let is_known = self.watches.iter_mut().any(|watch| watch.apply(alert, &mut self.clocks));
        if is_live && !is_known {
            self.orphans.push(alert.clone());
        }
    }

    /// An alert as it is to be when somebody takes it for over; none if it is neither pending nor fires.
    #[must_use]
    pub fn end(&self, fingerprint: &str, now_ms: u64) -> Option<Change> {
        self.alerts().find(|alert| alert.fingerprint == fingerprint).map(|alert| ended(alert, now_ms))
    }

    /// When something may change although nothing more is observed; none if it then stays as it is for ever. Always later than the last evaluation.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        let now_ms = self.clocks.now_ms();
        let watches = self.watches.iter().filter_map(|watch| watch.next_due(&self.clocks));
        let clocks = self.clocks.next_s().map(|second| second * 1000);
        let orphans = (!self.orphans.is_empty()).then_some(now_ms);
        watches.chain(clocks).chain(orphans).min().map(|due_ms| due_ms.max(now_ms + 1))
    }

    /// Lets time pass up to and with `at_ms`, evaluates then and whenever something may have changed before, and makes every change.
    pub(crate) fn play_until(&mut self, at_ms: u64, mut note: impl FnMut(Change)) {
        let due = |evaluator: &Self| evaluator.next_due().filter(|due_ms| *due_ms < at_ms);
        while let Some(now_ms) = due(self) {
            self.play(now_ms, &mut note);
        }
        self.play(at_ms, &mut note);
    }

    fn play(&mut self, now_ms: u64, note: &mut impl FnMut(Change)) {
        for change in self.evaluate(now_ms) {
            self.apply(&change.alert);
            note(change);
        }
    }

    /// The alerts that are pending or firing.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.watches.iter().flat_map(Watch::alerts).chain(&self.orphans)
    }

    /// Since when the conditions of alerts do not hold any more, though they fire (`keep_firing_for`): Unix milliseconds, by fingerprint.
    pub fn ceased(&self) -> impl Iterator<Item = (&String, u64)> {
        self.watches.iter().flat_map(Watch::ceased)
    }

    /// Takes over from another evaluator since when they have not held.
    pub fn cease(&mut self, ceased_at_ms: &BTreeMap<String, u64>) {
        self.watches.iter_mut().for_each(|watch| watch.cease(ceased_at_ms));
    }

    /// The rules and where they stand.
    #[must_use]
    pub fn status(&self) -> Vec<RuleStatus> {
        self.watches.iter().map(Watch::status).collect()
    }

    /// About how many bytes the windows take.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.watches.iter().map(Watch::bytes).sum()
    }

    fn count_requests(&mut self, service: usize, slice: &ServiceSlice, end_s: u64) {
        for delta in &slice.http {
            let series = Of { service: &slice.service, series: &delta.series };
            let number = self.http.of(service, &delta.series);
            self.count(Source::Http, service, (number, &series), &delta.cells, end_s);
        }
    }

    fn count_calls(&mut self, service: usize, slice: &ServiceSlice, end_s: u64) {
        for delta in &slice.db {
            let series = Of { service: &slice.service, series: &delta.series };
            let number = self.db.of(service, &delta.series);
            self.count(Source::Db, service, (number, &series), &delta.cells, end_s);
        }
    }

    fn count(
        &mut self,
        source: Source,
        service: usize,
        series: (usize, &dyn Counted),
        cells: &[Cell],
        end_s: u64,
    ) {
        let cells = cells.iter().filter(|cell| cell.second <= end_s);
        let clock = &mut self.clocks.of(service).traffic;
        cells.clone().for_each(|cell| clock.note(cell.second));
        for watch in self.watches.iter_mut().filter(|watch| watch.rule.signal.source == source) {
            watch.count(series, cells.clone(), &mut self.clocks);
        }
    }

    fn read_host(&mut self, number: usize, service: &str, host: &InstanceReading) {
        let second = host.reading.ts / 1000;
        self.clocks.of(number).hosts.note(second);
        for watch in &mut self.watches {
            for (mountpoint, value) in utilizations(watch.rule.signal.source, host) {
                let thing = Host { service, instance: &host.instance, mountpoint };
                let (told, nothing) = ((second, value), Labels::new());
                watch.read(&thing, &nothing, told, &mut self.clocks);
            }
        }
    }
}

/// What a reading says about a source, by mountpoint for filesystems.
fn utilizations(source: Source, host: &InstanceReading) -> Vec<(&str, f64)> {
    let share = |used: u64, total: u64| (total > 0).then(|| used as f64 / total as f64);
    let reading = &host.reading;
    let told: Vec<(&str, Option<f64>)> = match source {
        Source::Memory => {
            let memory = reading.memory_used_bytes.zip(reading.memory_total_bytes);
            vec![("", memory.and_then(|(used, total)| share(used, total)))]
        }
        Source::Cpu => vec![("", reading.cpu_utilization)],
        Source::Filesystem => {
            let disks = reading.filesystems.iter();
            disks.map(|disk| (disk.mountpoint.as_str(), share(disk.used_bytes, disk.total_bytes))).collect()
        }
        Source::Http | Source::Db | Source::Reading => Vec::new(),
    };
    told.into_iter().filter_map(|(mountpoint, value)| Some((mountpoint, value?))).collect()
}

/// What looks at the world for each rule. Histograms are large: the more rules keep them, and for the longer, the fewer groups of each are told apart.
fn watches(rules: &RuleSet) -> Vec<Watch> {
    let is_quantile = |rule: &Rule| matches!(rule.signal.measure, Measure::Quantile(_));
    let quantiles = rules.rules().iter().filter(|rule| is_quantile(rule));
    let bytes: usize = quantiles.map(|rule| Window::<Histogram>::most_bytes(rule.window_s)).sum();
    let of_quantiles = (HISTOGRAM_BYTES / bytes.max(1)).clamp(1, MAX_GROUPS);
    let most = |rule: &Rule| if is_quantile(rule) { of_quantiles } else { MAX_GROUPS };
    rules.rules().iter().map(|rule| Watch::new(Arc::clone(rule), most(rule))).collect()
}

/// An alert that is over whatever a rule may say.
fn ended(alert: &Alert, now_ms: u64) -> Change {
    let has_fired = alert.state == AlertState::Firing;
    let state = if has_fired { AlertState::Resolved } else { AlertState::Inactive };
    let ends_at_ms = has_fired.then_some(now_ms);
    Change { alert: Alert { state, value: None, ends_at_ms, ..alert.clone() }, from: alert.state }
}
