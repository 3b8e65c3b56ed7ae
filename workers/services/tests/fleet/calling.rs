//! Calls: what is passed on and what is not, failover, and what is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keelson_schemas::services::{
    Body, Call, CallAnswer, CallRefusal, CallReply, Health, RefusedBecause, Register,
};
use serde_json::json;

use crate::fixture::{Fleet, Manner, Service, get, post, service};

const PLAIN: &str = "[check]\ninterval = \"1h\"\n";

fn reply(answer: CallAnswer) -> CallReply {
    match answer {
        CallAnswer::Answered(reply) => reply,
        CallAnswer::Refused(refusal) => panic!("{refusal:?}"),
    }
}

fn refusal(answer: CallAnswer) -> CallRefusal {
    match answer {
        CallAnswer::Refused(refusal) => refusal,
        CallAnswer::Answered(reply) => panic!("{reply:?}"),
    }
}

#[tokio::test]
async fn a_call_reaches_the_service_without_what_is_not_for_it() {
    let fleet = Fleet::start(PLAIN).await;
    let content = Service::start().await;
    fleet.register(service("content", &[&content])).await;
    let headers: BTreeMap<String, String> = [
        ("Authorization", "Bearer secret"),
        ("Cookie", "secret"),
        ("Host", "evil.example"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Accept-Language", "de"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let call = Call { headers, body: Some(json!({"a": 1})), ..post("content", "/v1/videos?page=2") };
    let answered = reply(fleet.call(&call).await);
    assert_eq!((answered.status, &answered.body), (200, &Body::Json(json!({"well": true}))));
    assert_eq!(answered.instance, content.url());
    let seen = content.seen.last.lock().unwrap().to_ascii_lowercase();
    assert!(seen.starts_with("post /v1/videos?page=2 http/1.1"), "{seen}");
    for said in [
        "accept-language: de",
        "content-type: application/json",
        "{\"a\":1}",
        "x-envoy-expected-rq-timeout-ms: ",
        &format!("host: {}", content.address),
    ] {
        assert!(seen.contains(said), "{said}: {seen}");
    }
    for kept_back in ["secret", "evil.example", "10.0.0.1"] {
        assert!(!seen.contains(kept_back), "{kept_back}: {seen}");
    }
}

#[tokio::test]
async fn what_is_not_allowed_or_makes_no_sense_is_refused_by_name() {
    let fleet = Fleet::start("[check]\ninterval = \"1h\"\n[call]\nmax_request_bytes = 1000\n").await;
    let content = Service::start().await;
    let allow = vec!["GET /v1/*".to_owned(), "POST /v1/*".to_owned()];
    fleet.register(Register { allow, ..service("content", &[&content]) }).await;
    fleet.register(Register { allow: Vec::new(), ..service("closed", &[&content]) }).await;
    let invalid = RefusedBecause::Invalid;
    let not_allowed = RefusedBecause::NotAllowed;
    let header = |name: &str, value: &str| Call {
        headers: [(name.to_owned(), value.to_owned())].into(),
        ..get("content", "/v1/a")
    };
    let cases = [
        (get("nobody", "/v1/a"), RefusedBecause::NotRegistered),
        (get("closed", "/v1/a"), not_allowed),
        (get("content", "/admin"), not_allowed),
        (Call { method: "DELETE".into(), ..get("content", "/v1/a") }, not_allowed),
        (Call { method: "CONNECT".into(), ..get("content", "/v1/a") }, invalid),
        (Call { method: "get".into(), ..get("content", "/v1/a") }, invalid),
        (get("content", "/v1/../admin"), invalid),
        (get("content", "/v1/%2e%2e/admin"), invalid),
        (get("content", "//evil.example/v1/a"), invalid),
        (get("content", "http://evil.example/v1/a"), invalid),
        (get("content", "@evil.example/v1/a"), invalid),
        (header("a b", "c"), invalid),
        (header("a", "b\r\nc: d"), invalid),
        (Call { timeout_ms: Some(0), ..get("content", "/v1/a") }, invalid),
        (Call { timeout_ms: Some(26_000), ..get("content", "/v1/a") }, invalid),
        (Call { body: Some("a".repeat(1_001).into()), ..post("content", "/v1/a") }, RefusedBecause::TooLarge),
    ];
    for (call, because) in cases {
        let refused = refusal(fleet.call(&call).await);
        assert_eq!(refused.because, because, "{call:?}: {}", refused.reason);
        assert!(refused.attempts.is_empty() && !refused.reason.is_empty());
    }
    assert_eq!(content.calls(), 0);
}

#[tokio::test]
async fn what_a_service_does_in_the_place_of_an_answer_is_told_and_bounded() {
    let fleet = Fleet::start("[check]\ninterval = \"1h\"\n[call]\nmax_response_bytes = 100000\n").await;
    let content = Service::start().await;
    fleet.register(service("content", &[&content])).await;
    let cases = [
        (Manner::Garbage, RefusedBecause::Failed, true),
        (Manner::Half, RefusedBecause::Failed, true),
        (Manner::Never, RefusedBecause::TimedOut, true),
        (Manner::Endless, RefusedBecause::Failed, false),
        (Manner::Elsewhere, RefusedBecause::Failed, false),
    ];
    for (manner, because, counts) in cases {
        content.behave(Manner::Well);
        reply(fleet.call(&get("content", "/a")).await);
        content.behave(manner);
        let began = Instant::now();
        let refused = refusal(fleet.call(&Call { timeout_ms: Some(500), ..get("content", "/a") }).await);
        assert_eq!((refused.because, refused.attempts.len()), (because, 1), "{manner:?}: {}", refused.reason);
        assert!(began.elapsed() < Duration::from_secs(3), "{manner:?}");
        let status = fleet.status("content").await;
        assert_eq!(status.breaker.failures, u32::from(counts), "{manner:?}");
        assert_eq!(status.instances[0].outstanding, 0);
    }
    content.behave(Manner::Slow(Duration::from_millis(300)));
    let slow = reply(fleet.call(&get("content", "/a")).await);
    assert!(slow.attempts[0].duration_ms >= 300);
}

#[tokio::test]
async fn only_what_may_be_sent_twice_is_tried_at_the_next_instance() {
    let fleet = Fleet::start(PLAIN).await;
    let (one, other) = (Service::start().await, Service::start().await);
    fleet.register(service("content", &[&one, &other])).await;
    for failing in [Manner::Fails(503), Manner::Half, Manner::Garbage] {
        one.behave(failing);
        for _ in 0..4 {
            let answered = reply(fleet.call(&get("content", "/a")).await);
            assert_eq!((answered.status, answered.instance), (200, other.url()), "{failing:?}");
            one.behave(Manner::Well);
            reply(fleet.call(&get("content", "/a")).await);
            one.behave(failing);
        }
    }
    one.behave(Manner::Fails(503));
    other.behave(Manner::Fails(503));
    let before = one.calls() + other.calls();
    assert_eq!(reply(fleet.call(&post("content", "/a")).await).attempts.len(), 1);
    assert_eq!(one.calls() + other.calls(), before + 1);
    let key = [("Idempotency-Key".to_owned(), "7".to_owned())];
    let twice = reply(fleet.call(&Call { headers: key.into(), ..post("content", "/a") }).await);
    assert_eq!((twice.status, twice.attempts.len()), (503, 2));
}

#[tokio::test]
async fn the_last_instance_is_called_whatever_is_known_of_it() {
    let fleet = Fleet::start("[check]\ninterval = \"100ms\"\n[breaker]\nfailures = 50\n").await;
    let mut content = Service::start().await;
    content.behave(Manner::Ill(500));
    fleet.register(service("content", &[&content])).await;
    fleet.until("content", |status| status.health == Health::Down).await;
    assert_eq!(reply(fleet.call(&get("content", "/a")).await).status, 500);
    content.kill().await;
    assert_eq!(refusal(fleet.call(&get("content", "/a")).await).because, RefusedBecause::Failed);
}

/// Under load one of two instances dies. What may be sent twice never fails after the first second; what may not never arrives twice.
#[tokio::test]
async fn one_of_two_instances_dies_under_load() {
    let fleet = Arc::new(Fleet::start("[check]\ninterval = \"500ms\"\n").await);
    let (mut one, other) = (Service::start().await, Service::start().await);
    fleet.register(service("content", &[&one, &other])).await;
    fleet.until("content", |status| status.health == Health::Up).await;
    let over = Arc::new(AtomicBool::new(false));
    let numbers = Arc::new(AtomicU64::new(0));
    let mut callers = Vec::new();
    for caller in 0..32 {
        let (fleet, over, numbers) = (fleet.clone(), over.clone(), numbers.clone());
        callers.push(tokio::spawn(async move {
            let mut failures = Vec::new();
            while !over.load(Ordering::SeqCst) {
                let is_post = caller % 4 == 0;
                let call = if is_post { post("content", "/a") } else { get("content", "/a") };
                let number = numbers.fetch_add(1, Ordering::SeqCst);
                let name = if is_post { format!("post {number}") } else { number.to_string() };
                let headers = [("x-call".to_owned(), name)].into();
                let answer = fleet.call(&Call { headers, ..call }).await;
                let failed = !matches!(&answer, CallAnswer::Answered(reply) if reply.status == 200);
                if failed {
                    failures.push((is_post, Instant::now(), answer));
                }
            }
            failures
        }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let killed = Instant::now();
    one.kill().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    over.store(true, Ordering::SeqCst);
    for caller in callers {
        for (is_post, at, answer) in caller.await.unwrap() {
            let is_late = at > killed + Duration::from_secs(1);
            assert!(
                is_post || !is_late,
                "an idempotent call failed {:?} after the kill: {answer:?}",
                at - killed
            );
        }
    }
    let mut seen = one.seen.each.lock().unwrap().clone();
    for (number, count) in other.seen.each.lock().unwrap().iter() {
        *seen.entry(number.clone()).or_default() += count;
    }
    let posted: Vec<_> = seen.iter().filter(|(name, _)| name.starts_with("post")).collect();
    assert!(posted.len() > 100 && posted.iter().all(|(_, count)| **count == 1), "sent twice");
    assert!(numbers.load(Ordering::SeqCst) > 500, "there was load");
}
