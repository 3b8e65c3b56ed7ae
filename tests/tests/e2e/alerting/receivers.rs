//! Receivers that are slow, dead, or refuse: none delays another, and nothing that they have to know is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use keelson_tests::alerting::{SHORT_RULE, TOLD_WITHIN, receiver, rule_file, rules_of, short_rule};
use keelson_tests::commands::{ended, redrive};
use keelson_tests::keelson::Up;
use keelson_tests::place::Place;
use keelson_tests::service::{Service, requests};
use keelson_tests::webhook::{Manner, Post, Webhook};
use serde_json::Value;

/// Less than one try at a receiver that hangs may take (10 s).
const UNDELAYED: Duration = Duration::from_secs(8);
/// A receiver that comes back is tried again after its wait, which has doubled meanwhile.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);
/// Longer than the first wait before a notification is tried again.
const A_WHILE: Duration = Duration::from_secs(3);
/// The rule that watches Keelson's own dead letters.
const DEAD_LETTERS: &str = "KeelsonDeadLetters";

#[tokio::test]
async fn a_dead_receiver_and_one_that_hangs_delay_nobody() {
    let (mut dead, hanging, ops) = (Webhook::start().await, Webhook::start().await, Webhook::start().await);
    dead.go_down().await;
    hanging.behave(Manner::Hang);
    let receivers = [receiver("dead", &dead), receiver("hanging", &hanging), receiver("ops", &ops)].concat();
    let up = Up::start_in(Place::new().configured(&(rules_of("short.toml") + &receivers))).await;

    let names = ["a", "b", "c"];
    let mut services = Vec::new();
    for name in names {
        let since = Instant::now();
        services.push(Service::start_failing(&up.client(), name));
        let told = ops.told_of("firing", SHORT_RULE, name, TOLD_WITHIN).await;
        let took = told.at - since;
        println!("{name} was told of after {:.2} s", took.as_secs_f64());
        assert!(took < UNDELAYED, "{took:?}");
    }
    dead.come_up().await;
    hanging.behave(Manner::Take);
    for (name, late) in names.into_iter().flat_map(|name| [(name, &dead), (name, &hanging)]) {
        late.told_of("firing", SHORT_RULE, name, CAUGHT_UP_WITHIN).await;
    }
    for hook in [&dead, &hanging, &ops] {
        assert_eq!(hook.told().len(), names.len(), "{:#?}", hook.told());
    }
}

#[tokio::test]
async fn a_notification_whose_answer_is_lost_comes_again_under_its_key() {
    let hook = Webhook::start().await;
    let mut losses = 2;
    hook.behave_by(move || {
        losses -= i32::from(losses > 0);
        if losses > 0 { Manner::Lose(503) } else { Manner::Take }
    });
    let up = Up::start_in(Place::new().configured(&short_rule(&hook))).await;
    up.client().send("one", "web", &requests("web", 500, 1)).await;
    let twice = |posts: &[Post]| (posts.len() >= 2).then(|| posts.to_vec());
    let posts = hook.wait("second try", TOLD_WITHIN, twice).await;
    assert_eq!((&posts[0].key, &posts[0].body), (&posts[1].key, &posts[1].body));
    assert_eq!(hook.told().len(), 1);
}

#[tokio::test]
async fn what_a_receiver_refuses_is_a_dead_letter_with_an_alert_about_it() {
    let (strict, ops) = (Webhook::start().await, Webhook::start().await);
    strict.behave(Manner::Refuse(400));
    let receivers = receiver("strict", &strict) + &receiver("ops", &ops);
    let rules = format!("[alerting]\nrule_files = [\"{}\"]\n", rule_file("short.toml"));
    let up = Up::start_in(Place::new().configured(&(rules + &receivers))).await;
    up.client().send("one", "web", &requests("web", 500, 1)).await;

    ops.told_of("firing", DEAD_LETTERS, "", TOLD_WITHIN).await;
    tokio::time::sleep(A_WHILE).await;
    let refused = strict.posts();
    let keys: BTreeSet<&str> = refused.iter().map(|post| post.key.as_str()).collect();
    assert_eq!(refused.len(), keys.len(), "a notification that was refused was tried again: {refused:#?}");
    let post = refused.iter().find(|post| post.says("firing", SHORT_RULE, "web")).expect("it was tried");

    // Once the receiver is mended, redriving delivers what it had refused, as the same notification.
    strict.behave(Manner::Take);
    let letters = letters(&up).await;
    assert_eq!(letters.len(), keys.len(), "{letters:#?}");
    for (sequence, reason) in &letters {
        println!("dead letter {sequence}: {reason}");
        assert!(reason.contains("400") && reason.contains("strict"), "{reason}");
        let operation = redrive(&up.client(), *sequence, &format!("again-{sequence}")).await;
        assert_eq!(ended(&up.client(), &operation).await["state"], "succeeded");
    }
    let told = strict.told_of("firing", SHORT_RULE, "web", TOLD_WITHIN).await;
    assert_eq!((&told.key, &told.body["alerts"]), (&post.key, &post.body["alerts"]));
}

#[tokio::test]
async fn the_first_of_a_group_is_told_at_once_and_the_others_together() {
    let hook = Webhook::start().await;
    let route = "[alerting.route]\ngroup_by = [\"alertname\"]\ngroup_interval = \"4s\"\n";
    let config = rules_of("short.toml") + route + &receiver("ops", &hook) + "webhook_token = \"hush\"\n";
    let up = Up::start_in(Place::new().configured(&config)).await;
    up.client().send("a", "a", &requests("a", 500, 1)).await;
    let first = hook.told_of("firing", SHORT_RULE, "a", TOLD_WITHIN).await;
    for name in ["b", "c"] {
        up.client().send(name, name, &requests(name, 500, 1)).await;
    }
    let second = hook.told_of("firing", SHORT_RULE, "c", TOLD_WITHIN).await;
    assert!(second.says("firing", SHORT_RULE, "b"), "{:#}", second.body);
    assert_eq!((first.alerts().len(), second.alerts().len(), hook.posts().len()), (1, 3, 2));
    assert!(second.at - first.at >= Duration::from_millis(3_500), "{:?}", second.at - first.at);
    assert_eq!(first.authorization.as_deref(), Some("Bearer hush"));
    assert!(!up.command(&["config", "show"]).contains("hush"), "a secret is shown");
}

/// The reasons of all dead letters of notifications, by sequence.
async fn letters(up: &Up) -> BTreeMap<u64, String> {
    let (status, page) = up.client().get("/api/dead-letters").await;
    assert_eq!(status, 200, "{page}");
    let entries = page["letters"].as_array().expect("a list").iter();
    let notifications = entries.filter(|entry| entry["letter"]["subject"] == "keelson.cmd.alerting.notify");
    let number = |entry: &Value| entry["sequence"].as_u64().expect("a sequence");
    let reason = |entry: &Value| entry["letter"]["reason"].as_str().expect("a reason").to_owned();
    notifications.map(|entry| (number(entry), reason(entry))).collect()
}
