//! A database with collections of many shapes, and somebody who changes it all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bson::{Bson, DateTime, Document, Timestamp, doc};
use mongodb::Client;
use tokio::task::JoinHandle;

use crate::mongod::Mongod;

/// The databases that [`fill`] makes.
pub const DATABASES: [&str; 2] = ["click", "other"];
/// The database in which a [`Writer`] makes and drops collections, each with documents of one round alone.
pub const PASSING: &str = "passing";
/// So many.
pub const PASSING_DOCUMENTS: i32 = 20;

/// Makes collections with indexes, options and names of every kind.
pub async fn fill(mongod: &Mongod, documents: i32) {
    let client = mongod.client().await;
    let click = client.database("click");
    for create in creates() {
        click.run_command(create).await.unwrap();
    }
    for (collection, indexes) in indexes() {
        click.run_command(doc! { "createIndexes": collection, "indexes": indexes }).await.unwrap();
    }
    let videos = (0..documents).map(video);
    click.collection::<Document>("videos").insert_many(videos).await.unwrap();
    for name in ["with/slash and space", "ümläut", "a".repeat(235).as_str(), "sorted", "capped", "checked"]
    {
        let some = (0..50).map(|n| doc! { "_id": n, "name": format!("n{n}"), "n": n, "even": n % 2 == 0 });
        click.collection::<Document>(name).insert_many(some).await.unwrap();
    }
    let at = DateTime::from_millis(1_764_000_000_000);
    let points = (0..200).map(|n| doc! { "at": DateTime::from_millis(at.timestamp_millis() + n * 60_000), "meta": (n % 3) as i32, "v": n });
    click.collection::<Document>("series").insert_many(points).await.unwrap();
    empty_timestamp(&client).await;
    client
        .database("other")
        .collection::<Document>("things")
        .insert_one(doc! { "_id": 1, "x": Bson::Null })
        .await
        .unwrap();
    let user =
        doc! { "createUser": "reader", "pwd": "secret", "roles": [{ "role": "clicker", "db": "admin" }] };
    let role = doc! { "createRole": "clicker", "roles": [], "privileges": [{ "resource": { "db": "click", "collection": "" }, "actions": ["find"] }] };
    client.database("admin").run_command(role).await.unwrap();
    client.database("admin").run_command(user).await.unwrap();
}

fn creates() -> Vec<Document> {
    vec![
        doc! { "create": "capped", "capped": true, "size": 65_536, "max": 1_000 },
        doc! { "create": "sorted", "collation": { "locale": "de", "strength": 2 } },
        doc! { "create": "checked", "validator": { "n": { "$gte": 0 } }, "validationLevel": "strict" },
        doc! { "create": "series", "timeseries": { "timeField": "at", "metaField": "meta", "granularity": "minutes" }, "expireAfterSeconds": 100_000_000_i64 },
        doc! { "create": "clustered", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } },
        doc! { "create": "empty" },
        doc! { "create": "good_videos", "viewOn": "videos", "pipeline": [{ "$match": { "even": true } }], "collation": { "locale": "de" } },
        doc! { "create": "a_view_of_a_view", "viewOn": "good_videos", "pipeline": [], "collation": { "locale": "de" } },
    ]
}

fn indexes() -> Vec<(&'static str, Vec<Document>)> {
    vec![
        (
            "videos",
            vec![
                doc! { "key": { "z": 1, "a": -1 }, "name": "z_a" },
                doc! { "key": { "title": "text", "tags": "text" }, "name": "words", "weights": { "title": 5 }, "default_language": "german" },
                doc! { "key": { "place": "2dsphere" }, "name": "place" },
                doc! { "key": { "n": "hashed" }, "name": "hashed" },
                doc! { "key": { "$**": 1 }, "name": "all", "wildcardProjection": { "n": 0 } },
                doc! { "key": { "at": 1 }, "name": "old", "expireAfterSeconds": 100_000_000 },
                doc! { "key": { "n": 1 }, "name": "partial", "unique": true, "partialFilterExpression": { "n": { "$gte": 5 } } },
                doc! { "key": { "tags": 1 }, "name": "hidden", "hidden": true, "sparse": true },
            ],
        ),
        ("sorted", vec![doc! { "key": { "name": 1 }, "name": "by_name", "unique": true }]),
        ("series", vec![doc! { "key": { "meta": 1, "at": -1 }, "name": "meta_at" }]),
    ]
}

fn video(n: i32) -> Document {
    doc! {
        "_id": n, "n": n, "even": n % 2 == 0, "z": n % 7, "a": n % 11, "title": format!("Film {n}"), "tags": ["a", format!("t{}", n % 5)],
        "at": DateTime::from_millis(1_764_000_000_000 + i64::from(n)), "place": { "type": "Point", "coordinates": [f64::from(n % 90), 5.0] },
        "in": { "depth": { "list": [n, Bson::Null, 1.5, i64::MAX] } },
    }
}

/// An insert would fill it in.
async fn empty_timestamp(client: &Client) {
    let document = doc! { "_id": 1, "at": Timestamp { time: 0, increment: 0 } };
    let update =
        doc! { "q": { "_id": 1 }, "u": [{ "$replaceWith": { "$literal": document } }], "upsert": true };
    client.database("click").run_command(doc! { "update": "stamps", "updates": [update] }).await.unwrap();
}

/// Somebody who inserts, updates and deletes, alone and in transactions, makes and drops collections, indexes and views, until stopped.
pub struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Writer {
    /// Begins.
    pub async fn start(mongod: &Mongod) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (client, stopped) = (mongod.client().await, stop.clone());
        let task = tokio::spawn(async move {
            let mut rounds = 0;
            while !stopped.load(Ordering::Relaxed) {
                round(&client, rounds).await;
                rounds += 1;
            }
            rounds
        });
        Self { stop, task }
    }

    /// Ends; how many rounds there were.
    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn round(client: &Client, n: u64) {
    let click = client.database("click");
    let videos = click.collection::<Document>("videos");
    let id = 1_000_000 + i32::try_from(n).unwrap();
    videos.insert_one(video(id)).await.unwrap();
    videos.update_one(doc! { "_id": id }, doc! { "$set": { "in.depth.list.1": id, "new": 1 }, "$unset": { "z": 1 }, "$push": { "tags": "x" } }).await.unwrap();
    videos.update_one(doc! { "_id": id % 100 }, doc! { "$inc": { "seen": 1 } }).await.unwrap();
    videos.delete_one(doc! { "_id": id - 20 }).await.unwrap();
    click.collection::<Document>("capped").insert_one(doc! { "_id": 1_000 + id }).await.unwrap();
    let at = DateTime::from_millis(1_764_000_000_000 + i64::from(id));
    click
        .collection::<Document>("series")
        .insert_one(doc! { "at": at, "meta": id % 3, "v": id })
        .await
        .unwrap();
    transaction(client, id).await;
    if n.is_multiple_of(5) {
        structure(client, id).await;
    }
}

async fn transaction(client: &Client, id: i32) {
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let things = client.database("other").collection::<Document>("things");
    let videos = client.database("click").collection::<Document>("videos");
    things.insert_one(doc! { "_id": id, "pair": true }).session(&mut session).await.unwrap();
    videos
        .update_one(doc! { "_id": id }, doc! { "$set": { "pair": true } })
        .session(&mut session)
        .await
        .unwrap();
    if id % 4 == 0 {
        session.abort_transaction().await.unwrap();
    } else {
        session.commit_transaction().await.unwrap();
    }
}

/// In a database of its own: of the past of what was dropped or changed in its structure there is no hash.
async fn structure(client: &Client, id: i32) {
    let passing = client.database(PASSING);
    let name = format!("passing_{}", id % 3);
    passing.collection::<Document>(&name).drop().await.unwrap();
    let documents = (0..PASSING_DOCUMENTS).map(|n| doc! { "_id": n, "of": id });
    passing.collection::<Document>(&name).insert_many(documents).await.unwrap();
    let index = doc! { "key": { "of": 1, "id": -1 }, "name": "of" };
    passing.run_command(doc! { "createIndexes": &name, "indexes": [index] }).await.unwrap();
    let change = doc! { "collMod": &name, "index": { "name": "of", "hidden": true } };
    passing.run_command(change).await.unwrap();
    let view = format!("view_{}", id % 2);
    passing.collection::<Document>(&view).drop().await.unwrap();
    let create = doc! { "create": &view, "viewOn": &name, "pipeline": [{ "$match": { "of": id } }] };
    passing.run_command(create).await.unwrap();
}
