//! What is backed up is restored as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bson::{Document, Timestamp, doc};
use futures::TryStreamExt;
use keelson_schemas::backup::{BackupState, Restore};
use mongodb::Client;

use crate::fixture::{Worker, into_rehearsal};
use crate::mongod::Mongod;
use crate::shapes::{self, DATABASES, PASSING, PASSING_DOCUMENTS, Writer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_under_live_writes_is_restored_as_it_was_at_one_moment() {
    let (source, target) = (Mongod::replica_set().await, Mongod::replica_set().await);
    shapes::fill(&source, 3_000).await;
    let writer = Writer::start(&source).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let worker = Worker::start(&source, &target).await;
    let backup = worker.backup().await;
    assert!(writer.stop().await > 0);

    assert_eq!(backup.state, BackupState::Complete);
    let to = backup.window.unwrap().to;
    let report = worker.restore(&into_rehearsal(&backup.id)).await;
    assert_eq!(report.restored_to, Some(to));
    assert!(report.oplog_entries > 0, "nothing was written during the dump: {report:?}");
    let at = Timestamp { time: to.seconds, increment: to.increment };
    for database in DATABASES {
        assert_eq!(
            target.hashes(database, None).await,
            source.hashes(database, Some(at)).await,
            "{database}"
        );
    }
    check_passing(&target).await;
    worker.stop().await;
}

/// What was made and dropped all the time is as it was at one moment, too.
async fn check_passing(mongod: &Mongod) {
    let database = mongod.client().await.database(PASSING);
    let mut rounds = BTreeSet::new();
    for n in 0..3 {
        let collection = database.collection::<Document>(&format!("passing_{n}"));
        let documents: Vec<Document> = collection.find(doc! {}).await.unwrap().try_collect().await.unwrap();
        let of: BTreeSet<i32> = documents.iter().map(|document| document.get_i32("of").unwrap()).collect();
        assert!(of.len() <= 1 && documents.len() <= PASSING_DOCUMENTS as usize, "{documents:?}");
        rounds.extend(of);
    }
    assert!(!rounds.is_empty(), "nothing of it was restored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_indexes_users_and_roles_come_back() {
    let (source, target) = (Mongod::replica_set().await, Mongod::replica_set().await);
    shapes::fill(&source, 500).await;
    let worker = Worker::start(&source, &target).await;
    let backup = worker.backup().await;
    let report = worker.restore(&into_rehearsal("latest")).await;
    assert_eq!(report.backup_id, backup.id);
    for database in DATABASES {
        assert_eq!(target.hashes(database, None).await, source.hashes(database, None).await, "{database}");
        assert_eq!(structure(&target, database).await, structure(&source, database).await, "{database}");
    }
    let users = async |mongod: &Mongod| {
        mongod
            .run("admin", doc! { "usersInfo": 1, "showCredentials": true })
            .await
            .get_array("users")
            .unwrap()
            .clone()
    };
    assert_eq!(users(&target).await, users(&source).await);
    let roles = async |mongod: &Mongod| {
        mongod
            .run("admin", doc! { "rolesInfo": 1, "showPrivileges": true })
            .await
            .get_array("roles")
            .unwrap()
            .clone()
    };
    assert_eq!(roles(&target).await, roles(&source).await);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_an_oplog_is_restored_as_it_was_read() {
    let (source, target) = (Mongod::standalone().await, Mongod::standalone().await);
    shapes::fill(&source, 500).await;
    let worker = Worker::start(&source, &target).await;
    let backup = worker.backup().await;
    assert_eq!(backup.window, None);
    worker.restore(&into_rehearsal(&backup.id)).await;
    for database in DATABASES {
        assert_eq!(target.hashes(database, None).await, source.hashes(database, None).await, "{database}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_namespaces_are_restored_under_other_names_beside_what_is_there() {
    let (source, other) = (Mongod::replica_set().await, Mongod::standalone().await);
    shapes::fill(&source, 100).await;
    let worker = Worker::start(&source, &other).await;
    let backup = worker.backup().await;
    let before = source.hashes("click", None).await;
    let restore = Restore {
        backup_id: backup.id.clone(),
        namespaces: vec!["click.*".into()],
        rename: [("click.*".to_owned(), "rehearsal.*".to_owned())].into(),
        ..Restore::default()
    };
    worker.restore(&restore).await;
    assert_eq!(source.hashes("click", None).await, before);
    let mut restored = source.hashes("rehearsal", None).await;
    // Its entries name their database.
    let mut expected = before;
    restored.remove("system.views");
    expected.remove("system.views");
    assert_eq!(restored, expected);
    let names = source.client().await.list_database_names().await.unwrap();
    assert!(names.contains(&"rehearsal".to_owned()), "{names:?}");

    source.client().await.database("click").collection::<Document>("videos").drop().await.unwrap();
    let again = Restore {
        backup_id: backup.id.clone(),
        namespaces: vec!["click.*".into()],
        drop: true,
        confirm: Some(backup.id.clone()),
        ..Restore::default()
    };
    worker.restore(&again).await;
    assert_eq!(structure(&source, "click").await.len(), structure(&source, "rehearsal").await.len());
    worker.stop().await;
}

/// Every collection of a database with its options and its indexes.
async fn structure(mongod: &Mongod, database: &str) -> BTreeMap<String, (Document, Vec<String>)> {
    let client: Client = mongod.client().await;
    let database = client.database(database);
    let listed =
        mongod.run(database.name(), doc! { "listCollections": 1, "cursor": { "batchSize": 1_000 } }).await;
    let mut structure = BTreeMap::new();
    for collection in listed.get_document("cursor").unwrap().get_array("firstBatch").unwrap() {
        let collection = collection.as_document().unwrap();
        let name = collection.get_str("name").unwrap();
        let indexes = if collection.get_str("type").unwrap() == "view" {
            Vec::new()
        } else {
            let cursor = database.collection::<Document>(name).list_indexes().await.unwrap();
            let mut indexes: Vec<String> = cursor
                .try_collect::<Vec<_>>()
                .await
                .unwrap()
                .iter()
                .map(|index| format!("{:?} {:?}", index.keys, index.options))
                .collect();
            indexes.sort();
            indexes
        };
        structure.insert(name.to_owned(), (collection.get_document("options").unwrap().clone(), indexes));
    }
    structure
}
