//! What becomes of alerts when nothing is known.

use super::scene::{NOW, Scene, db, host, http};

const POLICIES: [&str; 3] = ["keep", "alert", "resolve"];

/// The facts of an alert that fired at [`NOW`], as seconds after it, when all telemetry stops then.
fn silenced(rule: &str, fill: impl Fn(&mut Scene)) -> Vec<(u64, String)> {
    let mut scene = Scene::of(rule);
    fill(&mut scene);
    (0..200).flat_map(|at| scene.facts_at(NOW + at).into_iter().map(move |fact| (at, fact))).collect()
}

#[test]
fn when_telemetry_stops_what_fires_goes_on_unless_told_otherwise() {
    for (policy, expected) in POLICIES.into_iter().zip([None, None, Some(90)]) {
        let rule = format!("signal = \"error_ratio\"\nabove = 0.05\nno_data = \"{policy}\"");
        let facts = silenced(&rule, |scene| scene.add(NOW, http("web", "/a", 500, 1, 1)));
        let resolved = facts.iter().find(|(_, fact)| fact == "resolved").map(|(at, _)| *at);
        assert_eq!((facts[0].1.as_str(), resolved), ("fired", expected), "{policy}: {facts:?}");
    }
}

#[test]
fn a_count_that_falls_while_a_window_drains_proves_nothing() {
    // The ratio falls too: what stays longest in the window is good.
    for (rule, policy, expected) in [
        ("signal = \"slow_queries\"\nabove = 10", "keep", None),
        ("signal = \"slow_queries\"\nabove = 10", "alert", None),
        ("signal = \"slow_queries\"\nabove = 10", "resolve", Some(40)),
        ("signal = \"error_ratio\"\nabove = 0.05", "keep", None),
        ("signal = \"error_ratio\"\nabove = 0.05", "resolve", Some(40)),
    ] {
        let facts = silenced(&format!("{rule}\nno_data = \"{policy}\""), |scene| {
            scene.add(NOW - 50, db("web", "click.videos", 10, 10));
            scene.add(NOW, db("web", "click.videos", 5, 5));
            scene.add(NOW - 50, http("web", "/a", 500, 10, 1));
            scene.add(NOW, http("web", "/a", 200, 10, 1));
        });
        let resolved = facts.iter().find(|(_, fact)| fact == "resolved").map(|(at, _)| *at);
        assert_eq!((facts[0].1.as_str(), resolved), ("fired", expected), "{rule} {policy}: {facts:?}");
    }
}

#[test]
fn that_nothing_of_a_kind_happened_is_known_while_other_telemetry_comes_in() {
    let mut scene = Scene::of("signal = \"slow_queries\"\nabove = 10\nwindow = \"10s\"");
    scene.add(NOW, db("web", "click.videos", 11, 11));
    scene.at(NOW);
    (1..20).for_each(|at| scene.add(NOW + at, http("web", "/a", 200, 1, 1)));
    assert_eq!(scene.facts_at(NOW + 9), [""; 0]);
    assert_eq!(scene.facts_at(NOW + 10), ["resolved"], "the service is well, and calls the database no more");
}

#[test]
fn a_ratio_of_nothing_is_not_known() {
    let mut scene = Scene::of(
        "signal = \"error_ratio\"\nabove = 0.05\nby = [\"service_name\", \"http_route\"]\nwindow = \"10s\"",
    );
    scene.add(NOW, http("web", "/a", 500, 1, 1));
    scene.at(NOW);
    (1..100).for_each(|at| scene.add(NOW + at, http("web", "/b", 200, 1, 1)));
    assert_eq!(
        (1..100).flat_map(|at| scene.facts_at(NOW + at)).count(),
        0,
        "nobody asks for the route any more"
    );
}

#[test]
fn silence_alerts_where_that_is_wanted() {
    for (policy, expected) in POLICIES.into_iter().zip([&[][..], &[(40, "fired".to_owned())], &[]]) {
        let rule =
            format!("signal = \"error_ratio\"\nabove = 0.05\nwindow = \"10s\"\nno_data = \"{policy}\"");
        let facts = silenced(&rule, |scene| scene.add(NOW, http("web", "/a", 200, 1, 1)));
        assert_eq!(facts, expected, "{policy}");
    }
}

#[test]
fn an_alert_about_silence_ends_when_data_come_again() {
    let mut scene =
        Scene::of("signal = \"requests\"\nbelow = 1\nwindow = \"10s\"\nno_data = \"alert\"\nfor = \"5s\"");
    scene.add(NOW, http("web", "/a", 200, 1, 1));
    let facts: Vec<_> =
        (0..60).flat_map(|at| scene.facts_at(NOW + at).into_iter().map(move |fact| (at, fact))).collect();
    assert_eq!(facts, [(40, "pending".to_owned()), (45, "fired".to_owned())]);
    assert_eq!(scene.alerts()[0].value, None);
    scene.add(NOW + 61, http("web", "/a", 200, 1, 1));
    assert_eq!(scene.facts_at(NOW + 61), ["resolved"]);
}

#[test]
fn what_is_pending_begins_anew_when_nothing_is_known() {
    let facts = silenced("signal = \"error_ratio\"\nabove = 0.05\nwindow = \"10s\"\nfor = \"1m\"", |scene| {
        scene.add(NOW, http("web", "/a", 500, 1, 1));
    });
    assert_eq!(facts, [(0, "pending".to_owned()), (40, "cleared".to_owned())]);
}

#[test]
fn a_rate_that_falls_because_all_is_silent_is_low() {
    let facts = silenced("signal = \"request_rate\"\nbelow = 1\nwindow = \"10s\"", |scene| {
        (0..10).for_each(|ago| scene.add(NOW - ago, http("web", "/a", 200, 1, 1)));
    });
    assert_eq!(facts, [(31, "fired".to_owned())]);
}

#[test]
fn counts_of_readings_are_zero_when_none_come() {
    let facts = silenced("signal = \"dead_letters\"\nabove = 0\nwindow = \"1m\"", |scene| {
        scene.read("dead_letters", &[("stream", "COMMANDS")], NOW, 2.0);
    });
    assert_eq!(facts, [(0, "fired".to_owned()), (60, "resolved".to_owned())]);
    let facts = silenced("signal = \"consumer_lag\"\nabove = 10\nwindow = \"1m\"", |scene| {
        scene.read("consumer_lag", &[("stream", "COMMANDS")], NOW, 20.0);
    });
    assert_eq!(facts, [(0, "fired".to_owned())], "a value that is told no more is not known");
}

#[test]
fn who_begins_to_listen_does_not_know_yet_that_there_is_nothing() {
    let rule = "signal = \"consumer_lag\"\nabove = 10\nwindow = \"1m\"\nno_data = \"resolve\"";
    let mut before = Scene::of(rule);
    before.read("consumer_lag", &[("stream", "COMMANDS")], NOW - 10, 20.0);
    before.at(NOW - 10);
    for (told, expected) in [(None, vec![60]), (Some(20.0), vec![65]), (Some(5.0), vec![5])] {
        let mut scene = Scene::of_with(rule, before.alerts());
        scene.resume(NOW - 5, NOW);
        let resolved = (0..200).filter(|at| {
            if let (5, Some(value)) = (at, told) {
                scene.read("consumer_lag", &[("stream", "COMMANDS")], NOW + at, value);
            }
            scene.facts_at(NOW + at) == ["resolved"]
        });
        assert_eq!(resolved.collect::<Vec<u64>>(), expected, "{told:?}");
    }
}

#[test]
fn a_machine_that_is_gone_goes_on_as_it_was() {
    let mut scene = Scene::of("signal = \"memory_utilization\"\nabove = 0.9\nwindow = \"10s\"");
    scene.add(NOW, host("web", "web-1", 95, 100));
    (0..100).for_each(|at| scene.add(NOW + at, host("web", "web-2", 10, 100)));
    let facts: Vec<_> = (0..100).flat_map(|at| scene.facts_at(NOW + at)).collect();
    assert_eq!(facts, ["fired"]);
}
