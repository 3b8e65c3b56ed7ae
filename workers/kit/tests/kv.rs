//! Compare-and-set in KV buckets against a real server, lost answers included.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use keelson_kit::bus::{Bus, BusOptions};
use keelson_kit::kv::{Kv, KvError};
use support::prepared;
use support::proxy::Proxy;

const BUCKET: &str = "registers";

#[tokio::test]
async fn one_of_two_writers_wins() {
    let (_server, bus) = prepared().await;
    let kv = bus.kv(BUCKET);
    let first = kv.create("a.b", &1).await.unwrap();
    let lost = kv.create("a.b", &2).await.unwrap_err();
    assert_eq!(lost, KvError::Conflict { key: "a.b".into(), revision: first });
    let second = kv.update("a.b", &3, first).await.unwrap();
    assert!(
        matches!(kv.update("a.b", &4, first).await, Err(KvError::Conflict { revision, .. }) if revision == second)
    );
    assert_eq!(
        kv.get::<i32>("a.b").await.unwrap().map(|entry| (entry.revision, entry.value)),
        Some((second, 3))
    );
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_can_be_made_again() {
    let (server, bus) = prepared().await;
    let kv = bus.kv(BUCKET);
    assert_eq!(kv.get::<i32>("k").await.unwrap(), None);
    let revision = kv.create("k", &1).await.unwrap();
    assert!(kv.delete("k", Some(revision + 1)).await.is_err());
    kv.delete("k", Some(revision)).await.unwrap();
    assert_eq!(kv.get::<i32>("k").await.unwrap(), None);
    assert_eq!(kv.list(">", 10).await.unwrap(), []);
    kv.create("k", &2).await.unwrap();
    // A foreign client sees the same.
    let foreign = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let store = foreign.get_key_value(BUCKET).await.unwrap();
    assert_eq!(store.get("k").await.unwrap().unwrap()[..], [2]);
    store.delete("k").await.unwrap();
    assert_eq!(kv.get::<i32>("k").await.unwrap(), None);
    kv.create("k", &3).await.unwrap();
}

#[tokio::test]
async fn who_wrote_the_guard_last_is_the_one_writer_of_what_it_guards() {
    let (_server, bus) = prepared().await;
    let kv = bus.kv(BUCKET);
    let first = kv.create("guard", &1).await.unwrap();
    kv.put_bytes_guarded("a", "one", "guard", first).await.unwrap();
    kv.put_bytes_guarded("a", "two", "guard", first).await.unwrap();
    let second = kv.update("guard", &2, first).await.unwrap();
    for key in ["a", "new"] {
        let late = kv.put_bytes_guarded(key, "late", "guard", first).await;
        assert!(matches!(late, Err(KvError::Conflict { .. })), "{late:?}");
    }
    kv.put_bytes_guarded("b", "three", "guard", second).await.unwrap();
    assert_eq!(&kv.get_bytes("a").await.unwrap().unwrap().value[..], b"two");
    assert_eq!(kv.get_bytes("new").await.unwrap(), None);
}

#[tokio::test]
async fn a_watch_shows_what_is_there_and_what_changes() {
    let (mut server, bus) = prepared().await;
    let kv = bus.kv(BUCKET);
    kv.put("a.x", &1).await.unwrap();
    kv.put("b.x", &2).await.unwrap();
    let mut watch = kv.watch("a.*");
    let there = watch.next_if_any().await.unwrap().unwrap();
    assert_eq!(
        (there.key.as_str(), there.decode::<i32>().unwrap().map(|entry| entry.value)),
        ("a.x", Some(1))
    );
    assert_eq!(watch.next_if_any().await.unwrap(), None);
    server.kill();
    server.resume_after_kill().await.unwrap();
    kv.put("a.y", &3).await.unwrap();
    kv.delete("a.x", None).await.unwrap();
    let change = watch.next().await.unwrap();
    assert_eq!((change.key.as_str(), change.value.is_some()), ("a.y", true));
    let change = watch.next().await.unwrap();
    assert_eq!((change.key.as_str(), change.value), ("a.x", None));
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_known_to_be_ones_own() {
    let (server, _bus) = prepared().await;
    let proxy = Proxy::to(&server.url()).await;
    let bus = Bus::connect(BusOptions::new(&proxy.url, "test")).await.unwrap();
    let kv = bus.kv(BUCKET);
    let revision = kv.create("k", &1).await.unwrap();
    proxy.mute();
    let (written, ()) = tokio::join!(kv.update("k", &2, revision), async {
        until_stored(&server.bus().await.unwrap().kv(BUCKET), 2).await;
        proxy.cut();
    });
    assert_eq!(written, Ok(revision + 1), "it is written once, and not reported as a conflict with itself");
    proxy.mute();
    let (created, ()) = tokio::join!(kv.create("new", &5), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        proxy.cut();
    });
    assert_eq!(created, Ok(revision + 2));
}

#[tokio::test]
async fn a_write_that_is_lost_while_another_writes_is_a_conflict() {
    let (server, other) = prepared().await;
    let proxy = Proxy::to(&server.url()).await;
    let bus = Bus::connect(BusOptions::new(&proxy.url, "test")).await.unwrap();
    let kv = bus.kv(BUCKET);
    let revision = kv.create("k", &1).await.unwrap();
    let other = other.kv(BUCKET);
    proxy.mute();
    let (written, ()) = tokio::join!(kv.update("k", &2, revision), async {
        until_stored(&other, 2).await;
        other.update("k", &3, revision + 1).await.unwrap();
        proxy.cut();
    });
    assert!(
        matches!(written, Err(KvError::Conflict { revision: now, .. }) if now == revision + 2),
        "{written:?}"
    );
}

#[tokio::test]
async fn keys_and_values_that_cannot_be_are_refused() {
    let (_server, bus) = prepared().await;
    for key in ["", ".a", "a.", "a..b", "a b", "a*", ">", "ü"] {
        assert!(matches!(bus.kv(BUCKET).put(key, &1).await, Err(KvError::Refused { .. })), "{key:?}");
    }
    let large = bus.kv(BUCKET).put_bytes("k", vec![0; 1 << 20]).await;
    assert!(matches!(large, Err(KvError::Refused { .. })), "{large:?}");
    bus.kv(BUCKET).put("k", &"text").await.unwrap();
    assert!(matches!(bus.kv(BUCKET).get::<i32>("k").await, Err(KvError::Unreadable { .. })));
    let absent = bus.kv("no-such-bucket").get::<i32>("k").await;
    assert!(matches!(absent, Err(KvError::Refused { .. })), "{absent:?}");
}

async fn until_stored(kv: &Kv, value: i32) {
    while kv.get::<i32>("k").await.unwrap().map(|entry| entry.value) != Some(value) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_is_purged_leaves_nothing_behind_and_what_was_written_since_stays() {
    let (_server, bus) = prepared().await;
    let kv = bus.kv(BUCKET);
    let first = kv.create("a.b", &1).await.unwrap();
    let second = kv.update("a.b", &2, first).await.unwrap();
    kv.purge("a.b", first).await.unwrap();
    assert_eq!(kv.get::<i32>("a.b").await.unwrap().map(|entry| entry.value), Some(2));
    assert_eq!(kv.purge("a.b", second).await.unwrap(), 1);
    assert_eq!(bus.stream_info(&format!("KV_{BUCKET}")).await.unwrap().messages, 0);
    assert!(matches!(kv.purge("a b", 1).await, Err(KvError::Refused { .. })));
}
