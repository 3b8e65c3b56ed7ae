//! The notifier on a real nats-server, with receivers that answer as they are told.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fixture;

use std::time::Duration;

use fixture::{Hook, Place, alert};
use keelson_schemas::alerting::AlertState::{Firing, Resolved};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn what_fires_is_told_at_once_and_so_is_its_end() {
    let place = Place::new().await;
    let hook = Hook::start().await;
    let notifier = place.notifier(&hook.minimal()).await;
    place.transition(&alert("Errors", "web"), Firing).await;
    let told = hook.until(1).await.remove(0);
    assert_eq!(told.body["status"], "firing");
    assert_eq!(told.body["receiver"], "ops");
    assert_eq!(told.body["groupKey"], "{}:{alertname=\"Errors\", service_name=\"web\"}");
    assert_eq!(told.body["alerts"][0]["labels"]["service_name"], "web");
    place.transition(&alert("Errors", "web"), Resolved).await;
    let ended = hook.until(2).await.remove(1);
    assert_eq!(ended.body["status"], "resolved");
    assert_ne!(told.key, ended.key);
    notifier.stop().await;
}

#[tokio::test]
async fn from_the_bus_to_the_receiver_it_takes_milliseconds() {
    let place = Place::new().await;
    let hook = Hook::start().await;
    let notifier = place.notifier(&hook.minimal()).await;
    let mut took = Vec::new();
    for number in 0..50 {
        let stored = place.transition(&alert("Errors", &format!("s{number}")), Firing).await;
        took.push(hook.until(number + 1).await[number].at.duration_since(stored));
    }
    took.sort();
    println!("from stored to received: median {:?}, worst {:?}", took[25], took[49]);
    assert!(took[25] < Duration::from_millis(100), "{took:?}");
    notifier.stop().await;
}

#[tokio::test]
async fn the_next_notifier_goes_on_where_the_last_one_stopped() {
    let place = Place::new().await;
    let hook = Hook::start().await;
    let first = place.notifier(&hook.minimal()).await;
    place.transition(&alert("Errors", "web"), Firing).await;
    hook.until(1).await;
    first.stop().await;
    place.transition(&alert("Errors", "web"), Resolved).await;
    place.transition(&alert("Errors", "db"), Firing).await;
    let second = place.notifier(&hook.minimal()).await;
    let told = hook.until(3).await;
    let mut said: Vec<_> = told[1..].iter().map(|told| told.body["status"].as_str().unwrap()).collect();
    said.sort_unstable();
    assert_eq!(said, ["firing", "resolved"]);
    second.stop().await;
    let third = place.notifier(&hook.minimal()).await;
    hook.stays_at(3).await;
    third.stop().await;
}

#[tokio::test]
async fn a_notifier_that_was_cut_off_leaves_what_the_next_one_delivers_under_the_same_key() {
    let place = Place::new().await;
    let hook = Hook::start().await;
    hook.hang();
    let first = place.notifier(&hook.minimal()).await;
    place.transition(&alert("Errors", "web"), Firing).await;
    let tried = hook.until_tried(1).await.remove(0);
    first.cut_off().await;
    hook.answer(200);
    let second = place.notifier(&hook.minimal()).await;
    let told = hook.until(1).await.remove(0);
    assert_eq!((told.key, told.body), (tried.key, tried.body));
    hook.stays_at(1).await;
    second.stop().await;
}

#[tokio::test]
async fn a_receiver_that_is_away_delays_nobody_else_and_is_told_in_order_when_it_is_back() {
    let place = Place::new().await;
    let (away, fine) = (Hook::start().await, Hook::start().await);
    away.answer(503);
    let config = format!(
        "flap = {{ fired = 0 }}\n[[receivers]]\nname = \"away\"\nwebhook_url = \"{}\"\n[[receivers]]\nname = \"fine\"\nwebhook_url = \"{}\"\n",
        away.url(),
        fine.url()
    );
    let notifier = place.notifier(&config).await;
    for _ in 0..3 {
        place.transition(&alert("Errors", "web"), Firing).await;
        place.transition(&alert("Errors", "web"), Resolved).await;
    }
    let told = fine.until(6).await;
    away.answer(200);
    let late = away.until(6).await;
    for (index, (fine, late)) in told.iter().zip(&late).enumerate() {
        let expected = if index % 2 == 0 { "firing" } else { "resolved" };
        assert_eq!((&fine.body["status"], &late.body["status"]), (&expected.into(), &expected.into()));
        assert_eq!(fine.body["alerts"], late.body["alerts"]);
    }
    let tried = away.tried();
    assert_eq!(tried[0].key, late[0].key, "the first try and the one that arrived have one key");
    assert!(tried.len() > 6);
    notifier.stop().await;
}

#[tokio::test]
async fn what_a_receiver_refuses_for_good_becomes_a_dead_letter_that_can_be_redriven() {
    let place = Place::new().await;
    let hook = Hook::start().await;
    hook.answer(403);
    let notifier = place.notifier(&hook.minimal()).await;
    place.transition(&alert("Errors", "web"), Firing).await;
    let letter = place.dead_letter().await;
    assert!(letter.reason.contains("403 Forbidden: go away"), "{}", letter.reason);
    assert_eq!(letter.subject, "keelson.cmd.alerting.notify");
    let refused = hook.tried().remove(0);
    hook.answer(200);
    place.redrive(&letter).await;
    assert_eq!(hook.until(1).await[0].key, refused.key);
    // The end of what was refused is told all the same.
    place.transition(&alert("Errors", "web"), Resolved).await;
    assert_eq!(hook.until(2).await[1].body["status"], "resolved");
    notifier.stop().await;
}

#[tokio::test]
async fn a_silence_holds_back_what_fires_until_it_is_over_but_not_the_end_of_what_was_told() {
    let place = Place::new().await;
    let hook = Hook::start().await;
    let notifier = place.notifier(&hook.minimal()).await;
    place.transition(&alert("Errors", "web"), Firing).await;
    hook.until(1).await;
    let id = place.silence("service_name=~.+").await;
    notifier.sees_silence("web").await;
    place.transition(&alert("Errors", "web"), Resolved).await;
    place.transition(&alert("Errors", "db"), Firing).await;
    assert_eq!(hook.until(2).await[1].body["status"], "resolved");
    hook.stays_at(2).await;
    place.end_silence(&id).await;
    let told = hook.until(3).await.remove(2);
    assert_eq!(
        (&told.body["status"], &told.body["groupLabels"]["service_name"]),
        (&"firing".into(), &"db".into())
    );
    notifier.stop().await;
}

#[tokio::test]
async fn an_alertmanager_is_told_at_once_of_what_fires_and_what_resolved() {
    let place = Place::new().await;
    let hook = Hook::start().await;
    let config = format!("[[receivers]]\nname = \"am\"\nalertmanager_url = \"{}\"\n", hook.url());
    let notifier = place.notifier(&config).await;
    place.transition(&alert("Errors", "web"), Firing).await;
    let told = hook.until(1).await.remove(0);
    assert_eq!(told.body[0]["labels"]["alertname"], "Errors");
    let firing_until = told.body[0]["endsAt"].as_str().unwrap().to_owned();
    place.transition(&alert("Errors", "web"), Resolved).await;
    let ended = hook.until(2).await.remove(1);
    assert!(ended.body[0]["endsAt"].as_str().unwrap() < firing_until.as_str());
    notifier.stop().await;
}

#[tokio::test]
async fn other_routes_take_effect_at_once_and_tell_nobody_twice() {
    let place = Place::new().await;
    let (ops, pager) = (Hook::start().await, Hook::start().await);
    let receivers = format!(
        "[[receivers]]\nname = \"ops\"\nwebhook_url = \"{}\"\n[[receivers]]\nname = \"pager\"\nwebhook_url = \"{}\"\n",
        ops.url(),
        pager.url()
    );
    let notifier = place.notifier(&format!("route = {{ receiver = \"ops\" }}\n{receivers}")).await;
    place.transition(&alert("Errors", "web"), Firing).await;
    ops.until(1).await;
    notifier.reload(&receivers);
    pager.until(1).await;
    ops.stays_at(1).await;
    notifier.reload(&format!("route = {{ receiver = \"pager\" }}\n{receivers}"));
    place.transition(&alert("Errors", "web"), Resolved).await;
    assert_eq!(pager.until(2).await[1].body["status"], "resolved");
    assert_eq!(
        ops.until(2).await[1].body["status"],
        "resolved",
        "who was told of the beginning is told of the end"
    );
    notifier.stop().await;
}

#[tokio::test]
async fn a_group_that_is_over_leaves_nothing_behind() {
    let place = Place::new().await;
    let hook = Hook::start().await;
    let notifier = place.notifier(&hook.minimal()).await;
    place.transition(&alert("Errors", "web"), Firing).await;
    place.transition(&alert("Errors", "web"), Resolved).await;
    let told = hook.until(2).await;
    place.no_groups().await;
    place.transition(&alert("Errors", "web"), Firing).await;
    let again = hook.until(3).await.remove(2);
    assert!(told.iter().all(|told| told.key != again.key), "another life, another key");
    notifier.stop().await;
}

#[tokio::test]
async fn what_is_no_transition_is_dead_lettered_and_passed_over() {
    let place = Place::new().await;
    let hook = Hook::start().await;
    let notifier = place.notifier(&hook.minimal()).await;
    place.publish("keelson.evt.alerting.fired", "{\"alert\":5}").await;
    place.transition(&alert("Errors", "web"), Firing).await;
    hook.until(1).await;
    assert_eq!(place.dead_letter().await.stream, "EVENTS");
    notifier.stop().await;
}

#[tokio::test]
async fn an_end_that_is_lost_with_the_stream_is_told_and_nothing_is_repeated() {
    let (place, hook) = (Place::new().await, Hook::start().await);
    let notifier = place.notifier(&hook.minimal()).await;
    let (web, db) = (alert("A", "web"), alert("A", "db"));
    place.transition(&web, Firing).await;
    hook.until(1).await;
    notifier.stop().await;
    place.transition(&web, Resolved).await;
    place.transition(&db, Firing).await;
    place.roll_over().await;
    let notifier = place.notifier(&hook.minimal()).await;
    let told = hook.until(3).await;
    let mut told: Vec<String> = told[1..].iter().map(|posted| posted.body["status"].to_string()).collect();
    told.sort();
    assert_eq!(told, ["\"firing\"", "\"resolved\""]);
    hook.stays_at(3).await;
    notifier.stop().await;
}
