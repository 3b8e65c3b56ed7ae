//! The fault points: moments between two durable steps, and the process that passes them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use keelson_tests::binary::repository;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::run::Rounds;

/// Which process passes a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passer {
    /// `keelson run metrics`.
    Metrics,
    /// `keelson run ingress`.
    Ingress,
    /// `keelson run steward`.
    Steward,
    /// `keelson run alerting`.
    Alerting,
    /// `keelson run cdn`.
    Cdn,
    /// `keelson run audit`.
    Audit,
    /// `keelson run services`.
    Services,
}

/// All of them. A point that is added to the sources has to be added here.
pub const ALL: &[(Passer, &str)] = &[
    (Passer::Alerting, "history.claimed"),
    (Passer::Alerting, "notify.dead-lettered"),
    (Passer::Alerting, "notify.delivered"),
    (Passer::Alerting, "notify.delivering"),
    (Passer::Alerting, "notify.fenced"),
    (Passer::Alerting, "notify.positioned"),
    (Passer::Alerting, "notify.queued"),
    (Passer::Alerting, "notify.recorded"),
    (Passer::Alerting, "transition.published"),
    (Passer::Alerting, "transition.publishing"),
    (Passer::Audit, "audit.sealed"),
    (Passer::Audit, "audit.sealing"),
    (Passer::Cdn, "cdn.buried"),
    (Passer::Cdn, "cdn.kept"),
    (Passer::Cdn, "cdn.recorded"),
    (Passer::Cdn, "cdn.sending"),
    (Passer::Cdn, "cdn.sent"),
    (Passer::Cdn, "cdn.telling"),
    (Passer::Cdn, "cdn.told"),
    (Passer::Ingress, "operation.published"),
    (Passer::Ingress, "operation.recorded"),
    (Passer::Ingress, "telemetry.stored"),
    (Passer::Metrics, "checkpoint.chunks"),
    (Passer::Metrics, "checkpoint.claim"),
    (Passer::Metrics, "checkpoint.claimed"),
    (Passer::Metrics, "checkpoint.head"),
    (Passer::Metrics, "checkpoint.removed"),
    (Passer::Metrics, "recover.claimed"),
    (Passer::Metrics, "slice.published"),
    (Passer::Metrics, "slice.publishing"),
    (Passer::Metrics, "telemetry.counting"),
    (Passer::Metrics, "telemetry.dead-lettered"),
    (Passer::Services, "breaker.forced"),
    (Passer::Services, "breaker.kept"),
    (Passer::Services, "services.deregistered"),
    (Passer::Services, "services.registered"),
    (Passer::Steward, "command.begun"),
    (Passer::Steward, "command.effected"),
    (Passer::Steward, "command.recorded"),
];

/// Which pass of a point a process is to die at: a random one of the first three, or the first where there is only one.
pub fn pass(point: &str, rng: &mut StdRng) -> u32 {
    if ["history.claimed", "notify.fenced"].contains(&point) { 1 } else { rng.random_range(1..4) }
}

/// Those that the flow of telemetry passes.
pub fn of_telemetry() -> impl Iterator<Item = (Passer, &'static str)> {
    of(|passer| matches!(passer, Passer::Metrics | Passer::Ingress | Passer::Steward))
}

/// Those of the alerting worker.
pub fn of_alerting() -> impl Iterator<Item = (Passer, &'static str)> {
    of(|passer| passer == Passer::Alerting)
}

/// Those of the CDN worker.
pub fn of_cdn() -> impl Iterator<Item = (Passer, &'static str)> {
    of(|passer| passer == Passer::Cdn)
}

/// Those of the audit worker.
pub fn of_audit() -> impl Iterator<Item = (Passer, &'static str)> {
    of(|passer| passer == Passer::Audit)
}

/// Those of the services worker.
pub fn of_services() -> impl Iterator<Item = (Passer, &'static str)> {
    of(|passer| passer == Passer::Services)
}

fn of(passers: fn(Passer) -> bool) -> impl Iterator<Item = (Passer, &'static str)> {
    ALL.iter().copied().filter(move |(passer, _)| passers(*passer))
}

/// Fails when one of these was hit less often than `times`.
pub fn assert_hit(points: impl Iterator<Item = (Passer, &'static str)>, rounds: &Rounds, times: usize) {
    for (_, point) in points {
        let hits = rounds.0.get(point).copied().unwrap_or(0);
        assert!(hits >= times, "{point} was hit {hits} times, not {times}");
    }
}

/// Fails when the sources have a point that is not in [`ALL`], or the other way about.
pub fn assert_complete() {
    let mut found = BTreeSet::new();
    collect(&repository().join("workers"), &mut found);
    let known: BTreeSet<String> = ALL.iter().map(|(_, name)| (*name).to_owned()).collect();
    assert_eq!(found, known, "the fault points of the sources, and those that the crash test knows");
}

fn collect(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("a source");
            let calls = source.split("fault::point(\"").skip(1);
            found.extend(calls.filter_map(|call| call.split_once('"')).map(|(name, _)| name.to_owned()));
        }
    }
}
