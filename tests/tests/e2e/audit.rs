//! The audit trail as it is shipped: what somebody commanded is listed with who, when and what became of it, exported, and proven.

use std::time::{Duration, Instant};

use keelson_tests::keelson::{Up, output};
use keelson_tests::nats;
use keelson_tests::place::Place;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const QUICK: &str =
    "[audit]\nkey = \"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\"\nseal_every = \"200ms\"\n";
const SILENCE: &str = "keelson.cmd.alerting.silence";

async fn lines(up: &Up, query: &[(&str, &str)]) -> Vec<Value> {
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let path = format!("/api/audit?{}", query.join("&"));
    let answer = up.client().request(reqwest::Method::GET, &path).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let text = answer.text().await.expect("a body");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The two silences, once both have ended: the one over HTTP, the one by hand.
async fn silences(up: &Up) -> [Value; 2] {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = lines(up, &[("subject", SILENCE)]).await;
        if let [http, hand] = &found[..]
            && [http, hand].iter().all(|entry| {
                entry["outcome"].as_str().is_some_and(|state| state != "accepted" && state != "running")
            })
        {
            return [http.clone(), hand.clone()];
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_commanded_is_listed_with_who_and_what_became_of_it_exported_and_proven() {
    let up = Up::start_in(Place::new().configured(QUICK)).await;
    let silence = json!({"matchers": ["alertname=A"], "duration": "1h", "comment": "known"});
    let (status, operation) = up.client().post("/api/monitoring/silences", &silence).await;
    assert_eq!(status, 202, "{operation}");
    // By hand, claiming an id that is another's.
    let hand = nats::jetstream(&up.nats_url()).await;
    hand.publish(SILENCE, br#"{"matchers":[],"duration":"1h","comment":""}"#.to_vec().into())
        .await
        .expect("it is sent")
        .await
        .expect("it is stored");

    let [http, by_hand] = silences(&up).await;
    assert_eq!((&http["actor"], &http["operation"]), (&operation["requestedBy"], &operation["id"]));
    assert_eq!((&http["outcome"], &http["body"]["comment"]), (&json!("succeeded"), &json!("known")));
    assert_eq!(by_hand["actor"], "unverified");
    assert_eq!(by_hand["outcome"], "rejected");
    assert!(by_hand["error"].as_str().is_some_and(|error| error.contains("matchers")), "{by_hand}");

    filters(&up, &http).await;
    command_line(&up, &http).await;
}

async fn filters(up: &Up, http: &Value) {
    let text = |key: &str| http[key].as_str().expect("text");
    let sequences =
        |found: Vec<Value>| found.iter().map(|entry| entry["sequence"].clone()).collect::<Vec<_>>();
    let only = vec![http["sequence"].clone()];
    for query in [("actor", text("actor")), ("operation", text("operation"))] {
        assert_eq!(sequences(lines(up, &[query, ("subject", SILENCE)]).await), only, "{query:?}");
    }
    assert_eq!(lines(up, &[("actor", "nobody")]).await, Vec::<Value>::new());
    assert_eq!(lines(up, &[("until", text("at")), ("subject", SILENCE)]).await, Vec::<Value>::new());
    assert_eq!(
        sequences(lines(up, &[("since", text("at")), ("subject", SILENCE), ("limit", "1")]).await),
        only
    );
    let after = http["sequence"].to_string();
    assert_eq!(lines(up, &[("after", &after), ("subject", SILENCE)]).await.len(), 1);
    for (query, field) in [
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "until"),
        ("subject=a..b", "subject"),
        ("limit=some", "limit"),
        ("colour=blue", "colour"),
    ] {
        let (status, problem) = up.client().get(&format!("/api/audit?{query}")).await;
        assert_eq!(status, 422, "{query}: {problem}");
        assert!(problem.to_string().contains(field), "{query}: {problem}");
    }
}

async fn command_line(up: &Up, http: &Value) {
    let said = |arguments: &[&str]| output(up.place(), arguments).1;
    let table = said(&["audit", "list", "--subject", SILENCE]);
    assert!(table.contains("unverified") && table.contains("rejected"), "{table}");
    let shown: Value =
        serde_json::from_str(&said(&["audit", "show", &http["sequence"].to_string()])).expect("JSON");
    assert_eq!(&shown, http);
    let csv = said(&["audit", "export", "--subject", SILENCE, "--format", "csv"]);
    assert_eq!((csv.lines().count(), csv.starts_with("sequence,at,subject")), (3, true), "{csv}");
    let all = said(&["audit", "export"]);
    assert!(all.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{all}");
    let (found, none) = output(up.place(), &["audit", "show", "999999"]);
    assert!(!found && none.contains("999999"), "{none}");
    let report = verified(up).await;
    assert!(report.contains("everything is as it was sealed"), "{report}");
}

/// What `verify` says once the first seal is there.
async fn verified(up: &Up) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (well, report) = output(up.place(), &["audit", "verify"]);
        if well {
            return report;
        }
        assert!(report.contains(" 0 seals") && Instant::now() < deadline, "{report}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
