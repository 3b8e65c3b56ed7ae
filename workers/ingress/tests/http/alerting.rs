use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::fixture::{Fixture, problem};
use crate::standin::StandIn;

const SILENCES: &str = "/api/monitoring/silences";

async fn with_worker(obeys: bool) -> (Fixture, StandIn) {
    let fixture = Fixture::start().await;
    let standin = StandIn::start(&fixture, obeys).await;
    (fixture, standin)
}

async fn shown(request: RequestBuilder) -> (u16, Value) {
    let response = request.bearer_auth("t-admin").send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

#[tokio::test]
async fn alerts_groups_and_rules_are_for_admins() {
    let (fixture, _) = with_worker(false).await;
    let (status, alerts) = shown(fixture.get("/api/monitoring/alerts")).await;
    let states: Vec<_> =
        alerts["alerts"].as_array().expect("alerts").iter().map(|alert| alert["state"].clone()).collect();
    assert_eq!(status, 200);
    assert_eq!(json!(states), json!(["firing", "firing", "firing", "pending", "resolved"]));
    assert_eq!(alerts["asOf"], "2025-11-24T16:00:00Z");
    assert_eq!(alerts["alerts"][0]["startsAtMs"], 1_764_000_000_000_u64);
    let (_, groups) = shown(fixture.get("/api/monitoring/alerts/groups")).await;
    assert_eq!(groups["groups"][0]["receiver"], "ops");
    let (_, rules) = shown(fixture.get("/api/monitoring/rules")).await;
    assert_eq!(rules["rules"][0]["name"], "HighErrorRate");
    for path in ["alerts", "alerts/groups", "rules"] {
        let path = format!("/api/monitoring/{path}");
        assert_eq!(problem(fixture.get(&path)).await.0, 401);
        assert_eq!(problem(fixture.get(&path).bearer_auth("t-read")).await.0, 403);
    }
}

#[tokio::test]
async fn a_silence_is_made_listed_and_ended() {
    let (fixture, _) = with_worker(true).await;
    let body = json!({"matchers": ["service_name=content"], "duration": "1h", "comment": "c"});
    let (status, made) = shown(fixture.post_json(SILENCES, &body).header("prefer", "wait=10")).await;
    assert_eq!((status, &made["state"]), (200, &json!("succeeded")), "{made}");
    let (_, listed) = shown(fixture.get(SILENCES)).await;
    let silence = &listed["silences"][0];
    assert_eq!((&silence["state"], &silence["createdBy"]), (&json!("active"), &json!("t-admin")));
    assert_eq!(silence["matchers"][0]["value"], "content");
    let path = format!("{SILENCES}/{}", silence["id"].as_str().expect("an id"));
    let (status, ended) = shown(fixture.client.delete(fixture.url(&path)).header("prefer", "wait=10")).await;
    assert_eq!((status, &ended["state"]), (200, &json!("succeeded")), "{ended}");
    assert_eq!(shown(fixture.get(SILENCES)).await.1["silences"][0]["state"], "expired");
}

#[tokio::test]
async fn a_silence_that_means_nothing_is_refused_before_it_is_accepted() {
    let (fixture, standin) = with_worker(true).await;
    let cases = [
        (json!({"matchers": [], "duration": "1h"}), 400),
        (json!({"matchers": ["a=b"], "startsAtMs": 2, "endsAtMs": 1}), 400),
        (json!({"matchers": ["nonsense"], "duration": "1h"}), 400),
        (json!({"duration": "1h"}), 422),
        (json!({"matchers": ["a=b"], "for": "1h"}), 422),
    ];
    for (body, expected) in cases {
        let (status, said) = problem(fixture.post_json(SILENCES, &body).bearer_auth("t-admin")).await;
        assert_eq!(status, expected, "{said}");
    }
    assert_eq!(problem(fixture.post_json(SILENCES, &json!({}))).await.0, 401);
    let unknown = fixture.client.delete(fixture.url(&format!("{SILENCES}/nothing"))).bearer_auth("t-admin");
    assert_eq!(problem(unknown).await.0, 404);
    assert_eq!(standin.all(), []);
    let (_, operations) = shown(fixture.get("/api/operations")).await;
    assert_eq!(operations["operations"], json!([]), "nothing was recorded");
}

#[tokio::test]
async fn a_backtest_is_an_operation_and_its_report_the_result() {
    let (fixture, _) = with_worker(true).await;
    let request = fixture.post_json("/api/monitoring/rules/backtest", &json!({"by": "arrival"}));
    let (status, ended) = shown(request.header("prefer", "wait=10")).await;
    assert_eq!((status, &ended["kind"]), (200, &json!("alerting.backtest")));
    assert_eq!(ended["result"]["firings"][0]["labels"]["alertname"], "HighErrorRate");
}

#[tokio::test]
async fn without_the_worker_reading_is_refused_and_commands_are_kept() {
    let fixture = Fixture::start().await;
    let (status, said) = problem(fixture.get(SILENCES)).await;
    assert_eq!((status, &said["type"]), (503, &json!("urn:keelson:problem:no-answer")));
    let body = json!({"matchers": ["a=b"], "duration": "1h"});
    assert_eq!(shown(fixture.post_json(SILENCES, &body)).await.0, 202);
    assert_eq!(shown(fixture.post_json("/api/monitoring/rules/reload", &json!({}))).await.0, 202);
}
