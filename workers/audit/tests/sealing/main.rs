//! The sealer and the verifier on a real nats-server: what is sealed is proven, through takeovers; and what was changed in the server's files is found.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod store;

use std::path::Path;
use std::time::{Duration, Instant};

use keelson_audit::config::AuditConfig;
use keelson_audit::report::{Finding, Report};
use keelson_audit::{Audit, check, key};
use keelson_kit::bus::Bus;
use keelson_kit::config::{Secret, Span};
use keelson_kit::publish::{Outgoing, fresh_id};
use keelson_kit::role::{Context, Role};
use keelson_kit::testing::{NatsServer, context};
use keelson_schemas::audit::SEALED;
use store::Store;

const PATIENCE: Duration = Duration::from_secs(30);

fn quick(key: Option<&str>) -> AuditConfig {
    let key = key.map(|text| Secret::from(text.to_owned()));
    AuditConfig { key, seal_every: Span(Duration::from_millis(100)), ..AuditConfig::default() }
}

async fn sealer(bus: &Bus, config: &AuditConfig) -> Context {
    let ctx = context(bus);
    Audit::start(config.clone(), ctx.clone()).await.unwrap();
    ctx
}

async fn stop(ctx: Context) {
    ctx.tasks.shutdown(PATIENCE).await;
}

async fn commands(bus: &Bus, count: usize) {
    for number in 0..count {
        let body = format!("{{\"tags\":[\"{number}\"]}}");
        let outgoing = Outgoing::new("keelson.cmd.cdn.purge", fresh_id(), "keelson.cdn.purge.v1", body);
        bus.publish(&outgoing).await.unwrap();
    }
}

async fn verify(bus: &Bus, config: &AuditConfig) -> Report {
    let now_ms = jiff::Timestamp::now().as_millisecond().unsigned_abs();
    check::verify(bus, config.trusted(Path::new(".")).unwrap(), now_ms).await.unwrap()
}

/// The report, once `entries` that are no seals are sealed.
async fn sealed(bus: &Bus, config: &AuditConfig, entries: u64) -> Report {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = verify(bus, config).await;
        if report.unsealed == 0 && report.entries - report.seals >= entries {
            return report;
        }
        assert!(Instant::now() < deadline, "{report:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn everything_is_sealed_once_and_signed_through_takeovers() {
    let server = NatsServer::start().await.unwrap();
    let bus = server.prepared_bus().await.unwrap();
    let config = quick(Some(&key::text(&key::generate().to_bytes())));
    let mut published = 0;
    for _ in 0..3 {
        let ctx = sealer(&bus, &config).await;
        commands(&bus, 40).await;
        published += 40;
        let report = sealed(&bus, &config, published).await;
        assert!(report.is_well(), "{:?}", report.findings);
        assert_eq!(report.signers.values().sum::<u64>(), report.seals);
        assert!(!report.signers.contains_key(""));
        stop(ctx).await;
    }
    // Whoever reads only the seals after the checkpoint, or all of them, comes to the same.
    bus.purge_subject("KV_checkpoints", "$KV.checkpoints.audit.>", u64::MAX - 1).await.unwrap();
    let ctx = sealer(&bus, &config).await;
    commands(&bus, 10).await;
    let report = sealed(&bus, &config, published + 10).await;
    assert!(report.is_well(), "{:?}", report.findings);
    stop(ctx).await;
}

#[tokio::test]
async fn nothing_is_sealed_again_and_again_while_nothing_happens() {
    let server = NatsServer::start().await.unwrap();
    let bus = server.prepared_bus().await.unwrap();
    let config = quick(None);
    let ctx = sealer(&bus, &config).await;
    commands(&bus, 5).await;
    let before = sealed(&bus, &config, 5).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let after = verify(&bus, &config).await;
    assert_eq!(after.seals, before.seals);
    assert_eq!(after.signers.get(""), Some(&after.seals), "without a key they are unsigned, and say so");
    stop(ctx).await;
}

#[tokio::test]
async fn what_only_says_that_it_is_a_seal_is_passed_over_by_the_sealer_and_named_by_the_verifier() {
    let server = NatsServer::start().await.unwrap();
    let bus = server.prepared_bus().await.unwrap();
    let config = quick(Some(&key::text(&key::generate().to_bytes())));
    let ctx = sealer(&bus, &config).await;
    commands(&bus, 5).await;
    sealed(&bus, &config, 5).await;
    let garbage = Outgoing::new(SEALED, fresh_id(), "keelson.audit.sealed.v1", b"\xc1".to_vec());
    bus.publish(&garbage).await.unwrap();
    commands(&bus, 5).await;
    let report = sealed(&bus, &config, 11).await;
    assert!(matches!(report.findings[..], [Finding::NoSeal { .. }]), "{:?}", report.findings);
    stop(ctx).await;
}

/// What is done to the files, and the entry that is to be named.
type Case = (&'static str, Option<u64>, fn(&mut Store));

/// What is changed in the server's files, with all of its checksums made right again.
#[tokio::test]
async fn what_was_changed_in_the_files_of_the_server_is_found_and_the_first_of_it_named() {
    let mut server = NatsServer::start().await.unwrap();
    let config = quick(Some(&key::text(&key::generate().to_bytes())));
    let bus = server.prepared_bus().await.unwrap();
    let ctx = sealer(&bus, &config).await;
    commands(&bus, 30).await;
    assert!(sealed(&bus, &config, 30).await.is_well());
    stop(ctx).await;
    drop(bus);
    server.kill();
    let untouched = Store::read(&server.store(), "AUDIT");
    let first_of = |report: &Report| report.findings.first().map(Finding::sequence);
    let cases: [Case; 6] = [
        ("nothing", None, |_| {}),
        ("a body", Some(12), |store| *store.body(12).last_mut().unwrap() = b'!'),
        ("one removed", Some(12), |store| store.remove(12)),
        ("the first removed", Some(1), |store| store.remove(1)),
        ("two swapped", Some(7), |store| store.swap(7, 20)),
        ("the end cut off", Some(25), |store| (25..200).for_each(|sequence| store.remove(sequence))),
    ];
    for (what, named, change) in cases {
        let mut store = untouched.clone();
        change(&mut store);
        store.write();
        server.resume_after_kill().await.unwrap();
        let bus = server.bus().await.unwrap();
        let report = verify(&bus, &config).await;
        assert_eq!(first_of(&report), named, "{what}: {:?}", report.findings);
        drop(bus);
        server.kill();
    }
}
