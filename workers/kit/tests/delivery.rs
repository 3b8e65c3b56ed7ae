//! The delivery rules against a real server: publishing, following, consuming, while servers die and consumers vanish.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use keelson_kit::consume::{Burial, ConsumeOptions, Delivery, Handler};
use keelson_kit::failure::Failure;
use keelson_kit::follow::{Follow, FollowError, FollowOptions, Start};
use keelson_kit::publish::{Outgoing, PublishError};
use keelson_kit::retry::Schedule;
use keelson_kit::testing::NatsServer;
use support::{Seen, consumer, eventually, outgoing, prepared, publish_numbers, request};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn several_subjects_are_read_in_the_one_order_of_their_stream() {
    let (_server, bus) = prepared().await;
    for n in 1..=9 {
        let subject = ["keelson.evt.a.x", "keelson.evt.b.x", "keelson.evt.c.x"][n % 3];
        bus.publish(&outgoing(subject, &n.to_string())).await.unwrap();
    }
    let options = FollowOptions::new("EVENTS", "keelson.evt.a.x", Start::After(2)).and("keelson.evt.c.x");
    let mut follow = bus.follow(options);
    let mut read = Vec::new();
    while let Some(message) = follow.next_if_any().await.unwrap() {
        read.push(message.sequence);
    }
    assert_eq!(read, [3, 5, 6, 8, 9]);
}

#[tokio::test]
async fn what_is_published_twice_is_stored_once() {
    let (_server, bus) = prepared().await;
    let message = outgoing("keelson.evt.test.happened", "one");
    let (first, second) = (bus.publish(&message).await.unwrap(), bus.publish(&message).await.unwrap());
    assert!(!first.duplicate && second.duplicate);
    assert_eq!(first.sequence, second.sequence);
}

#[tokio::test]
async fn an_unexpected_last_sequence_and_a_subject_without_stream_have_types() {
    let (_server, bus) = prepared().await;
    let first = bus.publish(&outgoing("keelson.slice.3", "a").expecting(0)).await.unwrap();
    let stale = bus.publish(&outgoing("keelson.slice.3", "b").expecting(0)).await.unwrap_err();
    assert!(matches!(stale, PublishError::WrongLastSequence { expected: 0, .. }), "{stale}");
    let lost = outgoing("keelson.slice.3", "a").expecting(0);
    let again = bus.publish(&lost).await.unwrap_err();
    assert!(
        matches!(again, PublishError::WrongLastSequence { .. }),
        "the expectation is looked at before the id: {again}"
    );
    let found = bus.publish_or_find("SLICES", &lost, SOON).await.unwrap();
    assert_eq!(
        (found.sequence, found.duplicate),
        (first.sequence, true),
        "after a lost ack one's own is found"
    );
    let others = outgoing("keelson.slice.3", "b").expecting(0);
    assert!(bus.publish_or_find("SLICES", &others, SOON).await.is_err());
    assert!(bus.publish(&outgoing("keelson.slice.3", "c").expecting(first.sequence)).await.is_ok());
    let nowhere = bus.publish(&outgoing("nobody.listens", "d")).await.unwrap_err();
    assert!(matches!(nowhere, PublishError::Unavailable(_)), "{nowhere}");
    let large = Outgoing::new("keelson.evt.test.large", "e", "test.v1", vec![0; 9 << 20]);
    assert!(matches!(bus.publish(&large).await.unwrap_err(), PublishError::TooLarge(_)));
}

#[tokio::test]
async fn messages_on_several_subjects_have_one_writer_at_a_time() {
    const AMONG: &str = "keelson.evt.alerting.*";
    let (_server, bus) = prepared().await;
    bus.publish(&outgoing("keelson.evt.cdn.purged", "a")).await.unwrap();
    let fired = outgoing("keelson.evt.alerting.fired", "b").expecting_among(AMONG, 0);
    let first = bus.publish(&fired).await.unwrap();
    bus.publish(&outgoing("keelson.evt.cdn.purged", "c")).await.unwrap();

    let stale = outgoing("keelson.evt.alerting.resolved", "d").expecting_among(AMONG, 0);
    let refused = bus.publish(&stale).await.unwrap_err();
    assert!(matches!(refused, PublishError::WrongLastSequence { .. }), "{refused}");
    let next = outgoing("keelson.evt.alerting.resolved", "e").expecting_among(AMONG, first.sequence);
    let second = bus.publish(&next).await.unwrap();
    let again = bus.publish_or_find("EVENTS", &next, SOON).await.unwrap();
    assert_eq!((again.sequence, again.duplicate), (second.sequence, true), "its answer was lost");
    let last = bus.last_message("EVENTS", AMONG).await.unwrap().unwrap();
    assert_eq!((last.sequence, last.subject()), (second.sequence, "keelson.evt.alerting.resolved"));
}

#[tokio::test]
async fn publishing_while_the_server_is_away_fails_at_once_and_works_again_after() {
    let (mut server, bus) = prepared().await;
    server.kill();
    eventually("the loss is noticed", || !bus.is_connected()).await;
    let asked = Instant::now();
    let error = bus.publish(&outgoing("keelson.evt.test.happened", "away")).await.unwrap_err();
    assert!(matches!(error, PublishError::Unavailable(_)), "{error}");
    assert!(asked.elapsed() < Duration::from_millis(500), "it must not wait for an ack that cannot come");
    server.resume_after_kill().await.unwrap();
    let receipt = bus.publish_within(&outgoing("keelson.evt.test.happened", "away"), SOON).await.unwrap();
    assert_eq!(
        (receipt.sequence, receipt.duplicate),
        (1, false),
        "nothing was buffered and sent behind our back"
    );
}

#[tokio::test]
async fn following_goes_on_exactly_across_kills_of_the_server() {
    const MESSAGES: u64 = 3_000;
    let (mut server, bus) = prepared().await;
    let mut follow = bus.follow(FollowOptions::new("EVENTS", "keelson.evt.test.>", Start::After(0)));
    let publisher = tokio::spawn(publish_numbers(bus.clone(), MESSAGES));
    for expected in 1..=MESSAGES {
        if expected % 1_000 == 500 {
            server.kill();
            server.resume_after_kill().await.unwrap();
        }
        let message = tokio::time::timeout(2 * SOON, follow.next()).await.expect("it goes on").unwrap();
        assert_eq!((message.sequence, message.text().parse().ok()), (expected, Some(expected)));
    }
    publisher.await.unwrap();
    assert!(follow.next_if_any().await.unwrap().is_none());
    assert_eq!(follow.position(), MESSAGES);
}

#[tokio::test]
async fn following_goes_on_when_its_consumer_is_deleted() {
    let (server, bus) = prepared().await;
    let mut follow = bus.follow(FollowOptions::new("EVENTS", "keelson.evt.test.>", Start::After(0)));
    publish_numbers(bus.clone(), 10).await;
    for expected in 1..=5 {
        assert_eq!(follow.next().await.unwrap().sequence, expected);
    }
    let names: serde_json::Value = request(&server, "$JS.API.CONSUMER.NAMES.EVENTS", "").await;
    let deleted = names["consumers"].as_array().unwrap().iter().filter_map(|name| name.as_str());
    for name in deleted.filter(|name| name.starts_with("follow-")) {
        request(&server, &format!("$JS.API.CONSUMER.DELETE.EVENTS.{name}"), "").await;
    }
    for expected in 6..=10 {
        assert_eq!(follow.next().await.unwrap().sequence, expected, "messages in flight are not lost");
    }
    bus.publish(&outgoing("keelson.evt.test.n", "late")).await.unwrap();
    assert_eq!(tokio::time::timeout(SOON, follow.next()).await.unwrap().unwrap().sequence, 11);
}

#[tokio::test]
async fn a_stream_that_was_made_anew_is_not_taken_for_the_former_one() {
    let (server, bus) = prepared().await;
    publish_numbers(bus.clone(), 3).await;
    let mut follow = bus.follow(FollowOptions::new("EVENTS", "keelson.evt.test.>", Start::After(0)));
    for _ in 0..3 {
        follow.next().await.unwrap();
    }
    request(&server, "$JS.API.STREAM.DELETE.AUDIT", "").await;
    request(&server, "$JS.API.STREAM.DELETE.EVENTS", "").await;
    let _same_again = server.prepared_bus().await.unwrap();
    let error = tokio::time::timeout(SOON, follow.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, FollowError::Replaced { read: 3, .. }), "{error}");
}

#[tokio::test]
async fn a_filter_that_interleaves_loses_nothing_and_the_end_is_known() {
    let (_server, bus) = prepared().await;
    for n in 0..200_u64 {
        let subject = format!("keelson.tel.{}", n % 2);
        bus.publish(&outgoing(&subject, &n.to_string())).await.unwrap();
    }
    let mut follow = bus.follow(FollowOptions::new("TELEMETRY", "keelson.tel.1", Start::After(0)));
    let all = drain(&mut follow).await;
    assert_eq!(all, (0..200).filter(|n| n % 2 == 1).map(|n| n + 1).collect::<Vec<u64>>());
    assert!(follow.is_caught_up());
    let last = bus.last_message("TELEMETRY", "keelson.tel.1").await.unwrap().unwrap();
    assert_eq!(last.sequence, 200);
    assert_eq!(bus.purge_subject("TELEMETRY", "keelson.tel.1", 100).await.unwrap(), 50);
    assert_eq!(bus.message("TELEMETRY", 100).await.unwrap().map(|m| m.sequence), None);
    let next = bus.next_message("TELEMETRY", "keelson.tel.1", 1).await.unwrap().unwrap();
    assert_eq!(next.sequence, 102);
}

#[tokio::test]
async fn the_end_is_known_too_when_what_was_still_to_come_is_removed() {
    let (_server, bus) = prepared().await;
    publish_numbers(bus.clone(), 100).await;
    let options = FollowOptions::new("EVENTS", "keelson.evt.test.>", Start::After(0));
    let mut follow = bus.follow(FollowOptions { max_messages: 4, ..options });
    assert!(follow.next_if_any().await.unwrap().is_some());
    bus.purge_subject("EVENTS", "keelson.evt.test.>", 100).await.unwrap();
    let rest = tokio::time::timeout(SOON, drain(&mut follow)).await.expect("the end is found");
    assert!(rest.len() < 99, "{rest:?}");
}

async fn drain(follow: &mut Follow) -> Vec<u64> {
    let mut sequences = Vec::new();
    while let Some(message) = follow.next_if_any().await.unwrap() {
        sequences.push(message.sequence);
    }
    sequences
}

/// Fails as its message says, and remembers what it has seen.
#[derive(Clone, Default)]
struct Obedient {
    handled: Seen,
    buried: Seen,
    tries: Arc<AtomicU32>,
}

impl Handler for Obedient {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        let text = delivery.message.text().into_owned();
        match text.as_str() {
            "reject" => return Err(Failure::reject("it says so")),
            "panic" => panic!("it says so"),
            "twice" if delivery.attempt < 3 => return Err(Failure::retry("not yet")),
            "never" => return Err(Failure::retry("not today")),
            "slow" => tokio::time::sleep(Duration::from_secs(4)).await,
            _ => {}
        }
        self.handled.add(text);
        Ok(())
    }

    async fn buried(&self, _: &Delivery, burial: &Burial) -> Result<(), Failure> {
        self.buried.add(format!("{:?}", burial.kind));
        Ok(())
    }
}

fn options() -> ConsumeOptions {
    let retry = Schedule { first: Duration::from_millis(50), longest: Duration::from_millis(200) };
    ConsumeOptions { concurrency: 2, max_failures: 4, retry, ..ConsumeOptions::default() }
}

#[tokio::test]
async fn a_bad_message_does_not_block_good_ones_and_becomes_a_dead_letter() {
    let (server, bus) = prepared().await;
    let (tasks, handler) = support::consume(&bus, consumer(), options(), Obedient::default());
    for (n, text) in ["reject", "never", "panic", "a", "b", "twice", "c"].iter().enumerate() {
        bus.publish(&support::saying(text, n)).await.unwrap();
    }
    eventually("all are handled or buried", || handler.handled.len() == 4 && handler.buried.len() == 3).await;
    assert_eq!(handler.handled.sorted(), ["a", "b", "c", "twice"]);
    assert_eq!(handler.buried.sorted(), ["Exhausted", "Exhausted", "Rejected"]);
    let letters = bus.dead_letters(0, 10).await.unwrap();
    let mut reasons: Vec<_> =
        letters.iter().map(|found| (found.letter.sequence, found.letter.reason.clone())).collect();
    reasons.sort();
    assert_eq!(reasons[0], (1, "it says so".into()));
    assert!(reasons[1].1.contains("given up after 4 failures, the last: not today"), "{reasons:?}");
    assert!(reasons[2].1.contains("panicked: it says so"), "{reasons:?}");
    let rejected = letters.iter().find(|found| found.letter.sequence == 1).unwrap();
    assert_eq!(&rejected.letter.payload[..], b"reject");
    assert_eq!(rejected.letter.attempts, 1);
    assert!(rejected.letter.headers.iter().any(|(name, _)| name == "ce-id"));
    eventually_settled(&server).await;
    tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn long_work_is_not_delivered_twice() {
    let (server, bus) = prepared().await;
    let (tasks, handler) = support::consume(&bus, consumer(), options(), Obedient::default());
    for n in 0..3 {
        bus.publish(&support::saying("slow", n)).await.unwrap();
    }
    support::within(Duration::from_secs(15), "all three are done", || handler.handled.len() == 3).await;
    eventually_settled(&server).await;
    assert_eq!(handler.tries.load(Ordering::SeqCst), 3, "the ack wait is two seconds, the work takes four");
    tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn work_resumes_after_consumer_stream_and_server_are_lost() {
    let (mut server, bus) = prepared().await;
    let (tasks, handler) = support::consume(&bus, consumer(), options(), Obedient::default());
    let goes_on = async |what: &str, n: usize| {
        bus.publish_within(&support::saying(what, n), SOON).await.unwrap();
        eventually(what, || handler.handled.contains(what)).await;
    };
    goes_on("at first", 0).await;
    request(&server, "$JS.API.CONSUMER.DELETE.EVENTS.test", "").await;
    goes_on("without the consumer", 1).await;
    request(&server, "$JS.API.STREAM.DELETE.AUDIT", "").await;
    request(&server, "$JS.API.STREAM.DELETE.EVENTS", "").await;
    let _same_again = server.prepared_bus().await.unwrap();
    goes_on("with another stream", 2).await;
    server.kill();
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.resume_after_kill().await.unwrap();
    goes_on("after the server was killed", 3).await;
    tasks.shutdown(SOON).await;
}

/// Stands for a process that is killed in the midst of its work: it never answers, and goes away with its tasks.
#[derive(Clone)]
struct Crashing(Arc<AtomicU32>);

impl Handler for Crashing {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        if delivery.message.text() == "deadly" {
            self.0.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_message_that_kills_its_worker_three_times_is_passed_over() {
    let (_server, bus) = prepared().await;
    bus.publish(&support::saying("deadly", 0)).await.unwrap();
    let begun = Arc::new(AtomicU32::new(0));
    for kills in 1..=3 {
        let (tasks, _) = support::consume(&bus, consumer(), options(), Crashing(begun.clone()));
        support::within(Duration::from_secs(10), "it begins", || begun.load(Ordering::SeqCst) == kills).await;
        tasks.shutdown(Duration::ZERO).await;
    }
    let (tasks, handler) = support::consume(&bus, consumer(), options(), Obedient::default());
    bus.publish(&support::saying("good", 1)).await.unwrap();
    support::within(Duration::from_secs(10), "the deadly one is buried", || handler.buried.len() == 1).await;
    assert_eq!(handler.buried.sorted(), ["Crashed"]);
    assert_eq!(handler.handled.sorted(), ["good"], "it is not even tried a fourth time");
    let letters = bus.dead_letters(0, 10).await.unwrap();
    assert_eq!(letters[0].letter.reason, "crashed the worker three times");
    tasks.shutdown(SOON).await;
}

/// Nothing is under way or waiting on the consumer: every message was acknowledged or terminated.
async fn eventually_settled(server: &NatsServer) {
    let until = Instant::now() + SOON;
    loop {
        let info = support::consumer_info(server).await;
        if info["num_ack_pending"] == 0 && info["num_pending"] == 0 {
            return;
        }
        assert!(Instant::now() < until, "not settled: {info}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_first_connection_says_what_is_wrong() {
    use keelson_kit::bus::{Bus, BusOptions, ConnectError};
    let nobody =
        BusOptions { connect_within: None, ..BusOptions::new("nats://u:secret@127.0.0.1:1", "test") };
    let said = Bus::connect(nobody).await.unwrap_err();
    assert!(
        matches!(said, ConnectError::Unreachable { .. }) && !said.to_string().contains("secret"),
        "{said}"
    );
    let server = NatsServer::start().await.unwrap();
    assert!(server.bus().await.unwrap().is_connected());
}
