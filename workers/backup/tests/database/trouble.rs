//! What goes wrong is said, leaves no backup that says complete, and does not stop the next one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bson::{Document, doc};
use keelson_backup::config::BackupConfig;
use keelson_backup::store;
use keelson_kit::config::Secret;
use keelson_schemas::backup::{Backup, BackupState, DeleteBackup, Restore};
use keelson_schemas::operation::State;

use crate::fixture::{Worker, into_rehearsal};
use crate::mongod::{Mongod, until};

/// A source with a few documents.
async fn source() -> Mongod {
    let mongod = Mongod::replica_set().await;
    put(&mongod, 0, 2_000).await;
    mongod
}

async fn put(mongod: &Mongod, from: i32, to: i32) {
    let documents = (from..to).map(|n| doc! { "_id": n, "text": "x".repeat(2_000) });
    mongod
        .client()
        .await
        .database("click")
        .collection::<Document>("videos")
        .insert_many(documents)
        .await
        .unwrap();
}

/// A program that runs `script` in the place of restic; `"$restic"` is restic itself.
pub fn in_place_of_restic(folder: &Path, script: &str) -> PathBuf {
    let program = folder.join("restic");
    let real = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|dir| dir.join("restic"))
        .find(|path| path.is_file());
    let real = real.expect("restic is installed: `compose/tools/setup tests` does it");
    fs::write(&program, format!("#!/bin/sh\nrestic={}\n{script}\n", real.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// Nothing says complete: not the bucket, not the repository, no manifest beside it.
async fn assert_no_backup(worker: &Worker) {
    let backups = store::list(&worker.bus).await.unwrap();
    assert!(backups.iter().all(|backup| backup.state != BackupState::Complete), "{backups:?}");
    let manifests = manifests(worker);
    assert!(manifests.is_empty(), "{manifests:?}");
}

fn manifests(worker: &Worker) -> Vec<PathBuf> {
    let entries = fs::read_dir(worker.data.path().join("backups")).into_iter().flatten();
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_configured_is_said() {
    let mongod = Mongod::standalone().await;
    let worker = Worker::configured(&mongod, &mongod, |config| config.mongodb_uri = None).await;
    let (state, why) = worker.refused(&Backup::default()).await;
    assert!(state == State::Rejected && why.contains("MONGODB_URI"), "{state:?} {why}");
    worker.stop().await;

    let no_restic = |config: &mut BackupConfig| config.restic = "/nowhere/restic".into();
    let worker = Worker::configured(&mongod, &mongod, no_restic).await;
    let (state, why) = worker.refused(&Backup::default()).await;
    assert!(state == State::Failed && why.contains("install restic"), "{state:?} {why}");
    worker.stop().await;

    let old = tempfile::tempdir().unwrap();
    let old_restic = |config: &mut BackupConfig| {
        config.restic = in_place_of_restic(old.path(), "echo restic 0.12.1 compiled")
    };
    let worker = Worker::configured(&mongod, &mongod, old_restic).await;
    let (_, why) = worker.refused(&Backup::default()).await;
    assert!(why.contains("0.12.1 is too old"), "{why}");
    assert_no_backup(&worker).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_cannot_be_reached_fails_the_backup_and_the_next_one_succeeds() {
    let mut gone = Mongod::replica_set().await;
    gone.kill();
    let worker = Worker::start(&gone, &gone).await;
    let (state, why) = worker.refused(&Backup::default()).await;
    assert!(state == State::Failed && why.contains("database"), "{state:?} {why}");
    assert_no_backup(&worker).await;
    let [failed] = store::list(&worker.bus).await.unwrap().try_into().unwrap();
    assert_eq!((failed.state, failed.components[0].state), (BackupState::Failed, BackupState::Failed));
    until(async || worker.signals().await.contains_key("backups_failed")).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_dies_in_the_midst_fails_the_backup() {
    let mut source = source().await;
    // Every batch takes a while, so that it dies while one is being read.
    let slow = doc! { "configureFailPoint": "waitInFindBeforeMakingBatch", "mode": "alwaysOn", "data": { "nss": "click.videos", "shouldCheckForInterrupt": true } };
    source.run("admin", slow).await;
    let worker = Worker::start(&source, &source).await;
    let id = worker.submit(&Backup::default()).await;
    until(async || {
        fs::exists(worker.data.path().join("backup/dump/dump/click/videos.bson")).unwrap()
            || waiting(&source).await
    })
    .await;
    source.kill();
    let ended = worker.ended(&id).await;
    assert_eq!(ended.state, State::Failed);
    assert!(ended.error.unwrap().contains("click.videos"));
    assert_no_backup(&worker).await;
    assert!(!worker.data.path().join("backup/dump").exists(), "what is left of the dump takes room");
    worker.stop().await;
}

/// Whether somebody hangs in the fail point.
async fn waiting(mongod: &Mongod) -> bool {
    let running = mongod.run("admin", doc! { "currentOp": 1, "ns": "click.videos" }).await;
    !running.get_array("inprog").unwrap().is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_election_in_the_midst_fails_the_backup_and_the_next_one_succeeds() {
    let source = source().await;
    let hang = doc! { "configureFailPoint": "waitInFindBeforeMakingBatch", "mode": "alwaysOn", "data": { "nss": "click.videos", "shouldCheckForInterrupt": true } };
    source.run("admin", hang).await;
    let target = Mongod::standalone().await;
    let worker = Worker::start(&source, &target).await;
    let id = worker.submit(&Backup::default()).await;
    until(async || waiting(&source).await).await;
    source.run("admin", doc! { "replSetStepDown": 1, "force": true }).await;
    source.run("admin", doc! { "configureFailPoint": "waitInFindBeforeMakingBatch", "mode": "off" }).await;
    let ended = worker.ended(&id).await;
    assert_eq!(ended.state, State::Failed, "{ended:?}");
    assert_no_backup(&worker).await;

    source.writable().await;
    let backup = worker.backup().await;
    worker.restore(&into_rehearsal(&backup.id)).await;
    assert_eq!(target.hashes("click", None).await, source.hashes("click", None).await);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_in_the_midst_fails_the_backup() {
    let source = source().await;
    let hang = doc! { "configureFailPoint": "waitInFindBeforeMakingBatch", "mode": "alwaysOn", "data": { "nss": "click.videos", "shouldCheckForInterrupt": true } };
    source.run("admin", hang).await;
    let worker = Worker::start(&source, &source).await;
    let id = worker.submit(&Backup::default()).await;
    until(async || waiting(&source).await).await;
    source.run("other", doc! { "create": "a" }).await;
    source.run("admin", doc! { "renameCollection": "other.a", "to": "other.b" }).await;
    source.run("admin", doc! { "configureFailPoint": "waitInFindBeforeMakingBatch", "mode": "off" }).await;
    let ended = worker.ended(&id).await;
    assert!(
        ended.state == State::Failed && ended.error.as_ref().unwrap().contains("renameCollection"),
        "{ended:?}"
    );
    assert_no_backup(&worker).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restic_that_is_killed_or_stores_less_fails_the_backup_and_the_next_one_succeeds() {
    let source = source().await;
    let (place, marker) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let script = format!(
        r#"mark={}
case "$*" in *backup*)
  if [ ! -e $mark/1 ]; then touch $mark/1; kill -9 $$; fi
  if [ ! -e $mark/2 ]; then touch $mark/2; rm -f dump/click/videos.metadata.json; fi
  if [ ! -e $mark/3 ]; then touch $mark/3; "$restic" "$@"; exit 3; fi ;;
esac
exec "$restic" "$@""#,
        marker.path().display()
    );
    let program = in_place_of_restic(place.path(), &script);
    let worker = Worker::configured(&source, &source, |config| config.restic = program).await;
    for says in ["killed", "was not stored", "not everything"] {
        // The second one finds a file less than there is, and the third one is told that something could not be read.
        if says == "was not stored" {
            fs::write(marker.path().join("3"), "").unwrap();
        }
        if says == "not everything" {
            fs::remove_file(marker.path().join("3")).unwrap();
        }
        let (state, why) = worker.refused(&Backup::default()).await;
        assert!(state == State::Failed && why.contains(says), "{says}: {state:?} {why}");
        assert_no_backup(&worker).await;
    }
    let backup = worker.backup().await;
    assert_eq!(manifests(&worker), [worker.data.path().join(format!("backups/{}.json", backup.id))]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_thing_is_done_at_a_time() {
    let source = source().await;
    let hang = doc! { "configureFailPoint": "waitInFindBeforeMakingBatch", "mode": "alwaysOn", "data": { "nss": "click.videos", "shouldCheckForInterrupt": true } };
    source.run("admin", hang).await;
    let worker = Worker::start(&source, &source).await;
    let first = worker.submit(&Backup::default()).await;
    until(async || waiting(&source).await).await;
    let (state, why) = worker.refused(&Backup::default()).await;
    assert!(state == State::Rejected && why.contains("under way"), "{state:?} {why}");
    source.run("admin", doc! { "configureFailPoint": "waitInFindBeforeMakingBatch", "mode": "off" }).await;
    assert_eq!(worker.ended(&first).await.state, State::Succeeded);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_makes_no_sense_is_refused_before_anything_is_changed() {
    let (source, target) = (source().await, Mongod::standalone().await);
    let worker = Worker::start(&source, &target).await;
    let id = worker.backup().await.id;
    target
        .client()
        .await
        .database("click")
        .collection("videos")
        .insert_one(doc! { "_id": "mine" })
        .await
        .unwrap();
    let before = target.hashes("click", None).await;
    let restore = || into_rehearsal(&id);
    for (command, says) in [
        (into_rehearsal("nothing"), "there is no backup \"nothing\""),
        (into_rehearsal("a.>"), "there is no backup"),
        (restore(), "click.videos already"),
        (Restore { drop: true, ..restore() }, "confirm"),
        (Restore { drop: true, confirm: Some("yes".into()), ..restore() }, "confirm"),
        (Restore { target: Some("elsewhere".into()), ..restore() }, "only rehearsal"),
        (Restore { namespaces: vec!["click".into()], ..restore() }, "no namespace"),
        (Restore { namespaces: vec!["nothing.*".into()], ..restore() }, "nothing in the backup"),
        (
            Restore { rename: [("click.videos".into(), "config.x".into())].into(), ..restore() },
            "MongoDB's own",
        ),
    ] {
        let (state, why) = worker.refused(&command).await;
        assert!(state == State::Rejected && why.contains(says), "{says}: {state:?} {why}");
    }
    assert_eq!(target.hashes("click", None).await, before);
    let confirmed = Restore { drop: true, confirm: Some(id.clone()), ..restore() };
    worker.restore(&confirmed).await;
    assert_eq!(target.hashes("click", None).await, source.hashes("click", None).await);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_repository_or_a_wrong_password_is_seen_before_anything_is_changed() {
    let (source, target) = (source().await, Mongod::standalone().await);
    let worker = Worker::start(&source, &target).await;
    let id = worker.backup().await.id;
    let packs: Vec<PathBuf> = packs(&worker.data.path().join("backups/data"));
    let largest = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    fs::set_permissions(largest, fs::Permissions::from_mode(0o600)).unwrap();
    let mut bytes = fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(largest, bytes).unwrap();
    let (state, why) = worker.refused(&into_rehearsal(&id)).await;
    assert_eq!(state, State::Rejected, "{why}");
    assert_eq!(target.hashes("click", None).await, Document::new());
    let kept = tempfile::tempdir().unwrap();
    fs::rename(worker.data.path().join("backups"), kept.path().join("backups")).unwrap();
    worker.stop().await;

    let repository = kept.path().join("backups").to_string_lossy().into_owned();
    let other = Worker::configured(&source, &target, |config| {
        config.repository = Some(Secret::from(repository));
        config.password = Some(Secret::from("wrong".to_owned()));
    })
    .await;
    let (state, why) = other.refused(&Backup::default()).await;
    assert!(state == State::Failed && why.contains("password is another one"), "{state:?} {why}");
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_are_found_in_the_repository_by_a_bus_that_never_heard_of_them() {
    let source = source().await;
    let worker = Worker::start(&source, &source).await;
    let backup = worker.backup().await;
    let repository = tempfile::tempdir().unwrap();
    fs::rename(worker.data.path().join("backups"), repository.path().join("moved")).unwrap();
    worker.stop().await;

    let moved = repository.path().join("moved").to_string_lossy().into_owned();
    let target = Mongod::standalone().await;
    let other =
        Worker::configured(&source, &target, |config| config.repository = Some(Secret::from(moved))).await;
    until(async || !store::list(&other.bus).await.unwrap().is_empty()).await;
    let [found] = store::list(&other.bus).await.unwrap().try_into().unwrap();
    assert_eq!((&found.id, &found.snapshot, found.window), (&backup.id, &backup.snapshot, backup.window));
    other.restore(&into_rehearsal("latest")).await;
    assert_eq!(target.hashes("click", None).await, source.hashes("click", None).await);
    other.stop().await;
}

fn packs(folder: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_backup_is_gone_and_the_others_stay_whole() {
    let (source, target) = (source().await, Mongod::standalone().await);
    let worker = Worker::start(&source, &target).await;
    let first = worker.backup().await;
    put(&source, 2_000, 4_000).await;
    let second = worker.backup().await;
    let delete = |id: &str| DeleteBackup { backup_id: id.to_owned() };
    for (id, says) in
        [(second.id.as_str(), "newest"), ("latest", "by its id"), ("nothing", "there is no backup")]
    {
        let (state, why) = worker.refused(&delete(id)).await;
        assert!(state == State::Rejected && why.contains(says), "{says}: {state:?} {why}");
    }
    assert_eq!(worker.asked(&delete(&first.id)).await.state, State::Succeeded);
    let left: Vec<String> =
        store::list(&worker.bus).await.unwrap().into_iter().map(|backup| backup.id).collect();
    assert_eq!(left, std::slice::from_ref(&second.id));
    assert_eq!(manifests(&worker), [worker.data.path().join(format!("backups/{}.json", second.id))]);
    worker.restore(&into_rehearsal(&second.id)).await;
    assert_eq!(target.hashes("click", None).await, source.hashes("click", None).await);
    worker.stop().await;
}
