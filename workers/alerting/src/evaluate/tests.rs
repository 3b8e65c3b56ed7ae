//! Tables. [`reference`] compares the evaluator with one that keeps all samples.

mod no_data;
mod reference;
mod scene;

use keelson_schemas::alerting::{AlertState, Labels};
use keelson_schemas::limits::OVERFLOW;

use self::scene::{NOW, Scene, db, host, http};
use super::watch::MAX_GROUPS;
use crate::rules::{RuleSet, Source};
use crate::signal::SIGNALS;

/// The alerts of the shipped rules that fire after one minute with this in it.
fn shipped(fill: impl FnOnce(&mut Scene)) -> Vec<String> {
    let mut scene = Scene::with_defaults();
    fill(&mut scene);
    scene.at(NOW);
    scene.firing()
}

#[test]
fn the_shipped_rules_fire_just_over_their_thresholds_and_not_at_them() {
    for (failed, fires) in [(49, false), (50, false), (51, true)] {
        let firing = shipped(|scene| {
            scene.add(NOW - 59, http("web", "/a", 500, failed, 100));
            scene.add(NOW, http("web", "/a", 200, 1_000 - failed, 100));
        });
        assert_eq!(!firing.is_empty(), fires, "{failed} of 1000 failed: {firing:?}");
    }
    for (ms, fires) in [(1_999, false), (2_000, false), (2_001, true)] {
        let firing =
            shipped(|scene| (0..60).for_each(|ago| scene.add(NOW - ago, http("web", "/a", 200, 7, ms))));
        assert_eq!(firing, if fires { &["SlowResponses{service_name=web}"][..] } else { &[] }, "{ms} ms");
    }
    for (slow, fires) in [(9, false), (10, false), (11, true)] {
        let firing = shipped(|scene| {
            scene.add(NOW - 30, db("web", "click.videos", 4, 4));
            scene.add(NOW, db("web", "click.users", 100, slow - 4));
        });
        assert_eq!(firing, if fires { &["SlowQueries{service_name=web}"][..] } else { &[] }, "{slow} slow");
    }
    for (used, fires) in [(899, false), (900, false), (901, true)] {
        let firing =
            shipped(|scene| (0..6).for_each(|n| scene.add(NOW - n * 10, host("web", "web-1", used, 1_000))));
        let expected = ["HighMemory{instance=web-1,service_name=web}"];
        assert_eq!(firing, if fires { &expected[..] } else { &[] }, "{used} of 1000 bytes");
    }
    for (letters, fires) in [(0.0, false), (1.0, true)] {
        let firing = shipped(|scene| scene.read("dead_letters", &[("stream", "COMMANDS")], NOW, letters));
        assert_eq!(
            firing,
            if fires { &["KeelsonDeadLetters{stream=COMMANDS}"][..] } else { &[] },
            "{letters}"
        );
    }
}

#[test]
fn every_signal_has_the_value_that_its_name_says() {
    for (signal, expected) in [
        ("requests", 40.0),
        ("request_rate", 4.0),
        ("errors", 10.0),
        ("error_ratio", 0.25),
        ("latency_avg", 0.125),
        ("latency_p50", 0.1),
        ("latency_p90", 0.2),
        ("latency_p95", 0.2),
        ("latency_p99", 0.2),
        ("latency_p999", 0.2),
        ("queries", 20.0),
        ("query_rate", 2.0),
        ("slow_queries", 5.0),
        ("query_latency_avg", 0.05),
        ("query_latency_p95", 0.05),
        ("query_latency_p99", 0.05),
        ("memory_utilization", 0.75),
        ("cpu_utilization", 0.5),
        ("filesystem_utilization", 0.25),
        ("dead_letters", 5.0),
        ("consumer_lag", 3.0),
        ("breaker_open", 3.0),
        ("service_down", 3.0),
        ("certificate_expiring", 3.0),
        ("backup_age_seconds", 3.0),
        ("backup_overdue_seconds", 3.0),
        ("backups_failed", 5.0),
        ("backup_gaps", 5.0),
        ("drill_overdue_seconds", 3.0),
        ("drills_failed", 5.0),
        ("notification_failures", 5.0),
        ("purges_stale", 5.0),
        ("purges_failed", 5.0),
        ("cdn_provider_down", 3.0),
    ] {
        let mut scene = Scene::of(&format!("signal = \"{signal}\"\nabove = 0\nwindow = \"10s\""));
        scene.add(NOW - 3, http("web", "/a", 200, 30, 100));
        scene.add(NOW - 1, http("web", "/a", 503, 10, 200));
        scene.add(NOW - 1, db("web", "click.videos", 20, 5));
        scene.add(NOW - 1, host("web", "web-1", 500, 1_000));
        scene.add(NOW, host("web", "web-1", 1_000, 1_000));
        scene.read(signal, &[], NOW - 2, 2.0);
        scene.read(signal, &[], NOW - 1, 3.0);
        let changes = scene.evaluate(NOW);
        let value = changes[0].alert.value.unwrap_or_default();
        assert!((value / expected - 1.0).abs() < 0.011, "{signal}: {value}, not {expected}");
        scene.apply(&changes);
        assert_eq!(scene.firing().len(), 1, "{signal}");
    }
    assert_eq!(SIGNALS.len(), 34);
}

#[test]
fn what_fires_goes_on_until_the_value_is_cleared() {
    let mut scene = Scene::of("signal = \"errors\"\nabove = 10\nclear = 5\nwindow = \"1s\"");
    for (at, errors, fires) in [
        (0, 10, false),
        (1, 11, true),
        (2, 8, true),
        (3, 6, true),
        (4, 5, false),
        (5, 10, false),
        (6, 11, true),
    ] {
        scene.add(NOW + at, http("web", "/a", 500, errors, 1));
        scene.at(NOW + at);
        assert_eq!(!scene.firing().is_empty(), fires, "{errors} errors");
    }
    let mut scene = Scene::of("signal = \"requests\"\nbelow = 10\nclear = 15\nwindow = \"1s\"");
    for (at, requests, fires) in [(0, 10, false), (1, 9, true), (2, 14, true), (3, 15, false), (4, 12, false)]
    {
        scene.add(NOW + at, http("web", "/a", 200, requests, 1));
        scene.at(NOW + at);
        assert_eq!(!scene.firing().is_empty(), fires, "{requests} requests");
    }
}

#[test]
fn a_condition_must_hold_for_its_time_without_a_break() {
    let mut scene = Scene::of("signal = \"errors\"\nabove = 0\nwindow = \"1s\"\nfor = \"3s\"");
    let bad = |scene: &mut Scene, at| scene.add(NOW + at, http("web", "/a", 500, 1, 1));
    let good = |scene: &mut Scene, at| scene.add(NOW + at, http("web", "/a", 200, 1, 1));
    bad(&mut scene, 0);
    assert_eq!(scene.facts_at(NOW), ["pending"]);
    good(&mut scene, 1);
    assert_eq!(scene.facts_at(NOW + 1), ["cleared"]);
    bad(&mut scene, 2);
    assert_eq!(scene.facts_at(NOW + 2), ["pending"]);
    (3..6).for_each(|at| bad(&mut scene, at));
    assert_eq!(scene.facts_at(NOW + 4), [""; 0]);
    assert_eq!(scene.facts_at_ms((NOW + 5) * 1000 - 1), [""; 0]);
    assert_eq!(scene.due_ms(), Some((NOW + 5) * 1000));
    assert_eq!(scene.facts_at(NOW + 5), ["fired"]);
    let alert = scene.alerts().remove(0);
    assert_eq!((alert.active_at_ms, alert.starts_at_ms), ((NOW + 2) * 1000, Some((NOW + 5) * 1000)));
}

#[test]
fn what_is_due_within_a_second_is_not_put_off_to_the_next() {
    let mut scene = Scene::of("signal = \"errors\"\nabove = 0\nfor = \"3s\"");
    scene.add(NOW, http("web", "/a", 500, 1, 1));
    assert_eq!(scene.facts_at_ms(NOW * 1000 + 500), ["pending"]);
    assert_eq!(scene.facts_at_ms(NOW * 1000 + 3_499), [""; 0]);
    assert_eq!(scene.due_ms(), Some(NOW * 1000 + 3_500));
    assert_eq!(scene.facts_at_ms(NOW * 1000 + 3_500), ["fired"]);
}

#[test]
fn it_fires_on_for_its_time_after_the_condition_ceased() {
    let mut scene = Scene::of("signal = \"errors\"\nabove = 0\nwindow = \"1s\"\nkeep_firing_for = \"3s\"");
    let bad_at = [0, 3];
    for at in 0..8 {
        let status = if bad_at.contains(&at) { 500 } else { 200 };
        scene.add(NOW + at, http("web", "/a", status, 1, 1));
    }
    for (at, facts) in [(0, &["fired"][..]), (1, &[]), (2, &[]), (3, &[]), (4, &[]), (5, &[]), (6, &[])] {
        assert_eq!(scene.facts_at(NOW + at), facts, "{at}");
    }
    assert_eq!(scene.facts_at(NOW + 7), ["resolved"]);
}

#[test]
fn who_takes_over_lets_it_fire_on_for_the_rest_of_its_time() {
    let rule = "signal = \"errors\"\nabove = 0\nwindow = \"1s\"\nkeep_firing_for = \"30s\"";
    let mut before = Scene::of(rule);
    for at in 0..20 {
        before.add(NOW + at, http("web", "/a", if at == 0 { 500 } else { 200 }, 1, 1));
        before.at(NOW + at);
    }
    assert_eq!(before.ceased().into_values().collect::<Vec<_>>(), [(NOW + 1) * 1000]);
    let mut scene = Scene::of_with(rule, before.alerts());
    scene.cease(&before.ceased());
    let resolved = (20..60).find(|at| {
        scene.add(NOW + at, http("web", "/a", 200, 1, 1));
        scene.facts_at(NOW + at) == ["resolved"]
    });
    assert_eq!(resolved, Some(31));
}

#[test]
fn few_samples_do_not_begin_an_alert_and_do_not_end_one() {
    let mut scene = Scene::of("signal = \"error_ratio\"\nabove = 0.5\nwindow = \"2s\"\nmin_samples = 10");
    for (at, failed, fires) in [(0, 9, false), (1, 1, true), (2, 1, true), (3, 1, true)] {
        scene.add(NOW + at, http("web", "/a", 500, failed, 1));
        scene.at(NOW + at);
        assert_eq!(!scene.firing().is_empty(), fires, "{at}");
    }
}

#[test]
fn the_first_failure_of_a_new_series_counts() {
    let mut scene = Scene::of("signal = \"errors\"\nabove = 0");
    scene.add(NOW, http("new", "/never-seen", 500, 1, 1));
    assert_eq!(scene.facts_at(NOW), ["fired"]);
}

#[test]
fn a_change_is_said_until_it_is_applied() {
    let mut scene = Scene::of("signal = \"errors\"\nabove = 0");
    scene.add(NOW, http("web", "/a", 500, 1, 1));
    let first = scene.evaluate(NOW);
    assert_eq!(first.len(), 1);
    assert_eq!(scene.evaluate(NOW), first);
    assert_eq!(scene.evaluate(NOW - 5), first, "time does not go back");
    scene.apply(&first);
    assert!(scene.evaluate(NOW).is_empty());
}

#[test]
fn what_comes_late_counts_in_the_window_that_it_lies_in() {
    let mut scene = Scene::of("signal = \"errors\"\nabove = 2\nwindow = \"10s\"");
    scene.add(NOW, http("web", "/a", 500, 1, 1));
    assert_eq!(scene.facts_at(NOW), [""; 0]);
    scene.add(NOW - 10, http("web", "/a", 500, 5, 1));
    assert_eq!(scene.facts_at(NOW), [""; 0], "before the window");
    scene.add(NOW - 9, http("web", "/a", 500, 2, 1));
    assert_eq!(scene.facts_at(NOW), ["fired"], "out of order, within it");
    scene.add(NOW + 1, http("web", "/a", 200, 1, 1));
    assert_eq!(scene.facts_at(NOW + 1), ["resolved"], "and it leaves the window in its turn");
}

#[test]
fn a_batch_of_many_seconds_is_judged_on_a_whole_window() {
    let mut scene = Scene::of("signal = \"request_rate\"\nbelow = 10\nwindow = \"10s\"");
    (0..10).for_each(|ago| scene.add(NOW - ago, http("web", "/a", 200, 10, 1)));
    assert_eq!(scene.facts_at(NOW), [""; 0]);
    for after in 1..=20 {
        assert_eq!(scene.facts_at(NOW + after), [""; 0], "{after} s after the last batch");
    }
    (1..=20).for_each(|at| scene.add(NOW + at, http("web", "/a", 200, 10, 1)));
    assert_eq!(scene.facts_at(NOW + 21), [""; 0]);
}

#[test]
fn a_service_whose_clock_is_behind_is_judged_by_its_own_time() {
    for (behind_s, expected) in [(0, true), (60, true), (280, true), (400, false)] {
        let mut scene = Scene::of("signal = \"errors\"\nabove = 0\nwindow = \"10s\"");
        let mut facts = Vec::new();
        for at in (0..30).step_by(5) {
            let status = if at == 0 { 500 } else { 200 };
            scene.add(NOW + at - behind_s, http("web", "/a", status, 1, 1));
            facts.extend(scene.facts_at(NOW + at).into_iter().map(|fact| (at, fact)));
        }
        let told = [(0, "fired".to_owned()), (10, "resolved".to_owned())];
        assert_eq!(facts, if expected { &told[..] } else { &[] }, "{behind_s} s behind");
    }
}

#[test]
fn what_is_imported_of_the_past_neither_begins_an_alert_nor_ends_one() {
    let mut scene = Scene::of("signal = \"slow_queries\"\nabove = 2\nwindow = \"10s\"");
    scene.add(NOW, db("web", "click.videos", 5, 5));
    assert_eq!(scene.facts_at(NOW), ["fired"]);
    for at in 400..500 {
        scene.add(NOW + at - 399, http("web", "/a", 200, 1, 1));
        scene.add(NOW + at - 399, db("video", "click.videos", 5, 5));
        assert_eq!(scene.facts_at(NOW + at), [""; 0], "{at}");
    }
}

#[test]
fn what_is_ahead_of_the_clock_counts_when_its_time_comes() {
    let mut scene = Scene::of("signal = \"errors\"\nabove = 0\nwindow = \"10s\"");
    scene.add(NOW, http("web", "/a", 200, 1, 1));
    scene.add(NOW + 200, http("web", "/a", 500, 1, 1));
    scene.add(NOW + 1_000_000, http("web", "/a", 500, 1, 1));
    for at in [0, 100, 199] {
        assert_eq!(scene.facts_at(NOW + at), [""; 0], "{at}");
    }
    assert_eq!(scene.due_ms(), Some((NOW + 200) * 1000));
    assert_eq!(scene.facts_at(NOW + 200), ["fired"]);
}

#[test]
fn services_and_filters_are_told_apart() {
    let rule = "signal = \"errors\"\nabove = 0\nby = [\"service_name\", \"http_route\"]\nwhere = ['http_route!~\"/health.*\"', 'service_name=~\"w.*\"']";
    let mut scene = Scene::of(rule);
    for (service, route) in
        [("web", "/a"), ("web", "/b"), ("web", "/healthz"), ("video", "/a"), ("www", "/a")]
    {
        scene.add(NOW, http(service, route, 500, 1, 1));
    }
    scene.at(NOW);
    let expected = [
        "Rule{http_route=/a,service_name=web}",
        "Rule{http_route=/a,service_name=www}",
        "Rule{http_route=/b,service_name=web}",
    ];
    assert_eq!(scene.firing(), expected);
}

#[test]
fn what_is_not_told_apart_is_looked_at_together() {
    let mut scene = Scene::of("signal = \"errors\"\nabove = 3\nby = []");
    scene.add(NOW, http("web", "/a", 500, 2, 1));
    scene.add(NOW - 40, http("video", "/b", 500, 2, 1));
    scene.at(NOW);
    assert_eq!(scene.firing(), ["Rule{}"]);
    let mut scene = Scene::of("signal = \"consumer_lag\"\nabove = 10\nby = [\"stream\"]");
    scene.read("consumer_lag", &[("stream", "A"), ("consumer", "x")], NOW, 11.0);
    scene.read("consumer_lag", &[("stream", "A"), ("consumer", "y")], NOW + 1, 2.0);
    scene.at(NOW + 1);
    assert_eq!(scene.firing(), ["Rule{stream=A}"], "the worst of them counts");
}

#[test]
fn the_more_rules_keep_histograms_the_fewer_things_each_tells_apart() {
    let rule =
        |n| format!("[[rules]]\nname = \"R{n}\"\nsignal = \"latency_p99\"\nabove = 9\nwindow = \"5m\"\n");
    for (rules, all_apart) in [(1, true), (20, false)] {
        let text = (0..rules).map(rule).collect();
        let rules = RuleSet::parse(&[Source { name: "test".into(), text }], &[], false).unwrap();
        let mut scene = Scene::new(rules, Vec::new());
        (0..200).for_each(|n| scene.add(NOW, http(&format!("s{n}"), "/a", 200, 1, 1)));
        scene.at(NOW);
        let status = scene.status();
        assert_eq!(status.overflow == 0, all_apart, "{status:?}");
        assert!(all_apart || (50..150).contains(&status.series), "{status:?}");
    }
}

#[test]
fn past_the_bound_label_sets_are_looked_at_together_and_counted() {
    let mut scene = Scene::of("signal = \"errors\"\nabove = 4\nby = [\"http_route\"]\nwindow = \"10s\"");
    let route = |n: usize| format!("/{n}");
    (0..MAX_GROUPS + 5).for_each(|n| scene.add(NOW, http("web", &route(n), 500, 1, 1)));
    scene.at(NOW);
    assert_eq!(scene.firing(), [format!("Rule{{http_route={OVERFLOW}}}")]);
    let status = scene.status();
    assert_eq!((status.series, status.overflow), (MAX_GROUPS as u64 + 1, 5));
    // When those are gone, there is room again, for what was folded and for what had a group before.
    let folded = route(MAX_GROUPS + 1);
    for at in [20, 21] {
        scene.add(NOW + at, http("web", &folded, 500, 5, 1));
        scene.add(NOW + at, http("web", &route(500), 500, 5, 1));
        scene.at(NOW + at);
    }
    let firing = scene.firing();
    for route in [folded, route(500)] {
        assert!(firing.contains(&format!("Rule{{http_route={route}}}")), "{route}: {firing:?}");
    }
    assert_eq!(scene.status().overflow, 0);
}

#[test]
fn alerts_go_on_after_a_takeover() {
    let rule = "signal = \"errors\"\nabove = 0\nwindow = \"10s\"";
    let mut before = Scene::of(rule);
    before.add(NOW, http("web", "/a", 500, 1, 1));
    before.at(NOW);
    let mut after = Scene::of_with(rule, before.alerts());
    assert_eq!(after.alerts(), before.alerts());
    after.add(NOW, http("web", "/a", 500, 1, 1));
    assert_eq!(after.facts_at(NOW + 1), [""; 0]);
    after.add(NOW + 10, http("web", "/a", 200, 1, 1));
    assert_eq!(after.facts_at(NOW + 10), ["resolved"]);
}

#[test]
fn alerts_that_no_rule_makes_any_more_end() {
    let mut before = Scene::of("signal = \"errors\"\nabove = 0");
    before.add(NOW, http("web", "/a", 500, 1, 1));
    before.at(NOW);
    for (rule, ends) in [
        ("signal = \"errors\"\nabove = 100", false),
        ("signal = \"errors\"\nabove = 0\nseverity = \"critical\"", true),
        ("signal = \"errors\"\nabove = 0\nby = []", true),
        ("signal = \"errors\"\nabove = 0\nwhere = ['service_name!=web']", true),
        ("signal = \"errors\"\nabove = 0\nwhere = ['http_route=/b']", false),
    ] {
        let mut after = Scene::of_with(rule, before.alerts());
        assert_eq!(after.facts_at(NOW + 1), if ends { &["resolved"][..] } else { &[] }, "{rule}");
        assert_eq!(after.alerts().is_empty(), ends);
        assert_eq!(after.facts_at(NOW + 2), [""; 0]);
    }
}

#[test]
fn an_alert_says_what_it_is_about() {
    let mut scene = Scene::of(
        "signal = \"memory_utilization\"\nabove = 0.9\nlabels = { team = \"web\" }\nsummary = \"{instance} {value} {team}\"\nrunbook_url = \"https://r/{name}\"",
    );
    scene.add(NOW, host("web", "", 95, 100));
    let changes = scene.evaluate(NOW);
    let alert = &changes[0].alert;
    let expected: Labels =
        [("alertname", "Rule"), ("service_name", "web"), ("severity", "warning"), ("team", "web")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    assert_eq!(alert.labels, expected, "an empty value is no label");
    assert_eq!(alert.annotations["summary"], " 95 % web");
    assert_eq!(alert.annotations["runbook_url"], "https://r/Rule");
    assert_eq!(
        (alert.state, alert.starts_at_ms, alert.ends_at_ms),
        (AlertState::Firing, Some(NOW * 1000), None)
    );
    scene.apply(&changes);
    scene.add(NOW + 59, host("web", "", 10, 100));
    scene.add(NOW + 60, host("web", "", 10, 100));
    let changes = scene.evaluate(NOW + 60);
    let alert = &changes[0].alert;
    assert_eq!((alert.state, alert.ends_at_ms), (AlertState::Resolved, Some((NOW + 60) * 1000)));
    assert_eq!((alert.starts_at_ms, alert.value), (Some(NOW * 1000), Some(0.1)));
}

#[test]
fn the_status_tells_of_the_worst_alert() {
    let mut scene = Scene::of("signal = \"errors\"\nabove = 0\nfor = \"5s\"\nwindow = \"10s\"");
    assert_eq!(scene.status().state, AlertState::Inactive);
    scene.add(NOW, http("web", "/a", 500, 1, 1));
    scene.at(NOW);
    let status = scene.status();
    assert_eq!((status.state, status.series, status.overflow), (AlertState::Pending, 1, 0));
    assert_eq!(status.condition, "errors by service_name over 10s above 0 for 5s");
    scene.at(NOW + 5);
    assert_eq!(scene.status().state, AlertState::Firing);
}
