//! Alertmanager's API: what plain HTTP shows of it, and amtool as Debian ships it.

use std::path::PathBuf;
use std::process::Output;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::fixture::{Fixture, header};
use crate::standin::StandIn;

const UNKNOWN: &str = "0193a5f2-7c1e-7d3a-9f6b-2f4a1c0e8d11";

async fn with_worker() -> (Fixture, StandIn) {
    let fixture = Fixture::start().await;
    let standin = StandIn::start(&fixture, true).await;
    (fixture, standin)
}

/// Every answer of this API is JSON, whatever went wrong.
async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    assert_eq!(header(&response, "content-type"), "application/json", "{status}");
    (status, response.json().await.expect("JSON"))
}

fn names(alerts: &Value) -> Vec<&str> {
    let names = alerts.as_array().expect("alerts").iter().map(|alert| &alert["labels"]["alertname"]);
    names.filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn alerts_are_filtered_as_the_query_says() {
    let (fixture, _) = with_worker().await;
    let cases = [
        ("", &["HighErrorRate", "SlowQueries", "SlowResponses"][..]),
        ("?inhibited=false", &["HighErrorRate", "SlowResponses"]),
        ("?active=false", &["SlowQueries"]),
        ("?filter=service_name%3Dvideo", &["SlowResponses"]),
        ("?filter=alertname%3D~%22Slow.*%22&filter=service_name!%3Dvideo", &["SlowQueries"]),
        ("?receiver=pager", &[]),
    ];
    for (query, expected) in cases {
        let (status, alerts) = answer(fixture.get(&format!("/api/v2/alerts{query}"))).await;
        let mut found = names(&alerts);
        found.sort_unstable();
        assert_eq!((status, &found[..]), (200, expected), "{query}");
    }
    let (_, groups) = answer(fixture.get("/api/v2/alerts/groups")).await;
    assert_eq!(names(&groups[0]["alerts"]), ["HighErrorRate"]);
    let (_, receivers) = answer(fixture.get("/api/v2/receivers")).await;
    assert_eq!(receivers, json!([{"name": "ops"}, {"name": "pager"}]));
    let (_, status) = answer(fixture.get("/api/v2/status")).await;
    assert_eq!(
        (&status["versionInfo"]["version"], &status["cluster"]["status"]),
        (&json!("0.25.0"), &json!("disabled"))
    );
}

#[tokio::test]
async fn what_cannot_be_is_said_in_a_string_of_json_by_every_layer() {
    let (fixture, _) = with_worker().await;
    let post = |body: Value| fixture.post_json("/api/v2/silences", &body).bearer_auth("t-admin");
    let silence = |matchers: Value, end: &str| json!({"matchers": matchers, "startsAt": "2030-01-01T00:00:00Z", "endsAt": end, "createdBy": "a", "comment": "c"});
    let matcher = json!([{"name": "a", "value": "b", "isRegex": false}]);
    let mut unknown = silence(matcher.clone(), "2030-01-02T00:00:00Z");
    unknown["id"] = json!(UNKNOWN);
    let one = format!("/api/v2/silence/{UNKNOWN}");
    let cases = [
        (post(silence(json!([]), "2030-01-02T00:00:00Z")), 400),
        (post(silence(matcher.clone(), "2029-01-02T00:00:00Z")), 400),
        (
            post(silence(json!([{"name": "a b", "value": "b", "isRegex": false}]), "2030-01-02T00:00:00Z")),
            400,
        ),
        (post(json!({})), 400),
        (post(unknown), 404),
        (fixture.post_json("/api/v2/silences", &silence(matcher, "2030-01-02T00:00:00Z")), 401),
        (fixture.get("/api/v2/alerts?filter=bad"), 400),
        (fixture.get("/api/v2/alerts?receiver=("), 400),
        (fixture.get("/api/v2/silences?filter=bad"), 400),
        (fixture.get(&one), 404),
        (fixture.client.delete(fixture.url(&one)).bearer_auth("t-admin"), 404),
        (fixture.client.delete(fixture.url(&one)).bearer_auth("t-read"), 403),
        (fixture.client.request(Method::POST, fixture.url("/api/v2/alerts")), 405),
        (fixture.get("/api/v2/nothing"), 404),
        (fixture.get("/api/v2/status").bearer_auth("unknown"), 401),
    ];
    for (i, (request, expected)) in cases.into_iter().enumerate() {
        let (status, said) = answer(request).await;
        assert_eq!(status, expected, "case {i}: {said}");
        assert!(said.as_str().is_some_and(|said| !said.is_empty()), "case {i}: {said}");
    }
}

#[tokio::test]
async fn a_silence_that_nobody_makes_in_time_is_no_silence() {
    let fixture = Fixture::start().await;
    StandIn::start(&fixture, false).await;
    let body = json!({"matchers": [{"name": "a", "value": "b", "isRegex": false}], "startsAt": "2030-01-01T00:00:00Z",
        "endsAt": "2030-01-02T00:00:00Z", "createdBy": "a", "comment": "c"});
    let (status, said) = answer(fixture.post_json("/api/v2/silences", &body).bearer_auth("t-admin")).await;
    assert_eq!(status, 503);
    assert!(said.as_str().is_some_and(|said| said.contains("/api/operations/")), "{said}");
}

/// amtool with a token in the file of its HTTP client, as the README says.
struct Amtool {
    url: String,
    config: PathBuf,
}

impl Amtool {
    fn of(fixture: &Fixture, place: &tempfile::TempDir) -> Self {
        let (token, config) = (place.path().join("admin-token"), place.path().join("amtool-http.yml"));
        std::fs::write(&token, "t-admin\n").expect("writes");
        let text = format!("authorization:\n  credentials_file: {}\n", token.display());
        std::fs::write(&config, text).expect("writes");
        Self { url: fixture.url(""), config }
    }

    async fn output(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("amtool");
        command.arg("--alertmanager.url").arg(&self.url).arg("--http.config.file").arg(&self.config);
        let output = command.args(arguments).env("HOME", "/nowhere").output().await;
        output.expect("amtool runs: Debian's package prometheus-alertmanager has it")
    }

    /// What it prints; it must succeed and have nothing to complain of.
    async fn says(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaint.is_empty(), "{arguments:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.says(&[arguments, &["-o", "json"]].concat()).await).expect("JSON")
    }
}

#[tokio::test]
async fn amtool_reads_alerts_and_the_configuration() {
    let (fixture, _) = with_worker().await;
    let place = tempfile::tempdir().expect("a directory");
    let amtool = Amtool::of(&fixture, &place);
    let shown = amtool.says(&["alert", "query"]).await;
    assert!(shown.contains("HighErrorRate") && shown.contains("content is in trouble"), "{shown}");
    assert_eq!(
        names(&amtool.json(&["alert", "query", "SlowResponses", "service_name=~v.*"]).await),
        ["SlowResponses"]
    );
    assert_eq!(names(&amtool.json(&["alert", "query", "--inhibited"]).await), ["SlowQueries"]);
    assert_eq!(amtool.json(&["alert", "query", "nothing"]).await, json!([]));
    assert!(amtool.says(&["config", "show"]).await.contains("[[receivers]]"));
    assert!(amtool.says(&["-o", "extended", "config", "show"]).await.contains("uptime 20"));
    assert!(amtool.says(&["cluster", "show"]).await.contains("disabled"));
}

#[tokio::test]
async fn amtool_makes_changes_and_ends_silences() {
    let (fixture, standin) = with_worker().await;
    let place = tempfile::tempdir().expect("a directory");
    let amtool = Amtool::of(&fixture, &place);
    let add =
        ["silence", "add", "HighErrorRate", "service_name=~con.*", "-a", "ada", "-c", "a disk", "-d", "2h"];
    let id = amtool.says(&add).await;
    let silence = standin.all().remove(0);
    assert_eq!(
        (silence.id.as_str(), silence.created_by.as_str(), silence.comment.as_str()),
        (&*id, "ada", "a disk")
    );
    assert_eq!(silence.matchers.len(), 2);
    assert!(silence.ends_at_ms.abs_diff(silence.starts_at_ms + 7_200_000) < 10_000);

    assert!(amtool.says(&["silence", "query"]).await.contains("a disk"));
    assert_eq!(amtool.says(&["silence", "query", "-q", "service_name=~con.*"]).await, id);
    assert_eq!(amtool.says(&["silence", "query", "-q", "service_name=other"]).await, "");
    assert_eq!(names(&amtool.json(&["alert", "query", "--silenced"]).await), ["HighErrorRate"]);

    // With -q amtool 0.25 prints an address of its memory instead of the id.
    let changed = amtool.says(&["silence", "update", "-c", "two disks", "-d", "3h", &id]).await;
    assert!(changed.contains("two disks"), "{changed}");
    assert_eq!((standin.all().len(), standin.all()[0].comment.as_str()), (1, "two disks"));
    amtool.says(&["silence", "expire", &id]).await;
    assert_eq!(amtool.says(&["silence", "query", "-q"]).await, "");
    assert_eq!(amtool.says(&["silence", "query", "-q", "--expired"]).await, id);

    let refused = amtool.output(&["silence", "expire", UNKNOWN]).await;
    assert!(!refused.status.success());
}

#[tokio::test]
async fn amtool_is_told_why_a_silence_is_refused() {
    let (fixture, _) = with_worker().await;
    let place = tempfile::tempdir().expect("a directory");
    let amtool = Amtool::of(&fixture, &place);
    let refused = amtool.output(&["silence", "add", "a=", "-c", "c"]).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("would match everything"), "{said}");
}
