//! Alerting: from bad telemetry to a notification, with what is shipped and with rules of one's own.

mod alertmanager;
mod amtool;
mod backtest;
mod receivers;
mod reload;
mod sdk;
mod silences;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use keelson_schemas::alerting::fingerprint;
use keelson_tests::alerting::{SHORT_RULE, TOLD_WITHIN, alerts, alerts_when, is, receiver, short_rule};
use keelson_tests::client::now_ms;
use keelson_tests::keelson::Up;
use keelson_tests::place::Place;
use keelson_tests::service::{Service, requests};
use keelson_tests::transitions;
use keelson_tests::webhook::{Post, Webhook};
use serde_json::{Value, json};

/// The four rules that are shipped for services.
const DEFAULTS: [&str; 4] = ["HighErrorRate", "HighMemory", "SlowQueries", "SlowResponses"];
/// Silence is only concluded from when nothing has come for 30 s; then a window has to pass.
const SILENT_FOR: Duration = Duration::from_secs(36);

/// Starts `keelson up` with the short rule alone and one receiver.
async fn up_with_short_rule() -> (Up, Webhook) {
    let hook = Webhook::start().await;
    let up = Up::start_in(Place::new().configured(&short_rule(&hook))).await;
    (up, hook)
}

#[tokio::test]
async fn a_receiver_is_all_that_has_to_be_configured() {
    let hook = Webhook::start().await;
    let up = Up::start_in(Place::new().configured(&receiver("ops", &hook))).await;
    let (status, answer) = up.client().post("/api/telemetry", &everything_wrong("web")).await;
    assert_eq!(status, 202, "{answer}");
    for rule in DEFAULTS {
        hook.told_of("firing", rule, "web", TOLD_WITHIN).await;
    }
    hook.assert_payloads();
    let told = hook.told();
    let names: BTreeSet<&str> = told.iter().map(|told| told.labels["alertname"].as_str()).collect();
    assert_eq!((told.len(), names), (DEFAULTS.len(), DEFAULTS.into()), "each once, and nothing else");
    assert!(told.iter().all(|told| told.fingerprint == fingerprint(&told.labels)), "{told:#?}");
    assert!(hook.posts().iter().all(|post| post.body["receiver"] == "ops"));

    let firing = |alerts: &[Value]| {
        DEFAULTS.iter().all(|rule| alerts.iter().any(|one| is(one, rule, "web", "firing")))
    };
    alerts_when(&up.client(), "those of the defaults", firing).await;
}

#[tokio::test]
async fn a_burst_of_errors_fires_and_resolves_while_traffic_goes_on() {
    let (up, hook) = up_with_short_rule().await;
    let (web, other) = (Service::start(&up.client(), "web"), Service::start(&up.client(), "other"));
    for round in 1..=2 {
        web.fail();
        wait_for(&hook, "firing", round).await;
        web.recover();
        wait_for(&hook, "resolved", round).await;
    }
    web.stop().await;
    other.stop().await;

    let posts = hook.posts();
    let keys: BTreeSet<&str> = posts.iter().map(|post| post.key.as_str()).collect();
    assert_eq!((posts.len(), keys.len()), (4, 4), "each transition once, each under its own key");
    for pair in posts.chunks(2) {
        let (fired, resolved) = (&pair[0].alerts()[0], &pair[1].alerts()[0]);
        assert_eq!((fired.status.as_str(), resolved.status.as_str()), ("firing", "resolved"));
        assert_eq!((&fired.starts_at, &fired.labels), (&resolved.starts_at, &resolved.labels));
        assert!(resolved.ends_at > resolved.starts_at, "{resolved:?}");
        assert_eq!(pair[0].body["groupKey"], pair[1].body["groupKey"]);
    }
    assert!(
        hook.told().iter().all(|told| told.labels["team"] == "web" && told.labels["service_name"] == "web")
    );
    hook.assert_payloads();
}

#[tokio::test]
async fn transitions_are_events_on_the_bus() {
    let (up, _hook) = up_with_short_rule().await;
    let web = Service::start(&up.client(), "web");
    for times in 1..=2 {
        web.fail();
        transitions_of_web(&up, 2 * times - 1).await;
        web.recover();
        transitions_of_web(&up, 2 * times).await;
    }
    web.stop().await;
    let all = transitions::read_all(&up.nats_url()).await;
    let findings = [transitions::findings(&all, "web", 2), transitions::order_findings(&all)].concat();
    assert!(findings.is_empty(), "{findings:#?}");
}

#[tokio::test]
async fn the_first_error_of_a_service_that_nobody_knew_fires() {
    let (up, hook) = up_with_short_rule().await;
    up.client().send("one", "new", &requests("new", 500, 1)).await;
    hook.told_of("firing", SHORT_RULE, "new", TOLD_WITHIN).await;
}

#[tokio::test]
async fn a_service_that_falls_silent_while_it_fires_does_not_resolve() {
    let (up, hook) = up_with_short_rule().await;
    let (web, other) = (Service::start_failing(&up.client(), "web"), Service::start(&up.client(), "other"));
    hook.told_of("firing", SHORT_RULE, "web", TOLD_WITHIN).await;
    web.stop().await;
    tokio::time::sleep(SILENT_FOR / 2).await;
    // With a service that goes on to report, and with none at all.
    other.stop().await;
    tokio::time::sleep(SILENT_FOR).await;
    assert_eq!(hook.told().len(), 1, "{:#?}", hook.told());
    let shown = alerts(&up.client()).await;
    assert!(shown.iter().any(|alert| is(alert, SHORT_RULE, "web", "firing")), "{shown:#?}");

    // It comes back, and goes well: now that is known.
    let web = Service::start(&up.client(), "web");
    hook.told_of("resolved", SHORT_RULE, "web", TOLD_WITHIN).await;
    web.stop().await;
}

/// Waits until so many transitions are on the bus.
async fn transitions_of_web(up: &Up, count: usize) {
    let deadline = Instant::now() + TOLD_WITHIN;
    while transitions::read_all(&up.nats_url()).await.len() < count {
        assert!(Instant::now() < deadline, "there are not {count} transitions");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the short rule's alert of `web` was told of in this status for the `times`th time.
async fn wait_for(hook: &Webhook, status: &str, times: usize) {
    let says = |post: &&Post| post.says(status, SHORT_RULE, "web");
    let enough = |posts: &[Post]| (posts.iter().filter(says).count() >= times).then_some(());
    hook.wait(&format!("{status} number {times}"), TOLD_WITHIN, enough).await;
}

/// One batch with which each of the default rules fires.
fn everything_wrong(service: &str) -> Value {
    let now = now_ms();
    let request = |status: u16| json!({"ts": now, "method": "GET", "route": "/", "status": status, "duration_us": 2_100_000});
    let query = json!({"ts": now, "system": "mongodb", "namespace": "click.videos", "operation": "find", "duration_us": 150_000});
    json!({
        "service": service, "instance": "one",
        "http": [request(200), request(200), request(500)],
        "db": vec![query; 11],
        "host": [{"ts": now, "memory_used_bytes": 95, "memory_total_bytes": 100}],
    })
}
