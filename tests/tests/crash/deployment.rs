//! The deployment under blows: each role its own process, two replicas of the metrics worker.

use std::time::Duration;

use keelson_tests::binary;
use keelson_tests::keelson::{READY_WITHIN, Separate};
use keelson_tests::place::Place;
use keelson_tests::process::Process;
use nix::sys::signal::Signal;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::blows::Blow;
use crate::points::Passer;

/// Longer than a lease (3 s) and what it takes to see that it stands still.
const PAST_THE_LEASE: Duration = Duration::from_millis(4_500);
/// A process that has not passed its fault point by then does not pass it.
const HIT_WITHIN: Duration = Duration::from_secs(30);

/// Starts one with `sabotage` as KEELSON_SABOTAGE.
pub async fn start(sabotage: &str) -> Separate {
    let place = Place::new().env("KEELSON_SABOTAGE", sabotage);
    Separate::start_of(binary::under_test(), place, 2).await
}

/// One blow, and what repairs it.
pub async fn strike(all: &mut Separate, blow: Blow, rng: &mut StdRng) {
    match blow {
        Blow::KillMetrics(replica) => {
            all.metrics[replica] = None;
            a_while(rng).await;
            all.start_metrics(replica, &[]);
        }
        Blow::StopMetrics(replica) => {
            all.signal(replica, Signal::SIGSTOP);
            tokio::time::sleep(PAST_THE_LEASE).await;
            all.signal(replica, Signal::SIGCONT);
        }
        Blow::KillIngress => {
            all.ingress = None;
            a_while(rng).await;
            all.start_ingress(&[]);
        }
        Blow::KillSteward => {
            all.steward = None;
            a_while(rng).await;
            all.start_steward(&[]);
        }
        Blow::KillNats => {
            all.nats.kill();
            a_while(rng).await;
            all.nats.restart().await;
        }
        Blow::KillAll => kill_all(all, rng).await,
    }
    all.client().ready(READY_WITHIN).await;
}

/// Runs a process again with one fault point armed, until it has killed itself there; false when it never passed the point.
pub async fn crash_at(all: &mut Separate, passer: Passer, point: &str, rng: &mut StdRng) -> bool {
    let fault = format!("{point}:{}", rng.random_range(1..4));
    let env = [("KEELSON_FAULTS", fault.as_str())];
    match passer {
        Passer::Metrics => all.start_metrics(0, &env),
        Passer::Ingress => all.start_ingress(&env),
        Passer::Steward => all.start_steward(&env),
    }
    let process = process_of(all, passer);
    let hit = process.end(HIT_WITHIN).await.is_some_and(|status| !status.success());
    match passer {
        Passer::Metrics => all.start_metrics(0, &[]),
        Passer::Ingress => all.start_ingress(&[]),
        Passer::Steward => all.start_steward(&[]),
    }
    all.client().ready(READY_WITHIN).await;
    hit
}

fn process_of(all: &mut Separate, passer: Passer) -> &mut Process {
    let process = match passer {
        Passer::Metrics => &mut all.metrics[0],
        Passer::Ingress => &mut all.ingress,
        Passer::Steward => &mut all.steward,
    };
    process.as_mut().expect("it was started")
}

async fn kill_all(all: &mut Separate, rng: &mut StdRng) {
    (all.ingress, all.steward) = (None, None);
    all.metrics.fill_with(|| None);
    all.nats.kill();
    a_while(rng).await;
    all.nats.restart().await;
    all.start_steward(&[]);
    all.start_metrics(0, &[]);
    all.start_metrics(1, &[]);
    all.start_ingress(&[]);
}

/// Up to half a second.
pub async fn a_while(rng: &mut StdRng) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..500))).await;
}
