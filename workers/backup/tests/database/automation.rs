//! Backups that make themselves, and those that are kept.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use keelson_backup::{automate, schedule, store};
use keelson_kit::config::ConfigSource;
use keelson_schemas::backup::{
    Automate, AutomationReport, Backup, BackupState, BackupSummary, Component, DeleteBackup, HoldBackup,
    Retention,
};
use keelson_schemas::operation::State;

use crate::fixture::Worker;
use crate::mongod::until;

const LAST_TWO: Retention =
    Retention { keep_last: 2, keep_hourly: 0, keep_daily: 0, keep_weekly: 0, keep_monthly: 0, manual: true };

/// Files alone, so that a backup takes no time.
async fn worker(uploads: &tempfile::TempDir) -> Worker {
    std::fs::write(uploads.path().join("a"), "a").unwrap();
    let files = uploads.path().to_owned();
    Worker::without_database(ConfigSource::default(), |config| config.files = Some(vec![files])).await
}

async fn set(worker: &Worker, automate: &Automate) -> AutomationReport {
    let operation = worker.asked(automate).await;
    assert_eq!(operation.state, State::Succeeded, "{:?}", operation.error);
    serde_json::from_value(operation.result.unwrap()).unwrap()
}

async fn scheduled(worker: &Worker) -> Vec<BackupSummary> {
    let mut all = store::list(&worker.bus).await.unwrap();
    all.retain(|backup| backup.requested_by == schedule::REQUESTED_BY);
    all
}

async fn ids(worker: &Worker) -> BTreeSet<String> {
    store::list(&worker.bus).await.unwrap().into_iter().map(|backup| backup.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_is_made_and_what_was_missed_is_made_up_for_once() {
    let uploads = tempfile::tempdir().unwrap();
    let worker = worker(&uploads).await;
    let seconds = Automate {
        schedule: "* * * * * *".into(),
        components: vec![Component::Files],
        ..Automate::default()
    };
    let report = set(&worker, &seconds).await;
    assert!(report.next.is_some());
    until(async || scheduled(&worker).await.len() >= 2).await;
    set(&worker, &Automate { enabled: false, ..seconds.clone() }).await;
    until(async || {
        let before = ids(&worker).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        ids(&worker).await == before
    })
    .await;
    for backup in scheduled(&worker).await {
        assert_eq!((backup.state, backup.components.len()), (BackupState::Complete, 1), "{backup:?}");
    }

    until(async || worker.signals().await.contains_key("backup_overdue_seconds")).await;

    let before = scheduled(&worker).await.len();
    let monthly = Automate { schedule: "0 0 1 * *".into(), ..seconds };
    assert!(set(&worker, &monthly).await.next.is_some());
    // As if nobody had been there for a year.
    let long_ago = Timestamp::now() - jiff::Span::new().hours(24 * 365);
    worker
        .bus
        .kv(store::BUCKET)
        .put("automation.state", &serde_json::json!({ "until": long_ago }))
        .await
        .unwrap();
    until(async || scheduled(&worker).await.len() > before).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(scheduled(&worker).await.len(), before + 1);

    for (wrong, says) in [
        (Automate { schedule: "often".into(), ..Automate::default() }, "cron"),
        (Automate { timezone: "Mars/Olympus".into(), ..Automate::default() }, "timezone"),
        (Automate { components: vec![Component::Database], ..Automate::default() }, "MONGODB_URI"),
    ] {
        let (state, why) = worker.refused(&wrong).await;
        assert!(state == State::Rejected && why.contains(says), "{says}: {state:?} {why}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nothing_keeps_is_deleted_after_the_next_backup_and_what_is_held_is_not() {
    let uploads = tempfile::tempdir().unwrap();
    let worker = worker(&uploads).await;
    let mut made = Vec::new();
    for _ in 0..3 {
        let operation = worker.asked(&Backup::default()).await;
        let backup: BackupSummary = serde_json::from_value(operation.result.unwrap()).unwrap();
        made.push(backup.id);
    }
    let retention = Automate { retention: Some(LAST_TWO), ..Automate::default() };
    let tried = set(&worker, &Automate { dry_run: true, ..retention.clone() }).await;
    let kept: Vec<bool> = tried.retained.iter().map(|retained| retained.kept).collect();
    assert_eq!(kept, [true, true, false], "{:?}", tried.retained);
    assert_eq!(automate::plan(&worker.bus).await.unwrap(), Automate::default(), "it was only tried");

    let hold = |held| HoldBackup { backup_id: made[0].clone(), held };
    assert_eq!(worker.asked(&hold(true)).await.state, State::Succeeded);
    set(&worker, &retention).await;
    let operation = worker.asked(&Backup::default()).await;
    let fourth: BackupSummary = serde_json::from_value(operation.result.unwrap()).unwrap();
    let expected = [&made[0], &made[2], &fourth.id].map(String::clone);
    assert_eq!(ids(&worker).await, BTreeSet::from(expected.clone()));
    let snapshots = worker.restic().snapshots().await.unwrap();
    let stored: BTreeSet<String> =
        snapshots.iter().map(|snapshot| snapshot.backup().unwrap().to_owned()).collect();
    assert_eq!(stored, BTreeSet::from(expected));

    let delete = DeleteBackup { backup_id: made[0].clone() };
    let (state, why) = worker.refused(&delete).await;
    assert!(state == State::Rejected && why.contains("it is held"), "{state:?} {why}");
    assert_eq!(worker.asked(&hold(false)).await.state, State::Succeeded);
    assert_eq!(worker.asked(&delete).await.state, State::Succeeded);
    worker.stop().await;
}
