use super::*;
use crate::signal::{SIGNALS, Signal};

fn file(text: &str) -> Source {
    Source { name: "web.toml".into(), text: text.into() }
}

fn parse(text: &str) -> Result<RuleSet, Vec<RuleError>> {
    RuleSet::parse(&[file(text)], &[], false)
}

/// What is said about a rule with `extra` keys, without the place.
fn errors_of(extra: &str) -> Vec<String> {
    let text = format!("[[rules]]\nname = \"A\"\nsignal = \"error_ratio\"\nabove = 0.05\n{extra}\n");
    let told = parse(&text).err().unwrap_or_default();
    told.iter().map(|error| format!("{}: {}", error.key, error.message)).collect()
}

#[test]
fn the_smallest_rule_has_its_defaults() {
    let rules = parse("[[rules]]\nname = \"A\"\nsignal = \"latency_p99\"\nabove = 1\n").unwrap();
    let rule = &rules.rules()[0];
    assert_eq!((rule.window_s, rule.hold_ms, rule.keep_firing_ms, rule.min_samples), (60, 0, 0, 0));
    assert_eq!(rule.threshold, Threshold { side: Side::Above, at: 1.0, clear: 1.0 });
    assert_eq!((rule.no_data, rule.by.as_slice()), (NoData::Keep, &["service_name"][..]));
    assert_eq!(rule.labels["severity"], "warning");
    assert_eq!(rule.to_string(), "latency_p99 by service_name over 1m above 1");
    let labels = [("service_name".to_owned(), "web".to_owned())].into();
    let annotations = rule.annotations(&labels, Some(1.5));
    assert_eq!(annotations["summary"], "web: P99 response time is 1.5 s, above 1 s");
    assert_eq!(rules.longest_window(), Duration::from_secs(60));
}

#[test]
fn every_key_takes_effect() {
    let rules = parse(
        r#"
        [[rules]]
        name = "Checkout"
        signal = "error_ratio"
        by = ["service_name", "http_route", "service_name"]
        where = ['http_route=~"/api/.*"']
        window = "2m"
        above = 0.05
        clear = 0.04
        for = "90s"
        keep_firing_for = "1h"
        min_samples = 20
        no_data = "resolve"
        severity = "critical"
        labels = { team = "web" }
        summary = "{team}: {http_route}"
        description = "d"
        runbook_url = "https://example.com/{name}"
        "#,
    )
    .unwrap();
    let rule = &rules.rules()[0];
    assert_eq!(
        rule.to_string(),
        "error_ratio where http_route=~\"/api/.*\" by service_name, http_route over 2m above 0.05 for 1m 30s"
    );
    assert_eq!((rule.hold_ms, rule.keep_firing_ms, rule.min_samples), (90_000, 3_600_000, 20));
    assert_eq!((rule.threshold.clear, rule.no_data), (0.04, NoData::Resolve));
    assert_eq!(rule.labels.values().collect::<Vec<_>>(), ["Checkout", "critical", "web"]);
    let names: Vec<_> = rule.annotations.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["summary", "description", "runbook_url"]);
}

#[test]
fn everything_wrong_is_told_at_once_with_its_line() {
    let text = r#"
[[rules]]
name = "A"
signal = "eror_ratio"
above = "much"
fro = "1m"

[[rules]]
signal = "error_ratio"
by = ["service_name", "hostname"]
where = ["http_route=/a", "nothing", "db_namespace=x"]
below = 0.05
clear = 0.04
window = "soon"
no_data = "panic"
summary = "{vlaue}"
[rules.labels]
alertname = "B"
team = ""

[[tsets]]
"#;
    let told = parse(text).unwrap_err();
    let places: Vec<_> =
        told.iter().map(|error| (error.line.unwrap_or_default(), error.key.as_str())).collect();
    assert_eq!(
        places,
        [
            (21, "tsets"),
            (4, "rules[0].signal"),
            (5, "rules[0].above"),
            (6, "rules[0].fro"),
            (8, "rules[1].name"),
            (10, "rules[1].by[1]"),
            (11, "rules[1].where[1]"),
            (11, "rules[1].where[2]"),
            (13, "rules[1].clear"),
            (14, "rules[1].window"),
            (15, "rules[1].no_data"),
            (16, "rules[1].summary"),
            (18, "rules[1].labels.alertname"),
            (19, "rules[1].labels.team"),
        ]
    );
    assert!(told[1].to_string().starts_with("web.toml:4: rules[0].signal: \"eror_ratio\" is not known; "));
    assert!(SIGNALS.iter().all(|signal| told[1].message.contains(signal.name)));
    assert!(told[5].message.contains("it has service_name, http_request_method, http_route"));
}

#[test]
fn each_key_is_checked() {
    for (extra, expected) in [
        ("below = 1", "rules[0].below: a rule has one threshold, either above or below"),
        (
            "clear = 0.06",
            "rules[0].clear: is 0.06, and must be on the good side of the threshold 0.05, or at it",
        ),
        ("clear = nan", "rules[0].clear: is NaN, and must"),
        ("window = \"500ms\"", "rules[0].window: is 500ms, and must be whole seconds from 1s to 24h"),
        ("window = \"25h\"", "rules[0].window: is 25h"),
        ("for = \"31days\"", "rules[0].for: is longer than 30days"),
        ("for = 5", "rules[0].for: invalid type: integer `5`, expected a string"),
        ("min_samples = -1", "rules[0].min_samples: invalid value: integer `-1`"),
        ("severity = \"\"", "rules[0].severity: is empty"),
        ("where = ['http_route=~\"(\"']", "rules[0].where[0]: \"(\" is no regular expression"),
        (
            "where = ['instance=\"a\"']",
            "rules[0].where[0]: error_ratio has no label \"instance\"; it has service_name",
        ),
        ("labels = { service_name = \"x\" }", "rules[0].labels.service_name: the rule looks at"),
        ("labels = { a-b = \"x\" }", "rules[0].labels.a-b: a label's name is made of"),
        ("labels = { severity = \"x\" }", "rules[0].labels.severity: the severity is given by"),
        ("summary = \"{http_route}\"", "rules[0].summary: there is no field {http_route}; there are {value}"),
        ("runbook_url = \"{\"", "rules[0].runbook_url: a brace is not closed"),
        ("[[rules]]", "rules[1].name: a rule needs a name"),
        ("[rule]", "rule: this key is not known; there are rules, tests"),
    ] {
        let told = errors_of(extra);
        assert!(told.iter().any(|error| error.starts_with(expected)), "{extra}: {told:#?}");
        if !extra.starts_with('[') {
            assert_eq!(told.len(), 1, "{extra}: {told:#?}");
        }
    }
    assert_eq!(errors_of("clear = 0.05"), [] as [String; 0]);
    let told = parse("rules = 1").unwrap_err();
    assert_eq!(told[0].to_string(), "web.toml:1: rules: must be tables, each beginning with [[rules]]");
}

#[test]
fn a_text_that_is_no_toml_is_told_with_its_line() {
    let told = parse("[[rules]]\nname = \nsignal = \"errors\n").unwrap_err();
    assert_eq!(told.iter().map(|error| error.line).collect::<Vec<_>>(), [Some(2), Some(3)]);
}

#[test]
fn rules_whose_alerts_could_not_be_told_apart_are_refused() {
    let rule = |extra: &str| format!("[[rules]]\nname = \"A\"\nsignal = \"errors\"\nabove = 0\n{extra}\n");
    for (one, other, expected) in [
        ("", "", false),
        ("", "severity = \"critical\"", true),
        ("labels = { tier = \"a\" }", "labels = { tier = \"b\" }", true),
        ("labels = { tier = \"a\" }", "", true),
        ("by = []", "by = [\"service_name\"]", false),
        ("by = []\nlabels = { service_name = \"web\" }", "by = [\"service_name\"]", false),
    ] {
        let result = parse(&(rule(one) + &rule(other)));
        assert_eq!(result.is_ok(), expected, "{one} | {other}");
        if let Err(told) = result {
            assert_eq!(told[0].key, "rules[1].name");
        }
    }
}

#[test]
fn the_defaults_are_right_and_give_way_to_a_rule_of_their_name() {
    let names = |rules: &RuleSet| -> Vec<_> {
        rules.rules().iter().map(|rule| (rule.name.clone(), rule.source.clone())).collect()
    };
    let shipped = RuleSet::parse(&[], &[], true).unwrap();
    let expected = [
        "HighErrorRate",
        "SlowResponses",
        "SlowQueries",
        "HighMemory",
        "ServiceDown",
        "BreakerOpen",
        "CertificateExpires",
        "KeelsonDeadLetters",
        "KeelsonPurgesStale",
        "KeelsonPurgesFailed",
        "KeelsonCdnDown",
        "KeelsonBackupFailed",
        "KeelsonBackupLate",
        "KeelsonBackupGap",
        "KeelsonDrillFailed",
        "KeelsonDrillOverdue",
    ];
    assert_eq!(names(&shipped), expected.map(|name| (name.to_owned(), "default".to_owned())));
    let own = RawRule {
        name: "HighErrorRate".into(),
        signal: "error_ratio".into(),
        above: Some(0.01),
        ..RawRule::default()
    };
    let mixed = RuleSet::parse(&[], &[own], true).unwrap();
    assert_eq!(mixed.rules().len(), shipped.rules().len());
    assert_eq!(names(&mixed)[0], ("HighErrorRate".into(), "keelson.toml".into()));
}

#[test]
fn errors_of_all_sources_are_told_together() {
    let inline = RawRule { name: "A".into(), above: Some(1.0), ..RawRule::default() };
    let files = [file("[["), Source { name: "b.toml".into(), text: "x = 1".into() }];
    let told = RuleSet::parse(&files, &[inline], true).unwrap_err();
    let places: Vec<_> = told.iter().map(|error| (error.source.as_str(), error.key.as_str())).collect();
    assert!(places.contains(&("keelson.toml", "rules[0].signal")), "{places:?}");
    assert!(places.contains(&("web.toml", "")) && places.contains(&("b.toml", "x")), "{places:?}");
}

#[test]
fn signals_have_names_of_their_own_and_suggest_labels_that_they_have() {
    for signal in SIGNALS {
        assert_eq!(Signal::named(signal.name), Some(signal));
        assert!(signal.by.iter().all(|label| signal.labels.contains(label)), "{}", signal.name);
    }
}
