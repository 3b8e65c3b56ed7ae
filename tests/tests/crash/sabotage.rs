//! A check of the check: with a safeguard switched off, the same run has to find something wrong.

use std::time::Duration;

use keelson_tests::seed;

use crate::alerting;
use crate::blows::Blow;
use crate::cdn;
use crate::deployment::{start, strike};
use crate::report::Report;
use crate::run::{Flow, Rounds};

/// Counts that are lost never come, so they are not waited for long.
const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_deduplication_something_is_found() {
    let report = sabotaged("dedup", &[Blow::CrashIngress]).await;
    assert_found("dedup", &report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_fencing_something_is_found() {
    let report = sabotaged("fencing", &[Blow::StopMetrics(0), Blow::StopMetrics(1)]).await;
    assert_found("fencing", &report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_replay_something_is_found() {
    let kills = [0, 1, 0, 1].map(Blow::KillMetrics);
    let report = sabotaged("replay", &kills).await;
    assert_found("replay", &report);
}

/// The same blows find nothing when nothing is switched off: what is found above is due to the sabotage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sabotage_nothing_is_found() {
    let blows = [Blow::CrashIngress, Blow::StopMetrics(0), Blow::KillMetrics(1)];
    sabotaged("", &blows).await.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_deduplication_somebody_is_told_twice() {
    let verdict = alerting::sabotaged("dedup").await;
    let told_twice = verdict.findings.iter().any(|finding| finding.contains("told"));
    assert!(
        told_twice,
        "without dedup nobody was told twice: the check does not see it: {:#?}",
        verdict.findings
    );
    println!("without dedup: {} findings, the first: {}", verdict.findings.len(), verdict.findings[0]);
}

/// Replicas that never hear that they were replaced: fencing alone keeps them from doing harm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_leases_that_end_everybody_is_told_once() {
    alerting::sabotaged("lease").await.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_fencing_as_well_somebody_is_told_twice() {
    let verdict = alerting::sabotaged("lease,fencing").await;
    assert!(!verdict.findings.is_empty(), "without fencing nothing was found: the check does not see it");
    println!("without fencing: {} findings, the first: {}", verdict.findings.len(), verdict.findings[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sabotage_everybody_is_told_once() {
    alerting::sabotaged("").await.assert_sound();
}

/// A position that counts as done what is only read: kept too early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_keeping_what_is_open_purges_are_lost() {
    let verdict = cdn::sabotaged("open").await;
    let lost: Vec<&String> =
        verdict.findings.iter().filter(|finding| finding.ends_with("was not purged")).collect();
    assert!(!lost.is_empty(), "without what is open no purge was lost: the check does not see it");
    println!("without what is open: {} never came, the first: {}", lost.len(), lost[0]);
}

/// Calls that are paid for, and that nobody remembers to have made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_records_of_calls_they_are_made_twice() {
    let verdict = cdn::forgetful().await;
    let twice: Vec<&String> = verdict.findings.iter().filter(|finding| finding.ends_with("times")).collect();
    assert!(!twice.is_empty(), "without records no call was made twice: the check does not see it");
    println!("without records of calls: {} findings, the first: {}", twice.len(), twice[0]);
}

/// Calls as often, and as many at once, as there is something to send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_limits_providers_are_asked_for_too_much() {
    let wrong = cdn::flooded("limits").await;
    for provider in cdn::METERED {
        let first = wrong.iter().find(|wrong| wrong.starts_with(provider));
        println!("without limits: {}", first.expect("nothing was over a limit: the check does not see it"));
    }
    assert_eq!(cdn::flooded("").await, [""; 0], "with limits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sabotage_no_purge_is_lost() {
    cdn::sabotaged("").await.assert_sound();
}

async fn sabotaged(safeguard: &str, blows: &[Blow]) -> Report {
    let seed = seed::seed();
    let mut rng = seed::rng(seed, 3_000);
    let mut all = start(safeguard).await;
    let flow = Flow::start(&all.client(), seed);
    let mut rounds = Rounds::default();
    for blow in blows {
        tokio::time::sleep(Duration::from_secs(1)).await;
        strike(&mut all, *blow, &mut rng).await;
        rounds.count(blow.name());
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    flow.finish(&all.client(), &all.nats.url(), rounds, PATIENCE).await
}

fn assert_found(safeguard: &str, report: &Report) {
    assert!(!report.findings.is_empty(), "without {safeguard} nothing was found: the check does not see it");
    println!("without {safeguard}: {} findings, the first: {}", report.findings.len(), report.findings[0]);
}
