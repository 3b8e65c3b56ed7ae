//! Crashes: processes are killed and stopped at random and at named moments. While telemetry flows in through HTTP, every count is exact afterwards; while
//! services go bad and well again, somebody was told of each time exactly once; while content changes, every cache is purged of it; whatever happens, it is sealed; what is registered stays, and breakers are what they were.
//!
//! `cargo test --test crash` runs a short version; `make crash` the long one. KEELSON_SEED repeats a run, KEELSON_ROUNDS sets its length.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]

mod alerting;
mod audit;
mod blows;
mod cdn;
mod deployment;
mod points;
mod report;
mod run;
mod sabotage;
mod services;

use keelson_tests::seed;

use crate::run::Plan;

/// Rounds of the short version, for either deployment; each of them is one to three seconds.
const SHORT: usize = 12;
/// Rounds of the long version.
const LONG: usize = 220;
/// How often each fault point is hit in the long version.
const HITS: usize = 5;
/// Rounds of the short and of the long version against alerting.
const SHORT_ALERTING: usize = 8;
/// See [`SHORT_ALERTING`].
const LONG_ALERTING: usize = 200;
/// Rounds of the short and of the long version against the CDN worker.
const SHORT_CDN: usize = 6;
/// See [`SHORT_CDN`].
const LONG_CDN: usize = 300;
/// Rounds of the short and of the long version against the audit worker.
const SHORT_AUDIT: usize = 5;
/// See [`SHORT_AUDIT`].
const LONG_AUDIT: usize = 100;
/// Rounds of the short and of the long version against the services worker.
const SHORT_SERVICES: usize = 6;
/// See [`SHORT_SERVICES`].
const LONG_SERVICES: usize = 150;
/// Samples that the long version has to have sent.
const SAMPLES: u64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_exact_after_crashes() {
    let seed = seed::seed();
    run::separate(Plan { seed, rounds: rounds(SHORT), ..Plan::default() }).await.assert_sound();
    run::whole(Plan { seed, rounds: rounds(SHORT) / 3, ..Plan::default() }).await.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_exact_after_a_crash_at_every_fault_point() {
    let report = run::at_points(Plan { seed: seed::seed(), rounds: 1, ..Plan::default() }).await;
    report.assert_every_point_was_hit(1);
    report.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_transition_is_told_once_after_crashes() {
    let seed = seed::seed();
    alerting::separate(Plan { seed, rounds: rounds(SHORT_ALERTING), ..Plan::default() }).await.assert_sound();
    alerting::whole(Plan { seed, rounds: rounds(SHORT_ALERTING) / 3, ..Plan::default() })
        .await
        .assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_transition_is_told_once_after_a_crash_at_every_fault_point() {
    let verdict = alerting::at_points(Plan { seed: seed::seed(), rounds: 1, ..Plan::default() }).await;
    verdict.assert_sound();
    verdict.assert_every_point_was_hit(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a quarter of an hour: make crash"]
async fn each_transition_is_told_once_after_hundreds_of_crashes() {
    let seed = seed::seed();
    let rounds = rounds(LONG_ALERTING);
    alerting::separate(Plan { seed, rounds, ..Plan::default() }).await.assert_sound();
    alerting::whole(Plan { seed, rounds: rounds / 5, ..Plan::default() }).await.assert_sound();
    let points = alerting::at_points(Plan { seed, rounds: HITS, ..Plan::default() }).await;
    points.assert_sound();
    points.assert_every_point_was_hit(HITS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_purge_is_lost_by_crashes() {
    cdn::struck(Plan { seed: seed::seed(), rounds: rounds(SHORT_CDN), ..Plan::default() })
        .await
        .assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_purge_is_lost_by_a_crash_at_any_fault_point() {
    let verdict = cdn::at_points(Plan { seed: seed::seed(), rounds: 1, ..Plan::default() }).await;
    verdict.assert_sound();
    verdict.assert_every_point_was_hit(1);
}

/// What was sent already counts for whoever sends next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_from_one_sender_to_the_next() {
    assert_eq!(cdn::handed_over().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a quarter of an hour: make crash"]
async fn no_purge_is_lost_by_hundreds_of_crashes() {
    let seed = seed::seed();
    cdn::struck(Plan { seed, rounds: rounds(LONG_CDN), ..Plan::default() }).await.assert_sound();
    let points = cdn::at_points(Plan { seed, rounds: HITS, ..Plan::default() }).await;
    points.assert_sound();
    points.assert_every_point_was_hit(HITS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_sealed_once_after_crashes_and_at_every_fault_point() {
    audit::run(Plan { seed: seed::seed(), rounds: rounds(SHORT_AUDIT), ..Plan::default() }, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make crash"]
async fn every_event_is_sealed_once_after_hundreds_of_crashes() {
    audit::run(Plan { seed: seed::seed(), rounds: rounds(LONG_AUDIT), ..Plan::default() }, HITS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_service_and_no_breaker_is_lost_by_crashes_and_at_every_fault_point() {
    services::run(Plan { seed: seed::seed(), rounds: rounds(SHORT_SERVICES), ..Plan::default() }, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make crash"]
async fn no_service_and_no_breaker_is_lost_by_hundreds_of_crashes() {
    services::run(Plan { seed: seed::seed(), rounds: rounds(LONG_SERVICES), ..Plan::default() }, HITS).await;
}

#[test]
fn every_fault_point_of_the_sources_is_hit() {
    points::assert_complete();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a quarter of an hour: make crash"]
async fn counts_are_exact_after_hundreds_of_crashes() {
    let seed = seed::seed();
    let rounds = rounds(LONG);
    run::separate(Plan { seed, rounds, samples: SAMPLES }).await.assert_sound();
    run::whole(Plan { seed, rounds: rounds / 5, ..Plan::default() }).await.assert_sound();
    let points = run::at_points(Plan { seed, rounds: HITS, ..Plan::default() }).await;
    points.assert_every_point_was_hit(HITS);
    points.assert_sound();
}

fn rounds(default: usize) -> usize {
    std::env::var("KEELSON_ROUNDS")
        .map_or(default, |rounds| rounds.parse().expect("KEELSON_ROUNDS is a number"))
}
