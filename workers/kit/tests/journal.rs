//! A journal on a real nats-server: who comes second is told so, and a lost answer is no second entry.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use keelson_kit::bus::Bus;
use keelson_kit::journal::{Commit, Journal};
use support::{outgoing, prepared};

const AMONG: &str = "keelson.evt.alerting.*";

fn journal(bus: &Bus) -> Journal {
    Journal::after(bus, "EVENTS", AMONG, 0)
}

async fn commit(journal: &mut Journal, id: &str, epoch: u64) -> Commit {
    let fact = if id.len().is_multiple_of(2) { "fired" } else { "resolved" };
    journal.commit(outgoing(&format!("keelson.evt.alerting.{fact}"), id), epoch).await
}

#[tokio::test]
async fn of_two_writers_one_commits_and_the_other_is_told_what_it_is() {
    let (_server, bus) = prepared().await;
    let (mut old, mut new) = (journal(&bus), journal(&bus));
    assert!(matches!(commit(&mut new, "a", 2).await, Commit::Done(_)));
    assert_eq!(commit(&mut old, "bb", 1).await, Commit::Fenced { epoch: 2 });
    assert_eq!(commit(&mut journal(&bus), "bb", 3).await, Commit::Overtaken, "an older writer came first");
    let mut again = journal(&bus);
    assert_eq!(commit(&mut again, "a", 2).await, Commit::Done(new.last()), "the answer was lost");
    assert!(matches!(commit(&mut new, "cc", 2).await, Commit::Done(_)));
    assert_eq!(bus.stream_info("EVENTS").await.unwrap().messages, 2);
}

#[tokio::test]
async fn a_successor_reads_on_where_a_checkpoint_ends() {
    let (_server, bus) = prepared().await;
    let mut first = journal(&bus);
    for id in ["a", "bb", "ccc"] {
        assert!(matches!(commit(&mut first, id, 1).await, Commit::Done(_)));
    }
    let mut next = Journal::after(&bus, "EVENTS", AMONG, 1);
    assert_eq!(next.end().await.unwrap(), 3);
    let mut inbox = next.follow();
    let mut read = Vec::new();
    while let Some(message) = inbox.next_if_any().await.unwrap() {
        read.push(message.text().into_owned());
        next.read(message.sequence);
    }
    assert_eq!(read, ["bb", "ccc"]);
    assert!(matches!(commit(&mut next, "dddd", 2).await, Commit::Done(4)));
    assert_eq!(commit(&mut first, "e", 1).await, Commit::Fenced { epoch: 2 });
}

#[tokio::test]
async fn a_server_that_is_away_leaves_it_open_whether_an_entry_stands() {
    let (mut server, bus) = prepared().await;
    let mut writer = journal(&bus);
    server.kill();
    assert!(matches!(commit(&mut writer, "a", 1).await, Commit::Unanswered(_)));
    server.resume_after_kill().await.unwrap();
    bus.connected().await;
    assert!(matches!(commit(&mut writer, "a", 1).await, Commit::Done(1)));
}
