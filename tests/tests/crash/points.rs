//! The fault points: moments between two durable steps, and the process that passes them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use keelson_tests::binary::repository;

/// Which process passes a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passer {
    /// `keelson run metrics`.
    Metrics,
    /// `keelson run ingress`.
    Ingress,
    /// `keelson run steward`.
    Steward,
}

/// All of them. A point that is added to the sources has to be added here.
pub const ALL: &[(Passer, &str)] = &[
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
    (Passer::Steward, "command.begun"),
    (Passer::Steward, "command.effected"),
    (Passer::Steward, "command.recorded"),
];

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
