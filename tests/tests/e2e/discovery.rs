//! Stock micro services on the bus: found, registered, checked, and let go when they answer no more.

use std::time::{Duration, Instant};

use async_nats::service::{Service, ServiceExt};
use keelson_tests::keelson::Up;
use keelson_tests::nats;
use keelson_tests::place::Place;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const QUICK: &str =
    "[services.check]\ninterval = \"200ms\"\n[services.discovery]\ninterval = \"200ms\"\nlease = \"6s\"\n";

/// A micro service as any program makes one.
async fn micro_service(up: &Up, name: &str) -> Service {
    let client = nats::connect(&up.nats_url()).await;
    client.service_builder().start(name, "1.0.0").await.expect("a micro service")
}

async fn until(up: &Up, name: &str, is_so: impl Fn(u16, &Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (code, status) = up.client().get(&format!("/api/microservices/{name}/status")).await;
        if is_so(code.as_u16(), &status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{code}: {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_micro_service_is_registered_for_as_long_as_it_answers() {
    let up = Up::start_in(Place::new().configured(QUICK)).await;
    let bus = nats::connect(&up.nats_url()).await;
    let mut told = bus.subscribe("keelson.evt.services.deregistered").await.expect("events");
    bus.flush().await.expect("subscribed");
    // What somebody has registered under a name stays, whoever answers to it on the bus.
    up.command(&["services", "register", "taken", "tcp://127.0.0.1:9"]);

    let one = micro_service(&up, "search").await;
    let another = micro_service(&up, "search").await;
    let _taken = micro_service(&up, "taken").await;
    let found = until(&up, "search", |_, status| status["health"] == "up").await;
    assert_eq!(found["source"], "bus", "{found}");
    assert_eq!(found["instances"].as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found["instances"][0]["url"], "nats://$SRV.PING.search", "{found}");
    one.stop().await.expect("it stops");
    // Longer than the lease: whoever answers renews it.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(8) {
        let still = until(&up, "search", |code, _| code != 503).await;
        assert_eq!(still["name"], "search", "{still}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (_, all) = up.client().get("/api/microservices/status").await;
    let all = all["services"].as_array().expect("services");
    let names: Vec<&str> = all.iter().filter_map(|service| service["name"].as_str()).collect();
    assert_eq!(names, ["search", "taken"], "Keelson's own workers are none of them");
    assert_eq!(all[1]["instances"][0]["url"], "tcp://127.0.0.1:9", "{all:?}");

    another.stop().await.expect("it stops");
    until(&up, "search", |_, status| status["health"] == "down").await;
    until(&up, "search", |code, _| code == 404).await;
    let event = tokio::time::timeout(PATIENCE, futures::StreamExt::next(&mut told)).await;
    let event = event.expect("in time").expect("an event");
    let event: Value = keelson_schemas::codec::decode(None, &event.payload).expect("an event");
    assert_eq!((&event["name"], &event["why"]), (&"search".into(), &"expired".into()), "{event}");
}
