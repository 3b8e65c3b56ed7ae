//! Silences: made over HTTP, by hand on the bus and by the command line; what they match is not notified while they hold.

use std::time::{Duration, Instant};

use keelson_tests::alerting::{SHORT_RULE, TOLD_WITHIN, alerts, alerts_when, is};
use keelson_tests::commands::ended;
use keelson_tests::keelson::Up;
use keelson_tests::nats;
use keelson_tests::service::Service;
use keelson_tests::webhook::Webhook;
use reqwest::Method;
use serde_json::{Value, json};

use super::up_with_short_rule;

/// Longer than an alert takes to be notified.
const A_WHILE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_silence_over_http_holds_until_it_is_ended() {
    let (up, hook) = up_with_short_rule().await;
    let asked =
        json!({"matchers": ["service_name=web"], "duration": "1h", "comment": "the disk is replaced"});
    let silence = command(&up, Method::POST, "/api/monitoring/silences", &asked).await;
    assert_eq!(
        (&silence["comment"], &silence["createdBy"]),
        (&asked["comment"], &json!("tests")),
        "{silence}"
    );
    let id = silence["id"].as_str().expect("an id").to_owned();
    assert_eq!(silences(&up).await, [id.as_str()]);

    let service = silenced(&up, &hook, &id).await;
    command(&up, Method::DELETE, &format!("/api/monitoring/silences/{id}"), &Value::Null).await;
    // It fires still, so now somebody is told, once.
    hook.told_of("firing", SHORT_RULE, "web", TOLD_WITHIN).await;
    service.recover();
    hook.told_of("resolved", SHORT_RULE, "web", TOLD_WITHIN).await;
    assert_eq!(hook.told().len(), 2, "{:#?}", hook.told());
    service.stop().await;
}

#[tokio::test]
async fn a_silence_by_hand_on_the_bus_holds() {
    let (up, hook) = up_with_short_rule().await;
    let bus = nats::connect(&up.nats_url()).await;
    let asked = json!({"matchers": ["alertname=~Short.*", "service_name!=other"], "duration": "1h"});
    bus.publish("keelson.cmd.alerting.silence", asked.to_string().into()).await.expect("sent");
    bus.flush().await.expect("sent");
    let id = only_silence(&up).await;
    let service = silenced(&up, &hook, &id).await;

    bus.publish("keelson.cmd.alerting.expire-silence", json!({"id": id}).to_string().into())
        .await
        .expect("sent");
    bus.flush().await.expect("sent");
    hook.told_of("firing", SHORT_RULE, "web", TOLD_WITHIN).await;
    service.stop().await;
}

#[tokio::test]
async fn a_silence_by_the_command_line_holds() {
    let (up, hook) = up_with_short_rule().await;
    up.command(&["silences", "add", "service_name=web", "--duration", "1h", "--comment", "by hand"]);
    let id = only_silence(&up).await;
    let listed = up.command(&["silences", "list"]);
    assert!(listed.contains(&id) && listed.contains("by hand"), "{listed}");
    let service = silenced(&up, &hook, &id).await;

    up.command(&["silences", "expire", &id]);
    hook.told_of("firing", SHORT_RULE, "web", TOLD_WITHIN).await;
    let listed = up.command(&["alerts"]);
    assert!(listed.contains(SHORT_RULE) && listed.contains("web"), "{listed}");
    service.stop().await;
}

#[tokio::test]
async fn silences_that_make_no_sense_are_refused_in_words() {
    let (up, _hook) = up_with_short_rule().await;
    // What a silence means is said by the alerting worker, as soon as it is there.
    alerts(&up.client()).await;
    let cases = [
        (json!({"matchers": [], "duration": "1h"}), "matcher"),
        (json!({"matchers": ["service_name=~.*"], "duration": "1h"}), "match"),
        (json!({"matchers": ["service_name"], "duration": "1h"}), "service_name"),
        (json!({"matchers": ["service_name=~("], "duration": "1h"}), "("),
        (
            json!({"matchers": ["service_name=web"], "startsAtMs": 2_000_000_000_000_u64, "endsAtMs": 1_900_000_000_000_u64}),
            "end",
        ),
        (json!({"matchers": ["service_name=web"]}), "duration"),
    ];
    for (body, names) in cases {
        let request =
            up.client().request(Method::POST, "/api/monitoring/silences").header("prefer", "wait=20");
        let answer = request.json(&body).send().await.expect("an answer");
        let (status, said) = (answer.status(), answer.text().await.expect("a body"));
        assert_eq!(status, 400, "{body}: {said}");
        assert!(said.contains(names), "{body}: {said} does not name {names}");
    }
    assert_eq!(silences(&up).await, Vec::<String>::new());
}

/// Lets the service `web` fail under this silence: the alert is shown as silenced and nobody is told, while `other` is told of.
async fn silenced(up: &Up, hook: &Webhook, id: &str) -> Service {
    let web = Service::start_failing(&up.client(), "web");
    let by = |alert: &Value| {
        let ids = alert["silencedBy"].as_array().into_iter().flatten();
        is(alert, SHORT_RULE, "web", "firing") && ids.clone().any(|by| by == id)
    };
    alerts_when(&up.client(), "silenced", |alerts| alerts.iter().any(by)).await;
    tokio::time::sleep(A_WHILE).await;
    assert!(hook.posts().is_empty(), "{:#?}", hook.posts());
    web
}

/// The result of a command over HTTP, once it has succeeded.
async fn command(up: &Up, method: Method, path: &str, body: &Value) -> Value {
    let mut request = up.client().request(method, path);
    if !body.is_null() {
        request = request.json(body);
    }
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 202, "{path}: {}", answer.text().await.unwrap_or_default());
    let operation = answer.headers()["location"].to_str().expect("a path").to_owned();
    let record = ended(&up.client(), &operation).await;
    assert_eq!(record["state"], "succeeded", "{record}");
    record["result"].clone()
}

/// The ids of all silences.
async fn silences(up: &Up) -> Vec<String> {
    let (status, answer) = up.client().get("/api/monitoring/silences").await;
    assert_eq!(status, 200, "{answer}");
    let silences = answer["silences"].as_array().expect("a list").iter();
    silences.map(|silence| silence["id"].as_str().expect("an id").to_owned()).collect()
}

/// The id of the one silence, as soon as there is one.
async fn only_silence(up: &Up) -> String {
    let deadline = Instant::now() + TOLD_WITHIN;
    loop {
        if let [id] = silences(up).await.as_slice() {
            return id.clone();
        }
        assert!(Instant::now() < deadline, "there is not one silence");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
