//! An evaluator, and short ways to feed it and to say what it says.

use std::collections::BTreeMap;
use std::sync::Arc;

use keelson_schemas::alerting::{Alert, AlertState, Labels, Reading, Rule, Transition};
use keelson_schemas::slice::{Cell, DbDelta, HttpDelta, ServiceSlice, Slice};
use keelson_schemas::telemetry::{DbSeries, HostReading, HttpSeries};
use keelson_schemas::totals::InstanceReading;

use super::super::{Change, Evaluator};
use crate::rules::{RuleSet, Source};

/// A Unix second at which a step of long windows ends.
pub const NOW: u64 = 1_763_999_999;

pub struct Scene {
    evaluator: Evaluator,
}

impl Scene {
    pub fn with_defaults() -> Self {
        Self::new(RuleSet::parse(&[], &[], true).unwrap(), Vec::new())
    }

    /// With one rule, called `Rule`.
    pub fn of(rule: &str) -> Self {
        Self::of_with(rule, Vec::new())
    }

    pub fn of_with(rule: &str, alerts: Vec<Alert>) -> Self {
        let text = format!("[[rules]]\nname = \"Rule\"\n{rule}\n");
        let rules = RuleSet::parse(&[Source { name: "test".into(), text }], &[], false);
        Self::new(rules.unwrap_or_else(|errors| panic!("{errors:?}")), alerts)
    }

    pub fn new(rules: RuleSet, alerts: Vec<Alert>) -> Self {
        Self { evaluator: Evaluator::new(Arc::new(rules), alerts) }
    }

    /// Feeds a service's share of a slice, all of whose samples happened at this second.
    pub fn add(&mut self, second: u64, service: impl FnOnce(u64) -> ServiceSlice) {
        // Cut at a time as of which nothing here is ahead too far, except in one test.
        let cut_at_ms = NOW * 1000;
        self.evaluator.observe(&Slice { cut_at_ms, services: vec![service(second)], ..Slice::default() });
    }

    pub fn read(&mut self, signal: &str, labels: &[(&str, &str)], second: u64, value: f64) {
        let labels: Labels =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.evaluator.read(&Reading { signal: signal.into(), labels, value, ts: second * 1000 });
    }

    /// Nobody listened between these seconds.
    pub fn resume(&mut self, from: u64, to: u64) {
        self.evaluator.resume(from * 1000, to * 1000);
    }

    pub fn ceased(&self) -> BTreeMap<String, u64> {
        self.evaluator.ceased().map(|(fingerprint, at_ms)| (fingerprint.clone(), at_ms)).collect()
    }

    pub fn cease(&mut self, ceased: &BTreeMap<String, u64>) {
        self.evaluator.cease(ceased);
    }

    pub fn evaluate(&mut self, second: u64) -> Vec<Change> {
        self.evaluator.evaluate(second * 1000)
    }

    pub fn apply(&mut self, changes: &[Change]) {
        changes.iter().for_each(|change| self.evaluator.apply(&change.alert));
    }

    /// Evaluates and makes the changes.
    pub fn at(&mut self, second: u64) {
        self.facts_at(second);
    }

    /// Evaluates, makes the changes, and says them.
    pub fn facts_at(&mut self, second: u64) -> Vec<String> {
        self.facts_at_ms(second * 1000)
    }

    pub fn facts_at_ms(&mut self, now_ms: u64) -> Vec<String> {
        let changes = self.evaluator.evaluate(now_ms);
        self.apply(&changes);
        changes.into_iter().map(fact).collect()
    }

    pub fn due_ms(&self) -> Option<u64> {
        self.evaluator.next_due()
    }

    pub fn alerts(&self) -> Vec<Alert> {
        self.evaluator.alerts().cloned().collect()
    }

    pub fn status(&self) -> Rule {
        self.evaluator.status().remove(0)
    }

    /// What fires: the rule's name, and the labels but for the name and the severity.
    pub fn firing(&self) -> Vec<String> {
        let firing = self.evaluator.alerts().filter(|alert| alert.state == AlertState::Firing);
        let mut names: Vec<String> = firing.map(name).collect();
        names.sort();
        names
    }
}

fn fact(change: Change) -> String {
    let Change { alert, from } = change;
    Transition { alert, from, at_ms: 0, epoch: 0, slices_through: 0 }.fact().to_owned()
}

fn name(alert: &Alert) -> String {
    let mut labels: BTreeMap<_, _> = alert.labels.clone();
    labels.remove("severity");
    let name = labels.remove("alertname").unwrap_or_default();
    let labels: Vec<String> = labels.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{name}{{{}}}", labels.join(","))
}

fn cell(second: u64, count: u64, slow: u64, ms: u64) -> Cell {
    let mut cell = Cell { second, count, slow, ..Cell::default() };
    (0..count).for_each(|_| cell.latency.record(ms * 1000));
    cell
}

/// Requests, each of which took `ms`.
pub fn http(
    service: &str,
    route: &str,
    status: u16,
    count: u64,
    ms: u64,
) -> impl Fn(u64) -> ServiceSlice + use<> {
    let service = service.to_owned();
    let series = HttpSeries { method: "GET".into(), route: route.into(), status };
    move |second| ServiceSlice {
        service: service.clone(),
        http: vec![HttpDelta { series: series.clone(), cells: vec![cell(second, count, 0, ms)] }],
        ..ServiceSlice::default()
    }
}

/// Database calls of 50 ms each.
pub fn db(service: &str, namespace: &str, count: u64, slow: u64) -> impl Fn(u64) -> ServiceSlice + use<> {
    let service = service.to_owned();
    let series = DbSeries { system: "mongodb".into(), namespace: namespace.into(), operation: "find".into() };
    move |second| ServiceSlice {
        service: service.clone(),
        db: vec![DbDelta { series: series.clone(), cells: vec![cell(second, count, slow, 50)] }],
        ..ServiceSlice::default()
    }
}

/// A machine with half of its CPUs and a quarter of its disk in use.
pub fn host(service: &str, instance: &str, used: u64, total: u64) -> impl Fn(u64) -> ServiceSlice + use<> {
    let (service, instance) = (service.to_owned(), instance.to_owned());
    move |second| {
        let disk =
            keelson_schemas::telemetry::Filesystem { mountpoint: "/".into(), used_bytes: 1, total_bytes: 4 };
        let reading = HostReading {
            ts: second * 1000 + 999,
            cpu_utilization: Some(0.5),
            memory_used_bytes: Some(used),
            memory_total_bytes: Some(total),
            filesystems: vec![disk],
        };
        ServiceSlice {
            service: service.clone(),
            hosts: vec![InstanceReading { instance: instance.clone(), reading }],
            ..ServiceSlice::default()
        }
    }
}
