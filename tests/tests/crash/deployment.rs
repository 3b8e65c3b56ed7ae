//! The deployment under blows: each role its own process, two replicas of the metrics worker, and of the alerting worker where that is struck.

use std::time::Duration;

use keelson_tests::binary;
use keelson_tests::keelson::Separate;
use keelson_tests::place::Place;
use keelson_tests::process::Process;
use nix::sys::signal::Signal;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::blows::{Blow, Job};
use crate::points::{self, Passer};

/// Longer than a lease (3 s) and what it takes to see that it stands still.
const PAST_THE_LEASE: Duration = Duration::from_millis(4_500);
/// A process that has not passed its fault point by then does not pass it.
const HIT_WITHIN: Duration = Duration::from_secs(30);

/// Starts one with `sabotage` as KEELSON_SABOTAGE.
pub async fn start(sabotage: &str) -> Separate {
    let place = Place::new().env("KEELSON_SABOTAGE", sabotage);
    Separate::start_of(binary::under_test(), place, 2).await
}

/// Starts one with two replicas of the alerting worker and this configuration of it.
pub async fn start_alerting(sabotage: &str, config: &str) -> Separate {
    let place = Place::new().env("KEELSON_SABOTAGE", sabotage).configured(config);
    let mut all = Separate::start_of(binary::under_test(), place, 2).await;
    start_both(&mut all);
    all
}

/// Starts the bus and two replicas of the CDN worker in a place, and nothing else.
pub async fn start_cdn(place: Place) -> Separate {
    let mut all = Separate::bus_alone(binary::under_test(), place).await;
    start_both_cdn(&mut all);
    all
}

/// Starts the bus and two replicas of the audit worker in a place, and nothing else.
pub async fn start_audit(place: Place) -> Separate {
    let mut all = Separate::bus_alone(binary::under_test(), place).await;
    start_both_audit(&mut all);
    all
}

/// Starts the bus, the ingress, the steward and two replicas of the services worker in a place, and nothing else.
pub async fn start_services(place: Place) -> Separate {
    let mut all = Separate::bus_alone(binary::under_test(), place).await;
    all.start_ingress(&[]);
    all.start_steward(&[]);
    start_both_services(&mut all);
    all.ready().await;
    all
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
        Blow::CrashIngress => {
            let hit = crash_at(all, Passer::Ingress, "telemetry.stored", rng).await;
            assert!(hit, "no telemetry was stored");
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
        Blow::KillActive(job) => {
            let replica = active(all, job, rng).await;
            all.alerting[replica] = None;
            a_while(rng).await;
            all.start_alerting(replica, &[]);
        }
        Blow::StopActive(job) => {
            let replica = active(all, job, rng).await;
            let process = all.alerting[replica].as_ref().expect("the replica runs");
            process.signal(Signal::SIGSTOP);
            tokio::time::sleep(PAST_THE_LEASE).await;
            process.signal(Signal::SIGCONT);
        }
        Blow::KillAlerting => {
            all.alerting = [None, None];
            a_while(rng).await;
            start_both(all);
        }
        Blow::KillCdn(replica) => {
            all.cdn[replica] = None;
            a_while(rng).await;
            all.start_cdn(replica, &[]);
        }
        Blow::StopCdn(replica) => {
            let process = all.cdn[replica].as_ref().expect("the replica runs");
            process.signal(Signal::SIGSTOP);
            tokio::time::sleep(PAST_THE_LEASE).await;
            process.signal(Signal::SIGCONT);
        }
        Blow::KillBothCdn => {
            all.cdn = [None, None];
            a_while(rng).await;
            start_both_cdn(all);
        }
        Blow::KillAudit(replica) => {
            all.audit[replica] = None;
            a_while(rng).await;
            all.start_audit(replica, &[]);
        }
        Blow::StopAudit(replica) => {
            let process = all.audit[replica].as_ref().expect("the replica runs");
            process.signal(Signal::SIGSTOP);
            tokio::time::sleep(PAST_THE_LEASE).await;
            process.signal(Signal::SIGCONT);
        }
        Blow::KillServices(replica) => {
            all.services[replica] = None;
            a_while(rng).await;
            all.start_services(replica, &[]);
        }
        Blow::StopServices(replica) => {
            let process = all.services[replica].as_ref().expect("the replica runs");
            process.signal(Signal::SIGSTOP);
            tokio::time::sleep(PAST_THE_LEASE).await;
            process.signal(Signal::SIGCONT);
        }
        Blow::KillBothServices => {
            all.services = [None, None];
            a_while(rng).await;
            start_both_services(all);
        }
        Blow::KillAll => kill_all(all, rng).await,
    }
    all.ready().await;
}

/// Runs a process again with one fault point armed, until it has killed itself there; false when it never passed the point.
pub async fn crash_at(all: &mut Separate, passer: Passer, point: &str, rng: &mut StdRng) -> bool {
    let fault = format!("{point}:{}", points::pass(point, rng));
    let env = [("KEELSON_FAULTS", fault.as_str())];
    match passer {
        Passer::Metrics => all.start_metrics(0, &env),
        Passer::Ingress => all.start_ingress(&env),
        Passer::Steward => all.start_steward(&env),
        Passer::Alerting => {
            // With no other replica, both jobs fall to it.
            all.alerting = [None, None];
            all.start_alerting(0, &env);
        }
        Passer::Cdn => {
            // With no other replica, every lane falls to it.
            all.cdn = [None, None];
            all.start_cdn(0, &env);
        }
        Passer::Audit => {
            // With no other replica, it is the sealer.
            all.audit = [None, None];
            all.start_audit(0, &env);
        }
        Passer::Services => {
            // With no other replica, every command and every call comes to it.
            all.services = [None, None];
            all.start_services(0, &env);
        }
    }
    let process = process_of(all, passer);
    let hit = process.end(HIT_WITHIN).await.is_some_and(|status| !status.success());
    match passer {
        Passer::Metrics => all.start_metrics(0, &[]),
        Passer::Ingress => all.start_ingress(&[]),
        Passer::Steward => all.start_steward(&[]),
        Passer::Alerting => start_both(all),
        Passer::Cdn => start_both_cdn(all),
        Passer::Audit => start_both_audit(all),
        Passer::Services => start_both_services(all),
    }
    all.ready().await;
    hit
}

fn process_of(all: &mut Separate, passer: Passer) -> &mut Process {
    let process = match passer {
        Passer::Metrics => &mut all.metrics[0],
        Passer::Ingress => &mut all.ingress,
        Passer::Steward => &mut all.steward,
        Passer::Alerting => &mut all.alerting[0],
        Passer::Cdn => &mut all.cdn[0],
        Passer::Audit => &mut all.audit[0],
        Passer::Services => &mut all.services[0],
    };
    process.as_mut().expect("it was started")
}

/// The replica that has a job; any, while none has it.
async fn active(all: &Separate, job: Job, rng: &mut StdRng) -> usize {
    all.active(job.key()).await.unwrap_or_else(|| rng.random_range(0..all.alerting.len()))
}

fn start_both(all: &mut Separate) {
    for replica in 0..all.alerting.len() {
        all.start_alerting(replica, &[]);
    }
}

fn start_both_cdn(all: &mut Separate) {
    for replica in 0..all.cdn.len() {
        all.start_cdn(replica, &[]);
    }
}

fn start_both_audit(all: &mut Separate) {
    for replica in 0..all.audit.len() {
        all.start_audit(replica, &[]);
    }
}

fn start_both_services(all: &mut Separate) {
    for replica in 0..all.services.len() {
        all.start_services(replica, &[]);
    }
}

async fn kill_all(all: &mut Separate, rng: &mut StdRng) {
    let with_alerting = all.alerting.iter().any(Option::is_some);
    all.alerting = [None, None];
    (all.ingress, all.steward) = (None, None);
    all.metrics.fill_with(|| None);
    all.nats.kill();
    a_while(rng).await;
    all.nats.restart().await;
    all.start_steward(&[]);
    all.start_metrics(0, &[]);
    all.start_metrics(1, &[]);
    all.start_ingress(&[]);
    if with_alerting {
        start_both(all);
    }
}

/// Up to half a second.
pub async fn a_while(rng: &mut StdRng) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..500))).await;
}
