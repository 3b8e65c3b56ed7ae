//! The life of commands against a real server: announced and by hand, obeyed, rejected, lost half-way, redriven.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use keelson_kit::bus::Bus;
use keelson_kit::command::{Attempt, CommandHandler, Commands};
use keelson_kit::consume::ConsumeOptions;
use keelson_kit::failure::Failure;
use keelson_kit::operations::{Submission, SubmitError};
use keelson_kit::publish::fresh_id;
use keelson_kit::retry::Schedule;
use keelson_kit::role::{Context, Role};
use keelson_kit::steward::{Steward, StewardConfig};
use keelson_kit::testing::context;
use keelson_schemas::dead_letter::{DeadLetters, ListDeadLetters};
use keelson_schemas::message::{Command, Message};
use keelson_schemas::operation::{Operation, OperationRecord, State};
use support::prepared;

const SOON: Duration = Duration::from_secs(5);

#[derive(Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Count {
    n: u32,
}

impl Message for Count {
    const TYPE: &'static str = "keelson.test.count.v1";
    fn example() -> Self {
        Self { n: 1 }
    }
}

impl Command for Count {
    const WORKER: &'static str = "metrics";
    const VERB: &'static str = "count";
}

/// 7 succeeds at the second attempt, 13 is refused, 55 takes a while, 99 stops in the midst, anything else succeeds.
#[derive(Clone, Default)]
struct Counter<const REPEATABLE: bool>(Arc<AtomicU32>);

impl<const REPEATABLE: bool> CommandHandler for Counter<REPEATABLE> {
    type Command = Count;
    type Outcome = u32;
    const REPEATABLE: bool = REPEATABLE;

    async fn run(&self, command: Count, attempt: &Attempt) -> Result<u32, Failure> {
        let effects = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        attempt.progress(1, Some(2), "steps").await;
        match (command.n, attempt.number) {
            (7, 1) => Err(Failure::retry("not at first")),
            (13, _) => Err(Failure::reject("thirteen")),
            (55, _) => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(effects)
            }
            (99, _) => std::future::pending().await,
            _ => Ok(effects),
        }
    }
}

fn obeying<const R: bool>(bus: &Bus) -> (Context, Counter<R>) {
    let (ctx, counter) = (context(bus), Counter::default());
    let retry = Schedule { first: Duration::from_millis(50), longest: Duration::from_millis(200) };
    let options = ConsumeOptions { retry, ..ConsumeOptions::default() };
    ctx.obey(Commands::of("metrics").options(options).with(counter.clone())).unwrap();
    (ctx, counter)
}

fn asking(n: u32) -> Submission {
    Submission::of(fresh_id(), &Count { n }, "alice").unwrap()
}

async fn finished(bus: &Bus, id: &str) -> Operation {
    let mut watch = bus.operations().watch(id);
    let end = tokio::time::timeout(3 * SOON, watch.finished()).await.expect("it ends");
    end.unwrap().expect("it has a record")
}

#[tokio::test]
async fn a_command_is_accepted_runs_and_succeeds() {
    let (_server, bus) = prepared().await;
    let submission = asking(7);
    let accepted = bus.operations().submit(&submission).await.unwrap();
    assert_eq!((accepted.state, accepted.kind.as_str()), (State::Accepted, "metrics.count"));
    let (ctx, counter) = obeying::<true>(&bus);
    let done = finished(&bus, &submission.id).await;
    assert_eq!((done.state, done.attempts, done.requested_by.as_str()), (State::Succeeded, 2, "alice"));
    assert_eq!((done.result, done.error), (Some(2.into()), None));
    assert_eq!(done.progress.map(|progress| progress.done), Some(1));
    let again = bus.operations().submit(&submission).await.unwrap();
    assert_eq!(
        (again.state, counter.0.load(Ordering::SeqCst)),
        (State::Succeeded, 2),
        "asked again, not done again"
    );
    ctx.tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn the_same_key_with_another_body_is_a_conflict() {
    let (_server, bus) = prepared().await;
    let first = asking(1);
    bus.operations().submit(&first).await.unwrap();
    let other = Submission { body: asking(2).body, ..first.clone() };
    let error = bus.operations().submit(&other).await.unwrap_err();
    assert!(matches!(error, SubmitError::OtherBody { .. }), "{error}");
    let large = Submission { body: vec![0; 1_000_001].into(), ..asking(1) };
    assert!(matches!(bus.operations().submit(&large).await.unwrap_err(), SubmitError::TooLarge(_)));
}

#[tokio::test]
async fn commands_published_by_hand_are_obeyed_and_refused_like_others() {
    let (server, bus) = prepared().await;
    let (ctx, _) = obeying::<true>(&bus);
    let foreign = async_nats::connect(server.url()).await.unwrap();
    let by_hand = [
        ("keelson.cmd.metrics.count", r#"{"n":1}"#, State::Succeeded, ""),
        ("keelson.cmd.metrics.count", r#" {"n":"x"}"#, State::Rejected, "n: invalid type"),
        ("keelson.cmd.metrics.count", "rubbish", State::Rejected, "not a valid MessagePack body"),
        ("keelson.cmd.metrics.count", r#"{"n":13}"#, State::Rejected, "thirteen"),
        (
            "keelson.cmd.metrics.recount",
            r#"{"n":1}"#,
            State::Rejected,
            "knows no command \"recount\", only count",
        ),
    ];
    for (subject, body, _, _) in by_hand {
        foreign.publish(subject, body.into()).await.unwrap();
    }
    foreign.flush().await.unwrap();
    let created = bus.stream_info("COMMANDS").await.unwrap().created_ms;
    for (sequence, (_, body, state, says)) in (1..).zip(by_hand) {
        let id = keelson_schemas::id::operation_by_hand(created, sequence);
        let end = finished(&bus, &id).await;
        assert_eq!((end.state, end.requested_by.as_str()), (state, "unverified"), "{body}");
        assert!(end.error.unwrap_or_default().contains(says), "{body}");
    }
    let letters = bus.dead_letters(0, 10).await.unwrap();
    let mut buried: Vec<_> = letters.iter().map(|found| found.letter.sequence).collect();
    buried.sort_unstable();
    assert_eq!(buried, [2, 3, 4, 5]);
    ctx.tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn an_effect_that_must_not_happen_twice_is_unknown_after_a_crash() {
    let (_server, bus) = prepared().await;
    let submission = asking(99);
    bus.operations().submit(&submission).await.unwrap();
    let (crashing, counter) = obeying::<false>(&bus);
    support::eventually("it begins", || counter.0.load(Ordering::SeqCst) == 1).await;
    crashing.tasks.shutdown(Duration::ZERO).await;
    let (ctx, after) = obeying::<false>(&bus);
    let mut watch = bus.operations().watch(&submission.id);
    let end =
        tokio::time::timeout(Duration::from_secs(25), watch.finished()).await.unwrap().unwrap().unwrap();
    assert_eq!(end.state, State::Unknown);
    assert!(end.error.unwrap().contains("not known whether it happened"));
    assert_eq!(after.0.load(Ordering::SeqCst), 0, "its effect is not had again");
    assert_eq!(bus.dead_letters(0, 10).await.unwrap().len(), 1);
    ctx.tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn two_messages_of_one_operation_have_one_effect() {
    let (server, bus) = prepared().await;
    let submission = asking(55);
    bus.operations().submit(&submission).await.unwrap();
    // The duplicate window is over, as far as the server is concerned: same operation, another message id.
    let foreign = async_nats::connect(server.url()).await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("ce-id", submission.id.as_str());
    foreign.publish_with_headers(submission.subject.clone(), headers, submission.body.clone()).await.unwrap();
    foreign.flush().await.unwrap();
    let (ctx, counter) = obeying::<true>(&bus);
    assert_eq!(finished(&bus, &submission.id).await.state, State::Succeeded);
    let info = || support::request(&server, "$JS.API.CONSUMER.INFO.COMMANDS.metrics", "");
    while info().await["ack_floor"]["stream_seq"] != 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(counter.0.load(Ordering::SeqCst), 1);
    ctx.tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn the_steward_publishes_what_was_only_recorded() {
    let (_server, bus) = prepared().await;
    let recorded = |id: &str, published| {
        let example = OperationRecord::example();
        let operation = Operation {
            id: id.into(),
            state: State::Accepted,
            created_at: jiff::Timestamp::now(),
            ..example.operation
        };
        let body = keelson_schemas::codec::encode(&Count { n: 1 }).unwrap();
        OperationRecord {
            operation,
            subject: keelson_schemas::subject::command::<Count>(),
            payload: Some(body.into()),
            published,
            carrier: None,
            attempt_open: false,
            ..example
        }
    };
    // Whoever recorded these stopped before publishing, or published to a stream that has lost it.
    for (id, published) in [("never-published", None), ("lost", Some(999))] {
        bus.kv("operations").create(id, &recorded(id, published)).await.unwrap();
    }
    let (obeying, counter) = obeying::<true>(&bus);
    let ctx = context(&bus);
    let at_once = StewardConfig { sweep_every_ms: 100, sweep_after_ms: 0 };
    Steward::start(at_once, ctx.clone()).await.unwrap();
    for id in ["never-published", "lost"] {
        assert_eq!(finished(&bus, id).await.state, State::Succeeded, "{id}");
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(counter.0.load(Ordering::SeqCst), 2);
    assert_eq!(bus.stream_info("COMMANDS").await.unwrap().messages, 2, "swept once");
    obeying.tasks.shutdown(SOON).await;
    ctx.tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn dead_letters_can_be_redriven_and_advisories_become_dead_letters() {
    let (server, bus) = prepared().await;
    let ctx = context(&bus);
    Steward::start(StewardConfig::default(), ctx.clone()).await.unwrap();
    let (obeying, counter) = obeying::<true>(&bus);
    let refused = asking(13);
    bus.operations().submit(&refused).await.unwrap();
    assert_eq!(finished(&bus, &refused.id).await.state, State::Rejected);
    let letters: DeadLetters =
        bus.ask("keelson.qry.steward.dead-letters", &ListDeadLetters::default(), SOON).await.unwrap();
    let letter = letters.letters.first().unwrap();
    assert_eq!((letters.letters.len(), letter.letter.reason.as_str()), (1, "thirteen"));
    let redrive = keelson_schemas::dead_letter::Redrive { sequence: letter.sequence };
    let asked = Submission::of(fresh_id(), &redrive, "alice").unwrap();
    bus.operations().submit(&asked).await.unwrap();
    let done = finished(&bus, &asked.id).await;
    assert_eq!(done.state, State::Succeeded, "{done:?}");
    let second = done.result.unwrap()["operation"].as_str().unwrap().to_owned();
    let end = finished(&bus, &second).await;
    assert_eq!((end.state, end.requested_by.as_str()), (State::Rejected, "alice"));
    assert_eq!(counter.0.load(Ordering::SeqCst), 2);
    obeying.tasks.shutdown(SOON).await;

    // A foreign consumer that gives up: the server's advisory is the only trace of it.
    let config = r#"{"stream_name":"EVENTS","config":{"name":"f","durable_name":"f","ack_policy":"explicit","ack_wait":200000000,"max_deliver":1}}"#;
    support::request(&server, "$JS.API.CONSUMER.CREATE.EVENTS.f", config).await;
    let stored = bus.publish(&support::saying("unloved", 0)).await.unwrap();
    let foreign = async_nats::connect(server.url()).await.unwrap();
    let mut delivered = foreign.subscribe("delivered").await.unwrap();
    foreign.publish_with_reply("$JS.API.CONSUMER.MSG.NEXT.EVENTS.f", "delivered", "".into()).await.unwrap();
    assert_eq!(&futures::StreamExt::next(&mut delivered).await.unwrap().payload[..], b"unloved");
    let mut found = Vec::new();
    for _ in 0..100 {
        // The advisory is sent when a delivery would follow, so somebody has to ask.
        foreign
            .publish_with_reply("$JS.API.CONSUMER.MSG.NEXT.EVENTS.f", "nowhere", r#"{"no_wait":true}"#.into())
            .await
            .unwrap();
        found = bus.dead_letters(0, 10).await.unwrap();
        if found.iter().any(|found| found.letter.consumer == "f") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let letter = &found.iter().find(|found| found.letter.consumer == "f").expect("a dead letter").letter;
    assert_eq!((letter.sequence, &letter.payload[..]), (stored.sequence, &b"unloved"[..]));
    assert!(letter.reason.contains("never acknowledged"), "{}", letter.reason);
    assert_eq!(found.len(), 3, "what a worker buried is not buried again for its termination: {found:#?}");
    ctx.tasks.shutdown(SOON).await;
}
