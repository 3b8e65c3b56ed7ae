//! A minute without one provider, while content goes on changing.

use std::time::{Duration, Instant};

use keelson_tests::fakes::Fake;
use keelson_tests::nats;
use serde_json::{Value, json};

use super::Two;

const OUTAGE: Duration = Duration::from_secs(60);
const CHANGE_EVERY: Duration = Duration::from_millis(250);
/// How soon whoever is up is told, at the latest. Whoever waited for the other would be told after the outage.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Longer than the longest wait between two tries.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_minute_without_one_is_felt_by_it_alone_and_shown_throughout() {
    let two = Two::start().await;
    let stream = nats::jetstream(&two.up.nats_url()).await;
    let change = async |number: usize| {
        let event = json!({ "urls": [format!("https://cdn.example/v/{number}")] }).to_string();
        stream
            .publish("keelson.evt.content.changed", event.into())
            .await
            .expect("sent")
            .await
            .expect("stored");
    };
    change(0).await;
    two.until(|health| *health == ["up", "up"]).await;
    two.fastly.answer_all(Some(503));
    change(1).await;
    two.until(|health| *health == ["up", "down"]).await;
    let since = two.status().await["providers"][1]["since"].clone();

    let (began, mut changes, mut slowest) = (Instant::now(), 2, Duration::ZERO);
    while began.elapsed() < OUTAGE {
        let changed = Instant::now();
        change(changes).await;
        changes += 1;
        told(&two.cloudflare, changes, AT_ONCE).await;
        slowest = slowest.max(changed.elapsed());
        assert_shown(&two.status().await, &since);
        tokio::time::sleep(CHANGE_EVERY).await;
    }
    assert_eq!(two.fastly.seen("files").len(), 1, "what was before");

    two.fastly.answer_all(None);
    let back = Instant::now();
    told(&two.fastly, changes, CAUGHT_UP_WITHIN).await;
    two.until(|health| *health == ["up", "up"]).await;
    two.assert_within_limits();
    println!(
        "{changes} changes: one was told within {slowest:?} of each, the other of all {:?} after it was back",
        back.elapsed()
    );
}

/// Of all changes so far.
async fn told(provider: &Fake, changes: usize, within: Duration) {
    let deadline = Instant::now() + within;
    while provider.seen("files").len() < changes {
        assert!(Instant::now() < deadline, "{} of {changes} within {within:?}", provider.seen("files").len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The one is well; the other is down, why, since when, and how much waits for it.
fn assert_shown(status: &Value, since: &Value) {
    let [well, down] = [0, 1].map(|lane| &status["providers"][lane]);
    assert_eq!((&well["health"], &down["health"], &down["since"]), (&json!("up"), &json!("down"), since));
    assert!(down["error"].as_str().is_some_and(|error| error.contains("503")), "{down:#}");
    assert!(down["waiting"].as_u64() > Some(0), "{down:#}");
}
