//! Rules are read again by command and on SIGHUP; with anything wrong in them, all of it is named and the ones that run stay.

use std::time::{Duration, Instant};

use keelson_tests::alerting::{SHORT_RULE, TOLD_WITHIN, receiver, rule_file};
use keelson_tests::commands::ended;
use keelson_tests::keelson::{Up, output};
use keelson_tests::place::Place;
use keelson_tests::service::Service;
use keelson_tests::webhook::Webhook;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::Value;

/// What is wrong in tests/data/rules/broken.toml: where, and what has to be named.
const WRONG: [(&str, &str); 5] = [
    ("broken.toml:4", "eror_ratio"),
    ("broken.toml:10", "mountpoint"),
    ("broken.toml:17", "colour"),
    ("broken.toml:23", "windoww"),
    ("broken.toml:28", "where[0]"),
];

#[tokio::test]
async fn broken_rules_are_named_and_the_ones_that_run_stay() {
    let hook = Webhook::start().await;
    let (place, rules) = place_with_rules(&hook);
    let mut up = Up::start_in(place).await;
    assert_eq!(running(&up).await, [SHORT_RULE]);

    std::fs::copy(rule_file("broken.toml"), rules.join("broken.toml")).expect("the file");
    std::fs::write(rules.join("more.toml"), "[[rules]]\nname = 5\n").expect("the file");
    let record = reload(&up).await;
    assert!(["failed", "rejected"].iter().any(|state| record["state"] == *state), "{record}");
    let said = record["error"].as_str().expect("words");
    println!("{said}");
    assert_names_all(said);
    assert!(said.contains("more.toml"), "{said}");
    let checked = output(up.place(), &["rules", "check", &rule_file("broken.toml")]);
    assert!(!checked.0, "{}", checked.1);
    assert_names_all(&checked.1);

    let (_, letters) = up.client().get("/api/dead-letters").await;
    assert_eq!(letters["letters"], serde_json::json!([]), "a mistake in a file calls nobody");

    // The same by SIGHUP, which has nobody to answer: the log says it, and so does the list of rules.
    up.process().signal(Signal::SIGHUP);
    let told = |line: &str| line.contains("windoww").then_some(());
    up.process().line(TOLD_WITHIN, told).await;
    assert_eq!(running(&up).await, [SHORT_RULE]);
    let (_, shown) = up.client().get("/api/monitoring/rules").await;
    assert!(shown["errors"].to_string().contains("windoww"), "{shown:#}");
    let web = Service::start_failing(&up.client(), "web");
    hook.told_of("firing", SHORT_RULE, "web", TOLD_WITHIN).await;
    web.stop().await;
}

#[tokio::test]
async fn a_rule_that_is_renamed_takes_the_place_of_the_old_one() {
    let hook = Webhook::start().await;
    let (place, rules) = place_with_rules(&hook);
    let mut up = Up::start_in(place).await;
    let web = Service::start_failing(&up.client(), "web");
    hook.told_of("firing", SHORT_RULE, "web", TOLD_WITHIN).await;

    let file = rules.join("short.toml");
    let renamed = std::fs::read_to_string(&file).expect("the rules").replace(SHORT_RULE, "Renamed");
    std::fs::write(&file, renamed).expect("the rules");
    up.process().signal(Signal::SIGHUP);
    hook.told_of("resolved", SHORT_RULE, "web", TOLD_WITHIN).await;
    hook.told_of("firing", "Renamed", "web", TOLD_WITHIN).await;
    assert_eq!(running(&up).await, ["Renamed"]);

    let record = reload(&up).await;
    assert_eq!(record["state"], "succeeded", "{record}");
    web.recover();
    hook.told_of("resolved", "Renamed", "web", TOLD_WITHIN).await;
    web.stop().await;
}

/// A place whose rules lie in a folder beside the configuration, by a pattern relative to it; and that folder.
fn place_with_rules(hook: &Webhook) -> (Place, std::path::PathBuf) {
    let config = "[alerting]\ndefault_rules = false\nrule_files = [\"rules/*.toml\"]\n".to_owned();
    let place = Place::new().configured(&(config + &receiver("ops", hook)));
    let rules = place.path().join("rules");
    std::fs::create_dir(&rules).expect("a folder");
    std::fs::copy(rule_file("short.toml"), rules.join("short.toml")).expect("the rules");
    (place, rules)
}

/// Asks for the rules to be read again; the record of the operation, once it has ended.
async fn reload(up: &Up) -> Value {
    let request = up.client().request(Method::POST, "/api/monitoring/rules/reload");
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
    let path = answer.headers()["location"].to_str().expect("a path").to_owned();
    ended(&up.client(), &path).await
}

/// The names of the rules that run, as soon as the evaluator answers.
async fn running(up: &Up) -> Vec<String> {
    let deadline = Instant::now() + TOLD_WITHIN;
    loop {
        let (_, shown) = up.client().get("/api/monitoring/rules").await;
        if let Some(rules) = shown["rules"].as_array() {
            return rules.iter().map(|rule| rule["name"].as_str().expect("a name").to_owned()).collect();
        }
        assert!(Instant::now() < deadline, "the rules are not shown: {shown}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn assert_names_all(said: &str) {
    for (place, name) in WRONG {
        assert!(said.contains(place) && said.contains(name), "{place} and {name} are not named in:\n{said}");
    }
}
