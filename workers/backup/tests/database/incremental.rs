//! Backups that add the oplog since the last one, and restores to a moment in between.

use std::time::Duration;

use bson::{Document, Timestamp, doc};
use jiff::Timestamp as Time;
use keelson_backup::bson_file::Reader;
use keelson_backup::layout;
use keelson_schemas::backup::{Backup, BackupKind, BackupState, BackupSummary, Restore};
use keelson_schemas::operation::State;

use crate::fixture::{Worker, into_rehearsal};
use crate::mongod::{Mongod, until};
use crate::shapes::{self, DATABASES, PASSING, Writer};

const INCREMENTAL: Backup = Backup { kind: BackupKind::Incremental, components: Vec::new() };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_backup_of_a_chain_and_a_second_in_between_are_restored_as_they_were() {
    let (source, target) = (Mongod::replica_set().await, Mongod::replica_set().await);
    shapes::fill(&source, 500).await;
    let worker = Worker::start(&source, &target).await;
    let writer = Writer::start(&source).await;
    let full = worker.backup().await;
    let mut chain = vec![full.clone()];
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        chain.push(worker.made(&INCREMENTAL).await);
    }
    writer.stop().await;
    for backup in &chain[1..] {
        assert_eq!((backup.kind, &backup.base, &backup.note), (BackupKind::Incremental, &full.base, &None));
        assert_eq!(backup.window.unwrap().from, full.window.unwrap().from);
    }
    for backup in [&chain[2], &chain[3]] {
        worker.restore(&again(&into_rehearsal(&backup.id))).await;
        let to = backup.window.unwrap().to;
        assert_as_at(&target, &source, Timestamp { time: to.seconds, increment: to.increment }).await;
    }

    // A second that no backup was made in, reached through the newest one.
    let window = chain[3].window.unwrap();
    let second = window.from.seconds.midpoint(window.to.seconds);
    assert!(window.from.seconds < second && second < window.to.seconds, "{window:?}");
    let point = Time::from_second(i64::from(second)).unwrap();
    let newest = Restore { point_in_time: Some(point), ..into_rehearsal(&chain[3].id) };
    let report = worker.restore(&again(&newest)).await;
    assert_eq!(report.restored_to.unwrap().seconds, second);
    assert_as_at(&target, &source, Timestamp { time: second, increment: u32::MAX }).await;

    for (seconds, says) in
        [(window.from.seconds - 10, "not in between"), (window.to.seconds + 10, "not in between")]
    {
        let point = Time::from_second(i64::from(seconds)).unwrap();
        let outside = Restore { point_in_time: Some(point), ..into_rehearsal(&chain[3].id) };
        let (state, why) = worker.refused(&outside).await;
        assert!(state == State::Rejected && why.contains(says), "{state:?} {why}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_added_to_is_made_anew() {
    let (source, target) = (Mongod::replica_set().await, Mongod::replica_set().await);
    put(&source, 1).await;
    let worker = Worker::start(&source, &target).await;
    let anew = async |says: &str| {
        let backup = worker.made(&INCREMENTAL).await;
        let note = backup.note.clone().unwrap_or_default();
        assert!(backup.kind == BackupKind::Full && note.contains(says), "{says}: {backup:?}");
        assert_eq!(backup.base, Some(backup.id.clone()));
        backup
    };
    anew("no full backup here").await;
    put(&source, 2).await;
    assert_eq!(worker.made(&INCREMENTAL).await.kind, BackupKind::Incremental);

    source.run("admin", doc! { "renameCollection": "click.videos", "to": "click.films" }).await;
    assert!(!worker.signals().await.contains_key("backup_gaps"));
    anew("renameCollection").await;
    until(async || worker.signals().await.contains_key("backup_gaps")).await;

    // An entry of another term at the place where the last backup ended is another history.
    tamper(&worker, |base| base["database"]["oplog"]["last"]["term"] = 0.into());
    anew("rolled back").await;
    tamper(&worker, |base| base["database"]["oplog"]["last"]["seconds"] = 1.into());
    anew("it begins at").await;
    tamper(&worker, |base| base["boot"] = "another".into());
    anew("restarted").await;
    std::fs::remove_file(worker.data.path().join("backup/dump/dump/click/films.bson")).unwrap();
    let last = anew("films.bson").await;

    worker.restore(&into_rehearsal(&last.id)).await;
    assert_eq!(target.hashes("click", None).await, source.hashes("click", None).await);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_was_interrupted_leaves_the_next_one_whole() {
    let (source, target) = (Mongod::replica_set().await, Mongod::standalone().await);
    put(&source, 1).await;
    let worker = Worker::start(&source, &target).await;
    worker.backup().await;
    // As if it had been killed while it added to the oplog.
    let oplog = worker.data.path().join("backup/dump/dump/oplog.bson");
    let mut longer = std::fs::OpenOptions::new().append(true).open(&oplog).unwrap();
    std::io::Write::write_all(&mut longer, b"half an entry").unwrap();
    put(&source, 2).await;
    let backup = worker.made(&INCREMENTAL).await;
    assert_eq!((backup.kind, backup.state), (BackupKind::Incremental, BackupState::Complete));

    source.run("admin", doc! { "replSetStepDown": 1, "force": true }).await;
    source.writable().await;
    put(&source, 3).await;
    let backup = worker.made(&INCREMENTAL).await;
    assert_eq!(backup.kind, BackupKind::Incremental, "an election alone is no gap: {:?}", backup.note);
    worker.restore(&into_rehearsal(&backup.id)).await;
    assert_eq!(target.hashes("click", None).await, source.hashes("click", None).await);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_of_the_deployment_alone_is_in_no_oplog() {
    let source = Mongod::replica_set().await;
    put(&source, 1).await;
    let worker = Worker::start(&source, &source).await;
    let hang = doc! { "configureFailPoint": "waitInFindBeforeMakingBatch", "mode": "alwaysOn", "data": { "nss": "click.videos", "shouldCheckForInterrupt": true } };
    source.run("admin", hang).await;
    let id = worker.submit(&Backup::default()).await;
    until(async || {
        let running = source.run("admin", doc! { "currentOp": 1, "ns": "click.videos" }).await;
        !running.get_array("inprog").unwrap().is_empty()
    })
    .await;
    put_own(&source, 2).await;
    source.run("admin", doc! { "configureFailPoint": "waitInFindBeforeMakingBatch", "mode": "off" }).await;
    assert_eq!(worker.ended(&id).await.state, State::Succeeded);
    // The oplog of a dump may begin with the last change before it.
    let full = changed(&worker);
    assert!(!full.is_empty() && full.iter().all(|namespace| namespace == "click.videos"), "{full:?}");
    put_own(&source, 3).await;
    assert_eq!(worker.made(&INCREMENTAL).await.kind, BackupKind::Incremental);
    assert_eq!(changed(&worker), [full, vec!["click.videos".to_owned()]].concat());
    worker.stop().await;
}

/// What every deployment has of its own, and then something that is to be backed up.
async fn put_own(source: &Mongod, id: i32) {
    for (database, collection) in [("admin", "system.keys"), ("config", "mine")] {
        source.run(database, doc! { "insert": collection, "documents": [{ "_id": i64::from(id) }] }).await;
    }
    put(source, id).await;
}

/// The namespaces into which something is inserted by the oplog that was dumped.
fn changed(worker: &Worker) -> Vec<String> {
    let mut oplog = Reader::open(&worker.data.path().join("backup/dump"), layout::OPLOG).unwrap();
    let entries = std::iter::from_fn(|| oplog.next_document().unwrap());
    let inserts = entries.filter(|entry| entry.get_str("op").unwrap() == "i");
    inserts.map(|entry| entry.get_str("ns").unwrap().to_owned()).collect()
}

async fn put(mongod: &Mongod, id: i32) {
    let videos = mongod.client().await.database("click").collection::<Document>("videos");
    until(async || videos.insert_one(doc! { "_id": id, "text": "x".repeat(1_000) }).await.is_ok()).await;
}

/// Changes the description of what lies in the spool.
fn tamper(worker: &Worker, change: impl FnOnce(&mut serde_json::Value)) {
    let path = worker.data.path().join("backup/dump/base.json");
    let mut base = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut base);
    std::fs::write(&path, base.to_string()).unwrap();
}

/// The same over what an earlier restore left.
fn again(restore: &Restore) -> Restore {
    Restore { drop: true, confirm: Some(restore.backup_id.clone()), ..restore.clone() }
}

async fn assert_as_at(target: &Mongod, source: &Mongod, at: Timestamp) {
    for database in DATABASES {
        assert_eq!(
            target.hashes(database, None).await,
            source.hashes(database, Some(at)).await,
            "{database}"
        );
    }
    let left = target.run(PASSING, doc! { "dbStats": 1 }).await;
    assert!(
        left.get_i64("collections").unwrap_or_default() > 0
            || left.get_i32("collections").unwrap_or_default() > 0,
        "{left}"
    );
}

impl Worker {
    /// A backup that succeeds.
    async fn made(&self, command: &Backup) -> BackupSummary {
        let operation = self.asked(command).await;
        assert_eq!(operation.state, State::Succeeded, "{:?}", operation.error);
        serde_json::from_value(operation.result.unwrap()).unwrap()
    }
}
