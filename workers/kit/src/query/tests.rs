use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::*;
use crate::bus::Bus;
use crate::testing::{NatsServer, context};

const SOON: Duration = Duration::from_secs(5);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Question {
    bytes: usize,
}

fn queries(owner: Arc<AtomicBool>) -> Queries {
    Queries::of("test")
        .with("text", |question: Question| async move { Ok("x".repeat(question.bytes)) })
        .with("hello", |(): ()| async { Ok("hello") })
        .with("refused", |(): ()| async { Err::<(), _>(Refusal::new(404, "there is\nno such thing")) })
        .with("panic", |crash: bool| async move {
            assert!(!crash, "at the disco");
            Ok(())
        })
        .exclusive("owned", move |(): ()| {
            let owner = owner.load(Ordering::SeqCst);
            async move { Ok(owner.then_some("mine")) }
        })
}

async fn ask<A: serde::de::DeserializeOwned>(
    bus: &Bus,
    noun: &str,
    question: &impl Serialize,
) -> Result<A, AskError> {
    bus.ask(&format!("keelson.qry.test.{noun}"), question, SOON).await
}

#[tokio::test]
async fn questions_are_answered_in_parts_refused_by_type_and_survive_a_panic() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.bus().await?;
    let ctx = context(&bus);
    ctx.answer(queries(Arc::default())).await?;

    for bytes in [0, 10, 3 * MAX_PART_BYTES + 1] {
        let answer: String = ask(&bus, "text", &Question { bytes }).await?;
        assert_eq!(answer.len(), bytes);
    }
    let refused = ask::<()>(&bus, "refused", &()).await;
    assert_eq!(refused, Err(AskError::Refused(Refusal::new(404, "there is no such thing"))));
    let nonsense = ask::<String>(&bus, "text", &"nonsense").await;
    assert!(matches!(nonsense, Err(AskError::Refused(Refusal { status: 400, .. }))), "{nonsense:?}");
    let too_large = ask::<String>(&bus, "text", &Question { bytes: MAX_PARTS * MAX_PART_BYTES + 1 }).await;
    assert!(matches!(too_large, Err(AskError::Refused(Refusal { status: 500, .. }))));
    let panicked = ask::<()>(&bus, "panic", &true).await;
    assert!(matches!(panicked, Err(AskError::Refused(Refusal { status: 500, .. }))));
    assert_eq!(ask::<()>(&bus, "panic", &false).await, Ok(()));

    assert_eq!(
        ask::<()>(&bus, "nobody", &()).await,
        Err(AskError::NoResponder { subject: "keelson.qry.test.nobody".into() })
    );
    ctx.tasks.shutdown(SOON).await;
    assert!(matches!(ask::<String>(&bus, "hello", &()).await, Err(AskError::NoResponder { .. })));
    Ok(())
}

#[tokio::test]
async fn only_the_owner_speaks_and_silence_is_a_timeout() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let (bus, other) = (server.bus().await?, server.bus().await?);
    let (first, second) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    context(&bus).answer(queries(first.clone())).await?;
    context(&other).answer(queries(second.clone())).await?;
    for _ in 0..20 {
        assert_eq!(ask::<String>(&bus, "owned", &()).await?, "mine");
    }
    second.store(false, Ordering::SeqCst);
    let started = Instant::now();
    let silence = bus.ask::<(), String>("keelson.qry.test.owned", &(), Duration::from_millis(200)).await;
    assert!(matches!(silence, Err(AskError::Timeout { within_ms: 200, .. })), "{silence:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
    Ok(())
}

#[tokio::test]
async fn an_owner_that_comes_into_office_late_is_asked_again() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.bus().await?;
    let owner = Arc::new(AtomicBool::new(false));
    context(&bus).answer(queries(owner.clone())).await?;
    let asker = bus.clone();
    let asked =
        tokio::spawn(async move { asker.ask_owner::<(), String>("keelson.qry.test.owned", &(), SOON).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    owner.store(true, Ordering::SeqCst);
    let answered = tokio::time::timeout(SOON / 2, asked).await??;
    assert_eq!(answered.as_deref(), Ok("mine"));
    Ok(())
}

/// Who is slow hears the same question several times; were each answered, it would become slower still.
#[tokio::test]
async fn a_question_that_was_put_again_is_answered_once() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.bus().await?;
    let answers = Arc::new(AtomicU32::new(0));
    let counted = answers.clone();
    let slow = Queries::of("test").exclusive("slow", move |()| {
        let counted = counted.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(700)).await;
            Ok(Some(counted.fetch_add(1, Ordering::SeqCst)))
        }
    });
    context(&bus).answer(slow).await?;
    for number in 0..2 {
        let answered = bus.ask_owner::<(), u32>("keelson.qry.test.slow", &(), SOON).await;
        assert_eq!(answered, Ok(number));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(answers.load(Ordering::SeqCst), 2);
    Ok(())
}

#[tokio::test]
async fn a_person_asks_in_json_and_the_services_are_listed() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.bus().await?;
    context(&bus).answer(queries(Arc::default())).await?;
    let hello = bus.client().request("keelson.qry.test.hello", "".into()).await?;
    assert_eq!(hello.payload, "\"hello\"");
    let text = bus.client().request("keelson.qry.test.text", r#"{"bytes":2}"#.into()).await?;
    assert_eq!(text.payload, "\"xx\"");

    for verb in ["PING", "INFO", "STATS"] {
        let inbox = bus.client().new_inbox();
        let mut replies = bus.client().subscribe(inbox.clone()).await?;
        bus.client().publish_with_reply(format!("$SRV.{verb}.keelson-test"), inbox, "".into()).await?;
        let reply =
            tokio::time::timeout(SOON, replies.next()).await?.map(|reply| reply.payload).unwrap_or_default();
        let reply: serde_json::Value = serde_json::from_slice(&reply)?;
        assert_eq!(reply["name"], "keelson-test", "{verb}");
        if verb == "STATS" {
            let endpoints = reply["endpoints"].as_array().cloned().unwrap_or_default();
            let text =
                endpoints.iter().find(|endpoint| endpoint["name"] == "text").cloned().unwrap_or_default();
            assert_eq!((endpoints.len(), &text["num_requests"]), (5, &1.into()), "{endpoints:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn everybody_is_asked_at_once() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.bus().await?;
    let nobody = bus.ask_all("$SRV.PING", Duration::from_millis(200), 10).await?;
    assert!(nobody.is_empty(), "{nobody:?}");
    for _ in 0..3 {
        context(&bus).answer(queries(Arc::default())).await?;
    }
    let three = bus.ask_all("$SRV.PING", SOON, 3).await?;
    assert_eq!(three.len(), 3);
    for answer in three {
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&answer)?["name"], "keelson-test");
    }
    Ok(())
}

#[tokio::test]
async fn answers_go_on_after_the_server_was_restarted() -> anyhow::Result<()> {
    let mut server = NatsServer::start().await?;
    let (bus, asker) = (server.bus().await?, server.bus().await?);
    context(&bus).answer(queries(Arc::default())).await?;
    server.kill();
    let started = Instant::now();
    while !matches!(ask::<String>(&asker, "hello", &()).await, Err(AskError::Unavailable)) {
        assert!(started.elapsed() < SOON, "the loss of the server goes unnoticed");
    }
    server.resume_after_kill().await?;
    let started = Instant::now();
    while ask::<String>(&asker, "hello", &()).await.is_err() {
        assert!(started.elapsed() < SOON, "no answer after the restart");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
