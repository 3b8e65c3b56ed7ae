//! Silences by command, on a real nats-server.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use keelson_alerting::notify::commands::{ExpireSilenceHandler, SetSilenceHandler};
use keelson_alerting::silences;
use keelson_kit::bus::Bus;
use keelson_kit::clock::Clock;
use keelson_kit::command::Commands;
use keelson_kit::operations::Submission;
use keelson_kit::testing::{self, NatsServer};
use keelson_schemas::alerting::{ExpireSilence, SetSilence, Silence};
use keelson_schemas::message::Command;
use keelson_schemas::operation::{Operation, State};

const SOON: Duration = Duration::from_secs(5);

async fn asked<C: Command>(bus: &Bus, id: &str, command: &C) -> Operation {
    let submission = Submission::of(id, command, "ada").unwrap();
    bus.operations().submit(&submission).await.unwrap();
    let started = Instant::now();
    loop {
        let operation = bus.operations().get(id).await.unwrap().unwrap();
        if !matches!(operation.state, State::Accepted | State::Running) {
            return operation;
        }
        assert!(started.elapsed() < SOON, "{operation:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn silence(operation: Operation) -> Silence {
    assert_eq!(operation.state, State::Succeeded, "{:?}", operation.error);
    serde_json::from_value(operation.result.unwrap()).unwrap()
}

fn for_an_hour(id: Option<&str>, matcher: &str) -> SetSilence {
    SetSilence {
        id: id.map(str::to_owned),
        matchers: vec![matcher.to_owned()],
        starts_at_ms: None,
        ends_at_ms: None,
        duration: Some("1h".into()),
        created_by: None,
        comment: "why".into(),
    }
}

#[tokio::test]
async fn a_silence_is_made_changed_replaced_and_ended() {
    let server = NatsServer::start().await.unwrap();
    let bus = server.prepared_bus().await.unwrap();
    let ctx = testing::context(&bus);
    let commands = Commands::of("alerting");
    ctx.obey(commands.with(SetSilenceHandler::new(&ctx)).with(ExpireSilenceHandler::new(&ctx))).unwrap();

    let made = silence(asked(&bus, "make", &for_an_hour(None, "alertname=A")).await);
    assert_eq!((made.created_by.as_str(), made.comment.as_str()), ("ada", "why"));

    let longer = SetSilence { duration: Some("2h".into()), ..for_an_hour(Some(&made.id), "alertname=A") };
    let changed = silence(asked(&bus, "change", &longer).await);
    assert_eq!((&changed.id, changed.starts_at_ms), (&made.id, made.starts_at_ms));
    assert!(changed.ends_at_ms > made.ends_at_ms);

    let other = silence(asked(&bus, "replace", &for_an_hour(Some(&made.id), "alertname=B")).await);
    assert_ne!(other.id, made.id);
    let now_ms = Clock::system().now_ms();
    let known = silences::answer(&bus, now_ms).await.unwrap().silences;
    let ends = |id: &str| known.iter().find(|silence| silence.id == id).unwrap().ends_at_ms;
    assert!(known.len() == 2 && ends(&made.id) <= now_ms && ends(&other.id) > now_ms);

    let ended = silence(asked(&bus, "end", &ExpireSilence { id: other.id.clone() }).await);
    assert!(ended.ends_at_ms <= Clock::system().now_ms());
    assert_eq!(silence(asked(&bus, "end-again", &ExpireSilence { id: other.id }).await), ended);

    for (id, command, says) in [
        ("nothing", for_an_hour(Some("none"), "a=b"), "there is no silence \"none\""),
        ("odd", for_an_hour(Some("a.>"), "a=b"), "there is no silence"),
        ("all", for_an_hour(None, "a=~.*"), "everything"),
    ] {
        let refused = asked(&bus, id, &command).await;
        assert_eq!(refused.state, State::Rejected, "{id}");
        assert!(refused.error.unwrap().contains(says), "{id}");
    }
    assert!(bus.dead_letters(0, 9).await.unwrap().is_empty(), "who asked is told, and nobody is called");
    ctx.tasks.shutdown(SOON).await;
}
