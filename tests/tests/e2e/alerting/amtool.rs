//! Alertmanager's own command line, as Debian ships it, against Keelson.

use std::process::Command;

use keelson_tests::alerting::{SHORT_RULE, TOLD_WITHIN, alerts_when, is};
use keelson_tests::keelson::Up;
use keelson_tests::place::TOKEN;
use keelson_tests::service::Service;
use serde_json::Value;

use super::up_with_short_rule;

#[tokio::test]
async fn amtool_works_unchanged() {
    let (up, hook) = up_with_short_rule().await;
    let web = Service::start_failing(&up.client(), "web");
    hook.told_of("firing", SHORT_RULE, "web", TOLD_WITHIN).await;
    let firing = |alert: &Value| is(alert, SHORT_RULE, "web", "firing");
    let ours = alerts_when(&up.client(), "firing", |alerts| alerts.iter().any(firing)).await;

    // Reading is open on loopback, as it is with Alertmanager.
    let amtool = Amtool::new(&up, None);
    let shown = amtool.json(&["alert", "query"]);
    assert_eq!(shown.len(), 1, "{shown:#?}");
    for field in ["fingerprint", "labels", "annotations"] {
        assert_eq!(shown[0][field], ours[0][field], "{field}");
    }
    assert_eq!(amtool.json(&["alert", "query", "service_name=web", "severity=~crit.*"]).len(), 1);
    assert_eq!(amtool.json(&["alert", "query", "service_name=other"]).len(), 0);
    assert!(amtool.say(&["alert", "query"]).contains(SHORT_RULE));
    let config = amtool.say(&["config", "show"]);
    assert!(config.contains("ops") && config.contains("short.toml"), "{config}");
    let (passed, said) = amtool.run(&["silence", "add", "service_name=web", "--comment", "no token"]);
    assert!(!passed, "a silence without a token: {said}");

    let amtool = Amtool::new(&up, Some(TOKEN));
    let added = [
        "silence",
        "add",
        "service_name=web",
        "--comment",
        "by amtool",
        "--duration",
        "1h",
        "--author",
        "ada",
    ];
    let id = amtool.say(&added).trim().to_owned();
    let silence = only(amtool.json(&["silence", "query"]));
    assert_eq!((silence["id"].as_str(), &silence["status"]["state"]), (Some(id.as_str()), &"active".into()));
    assert_eq!((&silence["comment"], &silence["createdBy"]), (&"by amtool".into(), &"ada".into()));
    assert_eq!(amtool.json(&["silence", "query", "service_name=other"]).len(), 0);
    let by =
        |alert: &Value| alert["silencedBy"].as_array().is_some_and(|ids| ids.contains(&id.as_str().into()));
    alerts_when(&up.client(), "silenced", |alerts| alerts.iter().any(by)).await;
    assert_eq!(
        amtool.json(&["alert", "query"]).len(),
        0,
        "a silenced alert is not shown unless it is asked for"
    );
    assert_eq!(amtool.json(&["alert", "query", "--silenced"]).len(), 1);

    let until = silence["endsAt"].clone();
    let updated = amtool.say(&["silence", "update", &id, "--duration", "2h", "--comment", "longer"]);
    let silence = only(amtool.json(&["silence", "query"]));
    assert!(updated.contains(silence["id"].as_str().expect("an id")), "{updated}");
    assert!(silence["endsAt"].as_str() > until.as_str() && silence["comment"] == "longer", "{silence:#}");

    amtool.say(&["silence", "expire", silence["id"].as_str().expect("an id")]);
    assert_eq!(amtool.json(&["silence", "query"]).len(), 0);
    let expired = amtool.json(&["silence", "query", "--expired", "--within", "1h"]);
    assert!(expired.iter().all(|silence| silence["status"]["state"] == "expired") && !expired.is_empty());
    alerts_when(&up.client(), "no longer silenced", |alerts| !alerts.iter().any(by)).await;
    let (passed, said) = amtool.run(&["silence", "expire", "00000000-0000-0000-0000-000000000000"]);
    assert!(!passed, "a silence that does not exist was ended: {said}");
    web.stop().await;
}

struct Amtool<'a> {
    up: &'a Up,
    token: bool,
}

impl<'a> Amtool<'a> {
    fn new(up: &'a Up, token: Option<&str>) -> Self {
        if let Some(token) = token {
            let config = format!("authorization: {{credentials: {token}}}\n");
            std::fs::write(up.place().path().join("amtool-http.yml"), config).expect("the configuration");
        }
        Self { up, token: token.is_some() }
    }

    /// Whether it succeeded, and all that it wrote.
    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new("amtool");
        // A configuration of the developer's own has no say here.
        command.current_dir(self.up.place().path()).env("HOME", self.up.place().path());
        command.arg(format!("--alertmanager.url={}", self.up.place().url()));
        if self.token {
            command.arg("--http.config.file=amtool-http.yml");
        }
        let output =
            command.args(arguments).output().expect("amtool runs: Debian's prometheus-alertmanager has it");
        let said =
            if output.status.success() { output.stdout } else { [output.stdout, output.stderr].concat() };
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    fn say(&self, arguments: &[&str]) -> String {
        let (passed, said) = self.run(arguments);
        assert!(passed, "amtool {arguments:?}: {said}");
        said
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let said = self.say(&[&["--output=json"], arguments].concat());
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("amtool {arguments:?}: {error}: {said}"))
    }
}

fn only(mut list: Vec<Value>) -> Value {
    assert_eq!(list.len(), 1, "{list:#?}");
    list.remove(0)
}
