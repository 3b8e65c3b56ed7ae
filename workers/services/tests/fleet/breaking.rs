//! Breakers, end to end: opened by what calls come to, recovered by themselves, forced, shared by all workers, kept over restarts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use keelson_schemas::operation::State;
use keelson_schemas::services::{
    BreakerChanged, BreakerState, Call, CallAnswer, CallRefusal, Force, RefusedBecause, Reset, Trip,
};

use crate::fixture::{Fleet, Manner, SOON, Service, get, service, within};

/// Checks so seldom that callers have all probes to themselves.
const BREAKER: &str = "[check]\ninterval = \"1h\"\n[breaker]\nopen_for = \"1s\"\n";

fn refused(answer: CallAnswer) -> Option<CallRefusal> {
    match answer {
        CallAnswer::Refused(refusal) => Some(refusal),
        CallAnswer::Answered(_) => None,
    }
}

/// Fails until the breaker is open, which is after five.
async fn open(fleet: &Fleet, content: &Service) {
    content.behave(Manner::Fails(500));
    let before = content.calls();
    for _ in 0..5 {
        let answer = fleet.call(&get("content", "/a")).await;
        assert!(matches!(&answer, CallAnswer::Answered(reply) if reply.status == 500), "{answer:?}");
    }
    assert_eq!(content.calls() - before, 5);
}

#[tokio::test]
async fn five_failures_open_it_it_is_open_for_a_while_and_recovers_by_itself() {
    let fleet = Fleet::start(BREAKER).await;
    let content = Service::start().await;
    fleet.register(service("content", &[&content])).await;
    let opened = Instant::now();
    open(&fleet, &content).await;
    let refusal = refused(fleet.call(&get("content", "/a")).await).unwrap();
    assert_eq!(refusal.because, RefusedBecause::BreakerOpen);
    assert!((1..=1_000).contains(&refusal.retry_after_ms.unwrap()), "{refusal:?}");
    let status = fleet.status("content").await;
    assert_eq!((status.breaker.state, status.breaker.failures), (BreakerState::Open, 5));
    assert!(status.breaker.opens_until.is_some());
    content.behave(Manner::Well);
    let calls = content.calls();
    let recovered =
        within(SOON, || async { refused(fleet.call(&get("content", "/a")).await).is_none().then_some(()) });
    recovered.await.unwrap();
    assert!(opened.elapsed() >= Duration::from_secs(1));
    assert_eq!(content.calls(), calls + 1, "nobody called while it was open");
    assert!(refused(fleet.call(&get("content", "/a")).await).is_none());
    assert_eq!(fleet.status("content").await.breaker.state, BreakerState::Closed);
    let told = within(Duration::from_secs(5), || async {
        let mut told: Vec<BreakerChanged> =
            fleet.events(&["breaker-opened", "breaker-half-open", "breaker-closed"]).await;
        told.retain(|event| event.instance.is_none());
        (told.len() >= 3).then_some(told)
    });
    let told: Vec<(BreakerState, u64)> =
        told.await.unwrap().iter().map(|event| (event.state, event.number)).collect();
    assert_eq!(told, [(BreakerState::Open, 1), (BreakerState::HalfOpen, 2), (BreakerState::Closed, 3)]);
}

#[tokio::test]
async fn without_callers_its_own_check_closes_it() {
    let fleet = Fleet::start(BREAKER).await;
    let content = Service::start().await;
    fleet.register(service("content", &[&content])).await;
    open(&fleet, &content).await;
    let calls = content.calls();
    let closed = |status: &keelson_schemas::services::ServiceStatus| {
        status.breaker.state == BreakerState::Closed
            && status.instances[0].breaker.state == BreakerState::Closed
    };
    fleet.until("content", closed).await;
    assert_eq!(content.calls(), calls);
    assert!(content.checks() >= 4, "two for the service and two for its instance");
}

#[tokio::test]
async fn ten_thousand_callers_at_the_moment_of_half_open_are_at_most_three_calls() {
    let mut fleet = Fleet::start(BREAKER).await;
    fleet.join(BREAKER).await;
    let content = Service::start().await;
    fleet.register(service("content", &[&content])).await;
    content.behave(Manner::Fails(500));
    // Each of two workers counts on its own until one has opened the breaker for both.
    let opened = within(SOON, || async { refused(fleet.call(&get("content", "/a")).await) });
    opened.await.unwrap();
    let both = within(SOON, || async {
        let open = join_all((0..8).map(|_| fleet.status("content"))).await;
        open.iter().all(|status| status.breaker.state == BreakerState::Open).then_some(())
    });
    both.await.unwrap();
    content.behave(Manner::Never);
    let calls = content.calls();
    tokio::time::sleep(Duration::from_millis(900)).await;
    let fleet = Arc::new(fleet);
    let callers = (0..10_000).map(|_| {
        let fleet = fleet.clone();
        // No probe ends before the last of them has been turned away.
        let call = Call { timeout_ms: Some(20_000), ..get("content", "/a") };
        tokio::spawn(async move { refused(fleet.call(&call).await).is_some() })
    });
    let answered = join_all(callers.collect::<Vec<_>>()).await;
    assert!(answered.into_iter().all(|refused| refused.unwrap()));
    let reached = content.calls() - calls;
    assert!((1..=3).contains(&reached), "{reached} calls reached it");
}

#[tokio::test]
async fn what_is_forced_is_so_for_all_workers_until_it_is_reset() {
    let mut fleet = Fleet::start(BREAKER).await;
    fleet.join(BREAKER).await;
    let content = Service::start().await;
    fleet.register(service("content", &[&content])).await;
    let trip = |to| Trip { name: "content".into(), to, reason: "by hand".into(), instance: None };
    assert_eq!(fleet.obeyed(&trip(Force::Open)).await.state, State::Succeeded);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let answers = join_all((0..16).map(|_| async { refused(fleet.call(&get("content", "/a")).await) })).await;
    assert!(
        answers
            .iter()
            .all(|refusal| refusal.as_ref().is_some_and(|r| r.because == RefusedBecause::BreakerOpen))
    );
    assert_eq!(content.calls(), 0);
    let status = fleet.status("content").await;
    assert!(status.breaker.forced && status.breaker.reason.unwrap().contains("by hand"));
    assert_eq!(fleet.obeyed(&trip(Force::Closed)).await.state, State::Succeeded);
    tokio::time::sleep(Duration::from_millis(200)).await;
    content.behave(Manner::Fails(503));
    for _ in 0..20 {
        assert!(refused(fleet.call(&get("content", "/a")).await).is_none(), "it is closed whatever comes");
    }
    let reset = Reset { name: "content".into(), instance: None };
    assert_eq!(fleet.obeyed(&reset).await.state, State::Succeeded);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let opened = within(SOON, || async { refused(fleet.call(&get("content", "/a")).await) });
    assert_eq!(opened.await.unwrap().because, RefusedBecause::BreakerOpen);
    let nobody = Trip { name: "nobody".into(), ..trip(Force::Open) };
    assert_eq!(fleet.obeyed(&nobody).await.state, State::Rejected);
}

#[tokio::test]
async fn an_open_breaker_is_open_after_a_restart_of_the_worker_and_of_the_bus() {
    const LONG: &str = "[check]\ninterval = \"1h\"\n[breaker]\nopen_for = \"60s\"\n";
    let mut fleet = Fleet::start(LONG).await;
    let content = Service::start().await;
    fleet.register(service("content", &[&content])).await;
    open(&fleet, &content).await;
    fleet.until("content", |status| status.breaker.state == BreakerState::Open).await;
    let told = within(SOON, || async { fleet.events::<BreakerChanged>(&["breaker-opened"]).await.pop() });
    told.await.unwrap();
    fleet.leave(0).await;
    fleet.nats.kill();
    fleet.nats.resume_after_kill().await.unwrap();
    fleet.bus.connected().await;
    fleet.join(LONG).await;
    let status = fleet.status("content").await;
    assert_eq!(status.breaker.state, BreakerState::Open);
    let refusal = refused(fleet.call(&get("content", "/a")).await).unwrap();
    assert!((30_000..60_000).contains(&refusal.retry_after_ms.unwrap()), "{refusal:?}");
    assert_eq!(content.calls(), 5);
}
