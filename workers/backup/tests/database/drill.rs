//! Restores that are rehearsed: what came back as it was passes, and what did not is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use bson::{Document, doc};
use keelson_backup::mongo::{Deployment, compare, indexes::Indexes};
use keelson_backup::scratch::{self, Scratch};
use keelson_backup::{schedule, store};
use keelson_kit::config::ConfigSource;
use keelson_kit::follow::{FollowOptions, Start};
use keelson_schemas::backup::{
    Automate, Backup, BackupKind, Component, DeleteBackup, DrillReport, Manifest, TestBackup,
};
use keelson_schemas::operation::State;

use crate::fixture::{Worker, into_rehearsal};
use crate::mongod::{self, Mongod, until};
use crate::shapes::{self, Writer};

const INCREMENTAL: Backup = Backup { kind: BackupKind::Incremental, components: Vec::new() };

fn uploads() -> tempfile::TempDir {
    let uploads = tempfile::tempdir().unwrap();
    fs::write(uploads.path().join("a"), "a").unwrap();
    uploads
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_under_live_writes_and_files_come_back_as_they_were() {
    let (source, uploads) = (Mongod::replica_set().await, uploads());
    shapes::fill(&source, 1_000).await;
    let writer = Writer::start(&source).await;
    let files = uploads.path().to_owned();
    let worker = Worker::configured(&source, &source, |config| config.files = Some(vec![files])).await;
    worker.backup().await;
    let backup: keelson_schemas::backup::BackupSummary =
        serde_json::from_value(worker.asked(&INCREMENTAL).await.result.unwrap()).unwrap();
    assert!(writer.stop().await > 0);

    let report = worker.drill().await;
    assert!(report.passed && report.differences.is_empty(), "{report:?}");
    assert_eq!((report.backup_id.as_str(), report.requested_by.as_str()), (backup.id.as_str(), "ada"));
    assert_eq!(report.components, [Component::Database, Component::Config, Component::Files]);
    assert!(report.collections > 5 && report.documents > 1_000 && report.indexes > 3, "{report:?}");
    assert!(report.oplog_entries > 10 && report.files == 2, "{report:?}");
    let restoring: u64 =
        report.phases.iter().filter(|step| step.restoring).map(|step| step.duration_ms).sum();
    assert!(report.rto_ms == restoring && report.rto_ms > 0, "{report:?}");
    assert!(report.rpo_ms < 60_000, "{report:?}");
    assert!(!worker.data.path().join("backup/drill").exists(), "something was left");

    assert_eq!(store::last_drill(&worker.bus).await.unwrap(), Some(report.clone()));
    let mut told =
        worker.bus.follow(FollowOptions::new("EVENTS", "keelson.evt.backup.drilled", Start::After(0)));
    let told: DrillReport = told.next_if_any().await.unwrap().unwrap().decode().unwrap();
    assert_eq!(told, report);

    // It is known to be good: until another one is, it stays.
    let newer = worker.backup().await;
    let verified = store::find(&worker.bus, &backup.id).await.unwrap().unwrap();
    assert_eq!((verified.verified_at, newer.verified_at), (Some(report.finished_at), None));
    let delete = DeleteBackup { backup_id: backup.id };
    let (state, why) = worker.refused(&delete).await;
    assert!(state == State::Rejected && why.contains("rehearsed"), "{state:?} {why}");
    worker.drill().await;
    assert_eq!(worker.asked(&delete).await.state, State::Succeeded);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_came_back_otherwise_is_named() {
    let (source, target) = (Mongod::replica_set().await, Mongod::standalone().await);
    shapes::fill(&source, 200).await;
    let worker = Worker::start(&source, &target).await;
    let backup = worker.backup().await;
    worker.restore(&into_rehearsal(&backup.id)).await;
    let manifest = store::manifest(&worker.restic(), &backup).await.unwrap();
    let dump = worker.data.path().join("backup/dump");
    let deployment = Deployment::new(&target.uri()).await.unwrap();
    assert_eq!(differences(&deployment, &dump, &manifest).await, [""; 0]);

    let click = target.client().await.database("click");
    click.collection::<Document>("videos").delete_one(doc! { "_id": 7 }).await.unwrap();
    let series = click.collection::<Document>("series");
    series.insert_one(doc! { "at": bson::DateTime::now(), "meta": 9, "v": 0 }).await.unwrap();
    let capped = click.collection::<Document>("capped");
    capped.update_one(doc! {}, doc! { "$set": { "another": true } }).await.unwrap();
    target.run("click", doc! { "collMod": "videos", "validator": { "never": 1 } }).await;
    let listed = target.run("click", doc! { "listIndexes": "videos" }).await;
    let indexes = listed.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
    let index = indexes[1].as_document().unwrap().get_str("name").unwrap().to_owned();
    target.run("click", doc! { "dropIndexes": "videos", "index": &index }).await;
    let gone = manifest.database.as_ref().unwrap().collections.iter().find(|entry| entry.database == "other");
    let gone = gone.unwrap().collection.clone();
    target.run("other", doc! { "drop": &gone }).await;

    let told = differences(&deployment, &dump, &manifest).await.join("\n");
    for says in [
        "click.videos: 200 documents were backed up, and 199 came back".to_owned(),
        "click.series: ".to_owned(),
        "click.capped: its documents came back otherwise".to_owned(),
        "click.videos: its options came back otherwise".to_owned(),
        format!("click.videos: the index {index} did not come back"),
        format!("other.{gone}: it did not come back"),
    ] {
        assert!(told.contains(&says), "{says}: {told}");
    }
    worker.stop().await;
}

async fn differences(deployment: &Deployment, dump: &Path, manifest: &Manifest) -> Vec<String> {
    let mut differences = Vec::new();
    let (mut expected, mut indexes) = (BTreeMap::new(), Indexes::default());
    for entry in &manifest.database.as_ref().unwrap().collections {
        if entry.database == "admin" {
            continue;
        }
        differences.extend(compare::documents(deployment, dump, entry).await.unwrap());
        let metadata = fs::read(dump.join(&entry.metadata.path)).unwrap();
        let metadata = keelson_backup::metadata::Metadata::from_json(&metadata).unwrap();
        for index in &metadata.indexes {
            indexes.add((&entry.database, &entry.collection), index.clone());
        }
        expected.insert((entry.database.clone(), entry.collection.clone()), metadata);
    }
    let changed = BTreeSet::new();
    differences.extend(compare::structure(deployment, &expected, &indexes, &changed).await.unwrap());
    differences
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_rehearsed_is_said_and_what_fails_is_told() {
    let (source, scripts) = (Mongod::replica_set().await, tempfile::tempdir().unwrap());
    shapes::fill(&source, 20).await;
    let missing =
        Worker::configured(&source, &source, |config| config.mongod = "/nowhere/mongod".into()).await;
    let (state, why) = missing.refused(&TestBackup::default()).await;
    assert!(state == State::Rejected && why.contains("there is no backup"), "{state:?} {why}");
    missing.backup().await;
    let (state, why) = missing.refused(&TestBackup::default()).await;
    assert!(state == State::Rejected && why.contains("install mongod"), "{state:?} {why}");
    missing.stop().await;

    let program = scripts.path().join("mongod");
    fs::write(&program, "#!/bin/sh\necho it does not want to\nexit 3\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let broken = Worker::configured(&source, &source, |config| config.mongod = program.clone()).await;
    let backup = broken.backup().await;
    let (state, why) = broken.refused(&TestBackup::default()).await;
    assert!(state == State::Failed && why.contains("it does not want to"), "{state:?} {why}");
    let told = store::last_drill(&broken.bus).await.unwrap().unwrap();
    assert!(!told.passed && told.error.unwrap().contains("start mongod"));
    assert_eq!(store::find(&broken.bus, &backup.id).await.unwrap().unwrap().verified_at, None);
    until(async || broken.signals().await.contains_key("drills_failed")).await;
    assert!(!broken.data.path().join("backup/drill").exists());
    fs::remove_file(&program).unwrap();
    std::os::unix::fs::symlink(mongod::program(), &program).unwrap();
    assert!(broken.drill().await.passed);
    broken.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rehearsals_make_themselves_and_find_what_is_damaged() {
    let uploads = uploads();
    let files = uploads.path().to_owned();
    let worker =
        Worker::without_database(ConfigSource::default(), |config| config.files = Some(vec![files])).await;
    worker.backup().await;
    let seconds = Automate {
        schedule: "0 0 1 1 *".into(),
        drill_schedule: Some("* * * * * *".into()),
        ..Automate::default()
    };
    assert_eq!(worker.asked(&seconds).await.state, State::Succeeded);
    let last = async || store::last_drill(&worker.bus).await.unwrap();
    until(async || last().await.is_some_and(|drill| drill.passed)).await;
    assert_eq!(last().await.unwrap().requested_by, schedule::REQUESTED_BY);
    until(async || worker.signals().await.contains_key("drill_overdue_seconds")).await;
    assert!(!worker.signals().await.contains_key("drills_failed"));

    damage(&worker.data.path().join("backups/data"));
    until(async || last().await.is_some_and(|drill| !drill.passed)).await;
    until(async || worker.signals().await.contains_key("drills_failed")).await;
    let wrong = Automate { drill_schedule: Some("often".into()), ..Automate::default() };
    let (state, why) = worker.refused(&wrong).await;
    assert!(state == State::Rejected && why.contains("drillSchedule"), "{state:?} {why}");
    let none = Automate { drill_schedule: None, ..seconds };
    assert_eq!(worker.asked(&none).await.state, State::Succeeded);
    worker.stop().await;
}

/// Flips bits in the middle of every pack.
fn damage(data: &Path) {
    for folder in fs::read_dir(data).unwrap() {
        for pack in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = pack.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            fs::write(&path, bytes).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_left_by_a_killed_worker_is_ended() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), keelson_kit::clock::Clock::system());
    let left = Scratch::start(&mongod::program(), folder.path(), &clock).await.unwrap();
    left.deployment.standing().await.unwrap();
    scratch::end_left(folder.path()).await;
    until(async || left.deployment.standing().await.is_err()).await;
    scratch::end_left(folder.path()).await;
}
