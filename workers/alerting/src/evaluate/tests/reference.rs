//! The evaluator against one that keeps every sample and works everything out anew each time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keelson_schemas::alerting::{Alert, AlertState, Labels, Reading};
use keelson_schemas::slice::{Cell, DbDelta, HttpDelta, ServiceSlice, Slice};
use keelson_schemas::telemetry::{DbSeries, HostReading, HttpSeries};
use keelson_schemas::totals::InstanceReading;
use proptest::prelude::*;

use super::super::clock::{MAX_LAG_S, PATIENCE_S};
use super::super::{Change, Evaluator};
use super::scene::NOW;
use crate::rules::{NoData, Rule, RuleSet, Source as File};
use crate::signal::{Measure, Source};

/// No threshold is at a value that can occur, but for counts and ratios, which are exact here and there.
const RULES: &[&str] = &[
    "signal = \"error_ratio\"\nabove = 0.5",
    "signal = \"error_ratio\"\nabove = 0.5\nclear = 0.25\nwindow = \"10s\"\nno_data = \"resolve\"",
    "signal = \"error_ratio\"\nabove = 0.3\nby = [\"service_name\", \"http_route\"]\nfor = \"7s\"\nmin_samples = 3",
    "signal = \"errors\"\nabove = 4\nby = []\nwindow = \"20s\"\nkeep_firing_for = \"5s\"",
    "signal = \"errors\"\nabove = 2\nby = [\"http_route\"]\nwhere = ['service_name=\"a\"']\nwindow = \"5s\"",
    "signal = \"request_rate\"\nbelow = 0.21\nwindow = \"10s\"\nno_data = \"alert\"\nfor = \"3s\"",
    "signal = \"requests\"\nbelow = 2\nclear = 4\nwindow = \"10s\"\nkeep_firing_for = \"2s\"",
    "signal = \"latency_avg\"\nabove = 0.3301\nclear = 0.2001\nwindow = \"15s\"\nmin_samples = 2",
    "signal = \"latency_p90\"\nabove = 0.5\nwindow = \"10s\"\nwhere = ['http_response_status_code!~\"5..\"']",
    "signal = \"latency_p50\"\nabove = 0.05\nwindow = \"30s\"\nno_data = \"resolve\"",
    "signal = \"slow_queries\"\nabove = 2\nwindow = \"10s\"\nby = [\"service_name\", \"db_namespace\"]",
    "signal = \"query_rate\"\nabove = 0.31\nwindow = \"10s\"\nno_data = \"resolve\"\nkeep_firing_for = \"4s\"",
    "signal = \"cpu_utilization\"\nabove = 0.5501\nwindow = \"20s\"\nby = [\"instance\"]",
    "signal = \"cpu_utilization\"\nbelow = 0.4501\nwindow = \"20s\"\nby = [\"service_name\"]\nno_data = \"alert\"",
    "signal = \"dead_letters\"\nabove = 2\nwindow = \"20s\"",
    "signal = \"consumer_lag\"\nabove = 3.5\nwindow = \"20s\"\nby = [\"stream\"]\nno_data = \"resolve\"",
    "signal = \"consumer_lag\"\nbelow = 1.5\nwindow = \"20s\"\nby = []\nfor = \"3s\"",
];

/// One thing that is told, `ago` seconds after it happened; ahead of the clock if that is negative.
#[derive(Clone, Debug)]
struct Told {
    source: Source,
    /// Of two services, routes, namespaces, machines, streams, consumers.
    about: [bool; 2],
    ago: i64,
    /// What is told: a status, a duration, a value.
    what: u8,
}

#[derive(Clone, Debug)]
struct Step {
    after_s: u64,
    told: Vec<Told>,
}

fn told() -> impl Strategy<Value = Told> {
    let source = prop_oneof![
        4 => Just(Source::Http),
        2 => Just(Source::Db),
        1 => Just(Source::Cpu),
        1 => Just(Source::Reading)
    ];
    let ago = prop_oneof![6 => 0..6_i64, 2 => 6..100_i64, 1 => 100..500_i64, 1 => -40..0_i64];
    (source, any::<[bool; 2]>(), ago, 0..8_u8).prop_map(|(source, about, ago, what)| Told {
        source,
        about,
        ago,
        what,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let after_s = prop_oneof![6 => 0..4_u64, 2 => 4..12_u64, 1 => 12..100_u64];
    let step = (after_s, proptest::collection::vec(told(), 0..6));
    proptest::collection::vec(step.prop_map(|(after_s, told)| Step { after_s, told }), 1..40)
}

fn rules() -> Arc<RuleSet> {
    let rules = RULES.iter().enumerate().map(|(n, rule)| format!("[[rules]]\nname = \"R{n}\"\n{rule}\n"));
    let file = File { name: "test".into(), text: rules.collect() };
    Arc::new(RuleSet::parse(&[file], &[], false).unwrap())
}

impl Told {
    fn second(&self, now_s: u64) -> u64 {
        now_s.saturating_add_signed(-self.ago)
    }

    fn service(&self) -> &'static str {
        if self.about[0] { "a" } else { "b" }
    }

    fn route(&self) -> &'static str {
        if self.about[1] { "/x" } else { "/y" }
    }

    fn status(&self) -> u16 {
        if self.what.is_multiple_of(2) { 200 } else { 500 }
    }

    fn count(&self) -> u64 {
        1 + u64::from(self.what / 4)
    }

    fn slow(&self) -> u64 {
        u64::from(self.what % 3).min(self.count())
    }

    /// None for some.
    fn duration_us(&self) -> Option<u64> {
        [Some(10_000), Some(100_000), Some(1_000_000), None][usize::from(self.what % 4)]
    }

    fn value(&self) -> f64 {
        f64::from(self.what)
    }

    fn labels(&self) -> Labels {
        let labels: &[(&str, &str)] = match self.source {
            Source::Http => &[("service_name", self.service()), ("http_route", self.route())],
            Source::Db => &[("service_name", self.service()), ("db_namespace", self.route())],
            Source::Reading => &[("stream", self.service()), ("consumer", self.route())],
            _ => &[("service_name", self.service()), ("instance", self.route())],
        };
        labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn signal(&self) -> &'static str {
        if self.what >= 4 { "dead_letters" } else { "consumer_lag" }
    }

    fn tell(&self, evaluator: &mut Evaluator, now_s: u64) {
        let second = self.second(now_s);
        let mut cell = Cell { second, count: self.count(), slow: self.slow(), ..Cell::default() };
        if let Some(us) = self.duration_us() {
            (0..self.count()).for_each(|_| cell.latency.record(us));
        }
        let mut service = ServiceSlice { service: self.service().into(), ..ServiceSlice::default() };
        match self.source {
            Source::Http => {
                let series =
                    HttpSeries { method: "GET".into(), route: self.route().into(), status: self.status() };
                service.http.push(HttpDelta { series, cells: vec![cell] });
            }
            Source::Db => {
                let series = DbSeries { namespace: self.route().into(), ..DbSeries::default() };
                service.db.push(DbDelta { series, cells: vec![cell] });
            }
            Source::Reading => {
                let (signal, labels) = (self.signal().to_owned(), self.labels());
                evaluator.read(&Reading { signal, labels, value: self.value(), ts: second * 1000 });
            }
            _ => {
                let cpu_utilization = Some(self.value() / 10.0);
                let reading = HostReading { ts: second * 1000, cpu_utilization, ..HostReading::default() };
                service.hosts.push(InstanceReading { instance: self.route().into(), reading });
            }
        }
        evaluator.observe(&Slice { cut_at_ms: now_s * 1000, services: vec![service], ..Slice::default() });
    }
}

/// Keeps everything.
struct Reference {
    rules: Arc<RuleSet>,
    /// With the second at which it happened, and the one as of which rules were evaluated before it was told.
    told: Vec<(Told, u64, u64)>,
    alerts: BTreeMap<(usize, Vec<String>), Live>,
    /// By service and whether it is that of its machines.
    clocks: BTreeMap<(&'static str, bool), Clock>,
    now_s: u64,
}

#[derive(Default)]
struct Clock {
    newest_s: u64,
    moved_s: u64,
    end_s: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Live {
    is_firing: bool,
    active_at_s: u64,
    starts_at_s: Option<u64>,
    ceased_at_s: Option<u64>,
}

impl Reference {
    fn evaluate(&mut self, now_s: u64) {
        self.now_s = now_s;
        self.tick();
        for (n, rule) in Arc::clone(&self.rules).rules().iter().enumerate() {
            let keys: BTreeSet<_> = self.of(rule).map(|(told, _)| key(rule, told)).collect();
            for key in keys {
                self.judge((n, key), rule);
            }
        }
    }

    /// What a rule can look at, now or later.
    fn of<'a>(&'a self, rule: &'a Rule) -> impl Iterator<Item = (&'a Told, u64)> {
        let is_of = |told: &Told| told.source == rule.signal.source;
        let named = |told: &Told| told.source != Source::Reading || told.signal() == rule.signal.name;
        let is_in_time = |second: u64, known_s: u64| second + rule.window_s + MAX_LAG_S > known_s;
        self.told.iter().filter_map(move |(told, second, known_s)| {
            let mut labels = told.labels();
            labels.insert("http_response_status_code".into(), told.status().to_string());
            let counts = is_of(told) && named(told) && is_in_time(*second, *known_s);
            (counts && rule.filters.matches(&labels)).then_some((told, *second))
        })
    }

    /// With which second the windows of a key end, and whether its telemetry comes in.
    fn moment(&self, rule: &Rule, key: &[String]) -> (u64, bool) {
        if rule.signal.source == Source::Reading {
            return (self.now_s, true);
        }
        let own = rule.by.iter().position(|label| *label == "service_name").map(|at| key[at].as_str());
        let is_about =
            |service: &str| own.map_or(rule.filters.allow("service_name", service), |own| own == service);
        let is_host = rule.signal.source == Source::Cpu;
        let clocks = self.clocks.iter().filter(|((service, host), _)| *host == is_host && is_about(service));
        let told = clocks.map(|(_, clock)| {
            let waited_s = self.now_s - clock.moved_s;
            (clock.end_s, waited_s <= PATIENCE_S && clock.newest_s + MAX_LAG_S >= self.now_s)
        });
        told.reduce(|one, other| (one.0.max(other.0), one.1 || other.1)).unwrap_or_default()
    }

    fn tick(&mut self) {
        let now_s = self.now_s;
        for (told, second, _) in self.told.iter().filter(|(_, second, _)| *second <= now_s) {
            let clock = self.clocks.entry((told.service(), told.source == Source::Cpu)).or_default();
            if told.source != Source::Reading && *second > clock.newest_s {
                (clock.newest_s, clock.moved_s) = (*second, now_s);
            }
        }
        for clock in self.clocks.values_mut().filter(|clock| clock.newest_s > 0) {
            let overdue_s = (now_s - clock.moved_s).saturating_sub(PATIENCE_S);
            let end_s = (clock.newest_s + overdue_s).max(now_s - MAX_LAG_S);
            clock.end_s = clock.end_s.max(end_s);
        }
    }

    fn judge(&mut self, key: (usize, Vec<String>), rule: &Rule) {
        let (end_s, is_fresh) = self.moment(rule, &key.1);
        let within: Vec<(&Told, u64)> = self
            .of(rule)
            .filter(|(told, second)| {
                self::key(rule, told) == key.1 && *second <= end_s && *second + rule.window_s > end_s
            })
            .collect();
        let (value, samples) = value(rule, &within, is_fresh);
        let before = self.alerts.get(&key).cloned();
        let is_firing = before.as_ref().is_some_and(|live| live.is_firing);
        let bound = if is_firing { rule.threshold.clear } else { rule.threshold.at };
        let is_past = |value: f64| match rule.threshold.side {
            crate::rules::Side::Above => value > bound,
            crate::rules::Side::Below => value < bound,
        };
        let holds = match value {
            Some(value) if is_past(value) => before.is_some() || samples >= rule.min_samples,
            Some(_) => is_firing && !is_fresh && rule.no_data != NoData::Resolve,
            None => rule.no_data == NoData::Alert || (is_firing && rule.no_data == NoData::Keep),
        };
        match self.after(before, holds, rule) {
            Some(live) => _ = self.alerts.insert(key, live),
            None => _ = self.alerts.remove(&key),
        }
    }

    fn after(&self, before: Option<Live>, holds: bool, rule: &Rule) -> Option<Live> {
        let now_s = self.now_s;
        let Some(mut live) = before else {
            let is_firing = rule.hold_ms == 0;
            let starts_at_s = is_firing.then_some(now_s);
            return holds.then_some(Live { is_firing, active_at_s: now_s, starts_at_s, ceased_at_s: None });
        };
        if !live.is_firing {
            if holds && now_s >= live.active_at_s + rule.hold_ms / 1000 {
                live.is_firing = true;
                live.starts_at_s = Some(now_s);
            }
            return holds.then_some(live);
        }
        live.ceased_at_s = (!holds).then(|| live.ceased_at_s.unwrap_or(now_s));
        let goes_on = live.ceased_at_s.is_none_or(|ceased_s| now_s < ceased_s + rule.keep_firing_ms / 1000);
        goes_on.then_some(live)
    }

    /// As the evaluator's alerts are told by [`told_by`].
    fn told(&self) -> BTreeSet<(String, bool, u64, Option<u64>)> {
        let told = |((n, key), live): (&(usize, Vec<String>), &Live)| {
            let by = self.rules.rules()[*n].by.iter().zip(key);
            let labels: Vec<_> = by.map(|(name, value)| format!("{name}={value}")).collect();
            (format!("R{n} {labels:?}"), live.is_firing, live.active_at_s, live.starts_at_s)
        };
        self.alerts.iter().map(told).collect()
    }
}

fn key(rule: &Rule, told: &Told) -> Vec<String> {
    let labels = told.labels();
    rule.by.iter().map(|name| labels.get(*name).cloned().unwrap_or_default()).collect()
}

/// The value of what is within a window, and the samples that it rests on.
fn value(rule: &Rule, within: &[(&Told, u64)], is_fresh: bool) -> (Option<f64>, u64) {
    let is_call = rule.signal.source == Source::Db;
    let marked = |told: &Told| match (is_call, told.status()) {
        (true, _) => told.slow(),
        (false, 500) => told.count(),
        _ => 0,
    };
    let is_traffic = is_call || rule.signal.source == Source::Http;
    let count: u64 = within.iter().map(|(told, _)| if is_traffic { told.count() } else { 1 }).sum();
    let bad: u64 = within.iter().map(|(told, _)| marked(told)).sum();
    let mut durations: Vec<u64> = within
        .iter()
        .flat_map(|(told, _)| std::iter::repeat_n(told.duration_us(), told.count() as usize).flatten())
        .collect();
    durations.sort_unstable();
    let values = || within.iter().map(|(told, _)| told.value());
    let counted = |value: f64| (is_fresh || count > 0).then_some(value);
    match rule.signal.measure {
        Measure::Count => (counted(count as f64), count),
        Measure::Marked => (counted(bad as f64), count),
        Measure::Rate => (counted(count as f64 / rule.window_s as f64), count),
        Measure::Ratio => ((count > 0).then(|| bad as f64 / count as f64), count),
        Measure::Mean if is_traffic => {
            let sum: u64 = durations.iter().sum();
            let mean = sum as f64 / 1e6 / durations.len() as f64;
            ((!durations.is_empty()).then_some(mean), durations.len() as u64)
        }
        Measure::Mean => ((count > 0).then(|| values().sum::<f64>() / 10.0 / count as f64), count),
        Measure::Quantile(share) => {
            let rank = (share * durations.len() as f64).ceil().max(1.0) as usize;
            (durations.get(rank - 1).map(|us| *us as f64 / 1e6), durations.len() as u64)
        }
        Measure::Sum => (Some(values().sum()), count),
        Measure::Last => {
            let mut newest: BTreeMap<Labels, (u64, f64)> = BTreeMap::new();
            for (told, second) in within {
                let last = newest.entry(told.labels()).or_insert((*second, told.value()));
                if *second >= last.0 {
                    *last = (*second, told.value());
                }
            }
            let side = rule.threshold.side;
            let worst = newest.values().map(|(_, value)| *value).reduce(|one, other| side.worse(one, other));
            (worst, newest.len() as u64)
        }
    }
}

/// What is pending or fires: rule and labels, whether it fires, since when it is active, since when it fires.
fn told_by(evaluator: &Evaluator, rules: &RuleSet) -> BTreeSet<(String, bool, u64, Option<u64>)> {
    let told = |alert: &Alert| {
        let name = &alert.labels["alertname"];
        let rule = rules.rules().iter().find(|rule| rule.name == *name).unwrap();
        let labels: Vec<_> = rule.by.iter().map(|name| format!("{name}={}", alert.labels[*name])).collect();
        let is_firing = alert.state == AlertState::Firing;
        let starts_at_s = alert.starts_at_ms.map(|ms| ms / 1000);
        (format!("{name} {labels:?}"), is_firing, alert.active_at_ms / 1000, starts_at_s)
    };
    evaluator.alerts().map(told).collect()
}

/// Evaluates and makes the changes.
fn make(evaluator: &mut Evaluator, now_s: u64) -> Vec<Change> {
    let changes = evaluator.evaluate(now_s * 1000);
    changes.iter().for_each(|change| evaluator.apply(&change.alert));
    changes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn running_sums_come_to_what_all_samples_come_to(steps in steps()) {
        let rules = rules();
        let mut evaluator = Evaluator::new(Arc::clone(&rules), Vec::new());
        let mut reference = Reference { rules: Arc::clone(&rules), told: Vec::new(), alerts: BTreeMap::new(),
            clocks: BTreeMap::new(), now_s: 0 };
        let mut now_s = NOW;
        for step in steps {
            let known_s = reference.now_s;
            now_s += step.after_s;
            for told in step.told {
                told.tell(&mut evaluator, now_s);
                let second = told.second(now_s);
                reference.told.push((told, second, known_s));
            }
            reference.evaluate(now_s);
            make(&mut evaluator, now_s);
            prop_assert_eq!(told_by(&evaluator, &rules), reference.told(), "at {}", now_s - NOW);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nothing_changes_between_the_times_at_which_something_is_due(steps in steps()) {
        let rules = rules();
        let mut by_due = Evaluator::new(Arc::clone(&rules), Vec::new());
        let mut each_second = Evaluator::new(Arc::clone(&rules), Vec::new());
        let (mut due_facts, mut facts) = (Vec::new(), Vec::new());
        // What is too old is passed over as of the time, which has to be known to both.
        each_second.advance(NOW * 1000 - 1);
        let mut now_s = NOW;
        for step in steps {
            let before_s = now_s;
            now_s += step.after_s;
            by_due.play_until(now_s * 1000 - 1, |change| due_facts.push(change));
            for told in &step.told {
                told.tell(&mut by_due, now_s);
            }
            by_due.play_until(now_s * 1000, |change| due_facts.push(change));
            for at_s in before_s + 1..now_s {
                facts.extend(make(&mut each_second, at_s));
            }
            for told in &step.told {
                told.tell(&mut each_second, now_s);
            }
            facts.extend(make(&mut each_second, now_s));
        }
        prop_assert_eq!(due_facts, facts);
    }
}
