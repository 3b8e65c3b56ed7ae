//! The commands that need nothing running.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use support::{found_bad, keelson, run, text};
use tempfile::tempdir;

#[test]
fn everything_that_is_wrong_with_the_configuration_is_said_at_once() {
    let place = tempdir().unwrap();
    fs::write(
        place.path().join("keelson.toml"),
        "shutdown_grace_ms = \"soon\"\n[http]\nadr = \"127.0.0.1:1\"\n[metrics]\nslow_query_ms = -5\n",
    )
    .unwrap();
    let checked = run(keelson(place.path()).args(["config", "check"]).env("KEELSON_HTTP_ADDR", "somewhere"));
    let said = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(2), "{said}");
    for key in [
        "shutdown_grace_ms",
        "http.adr",
        "metrics.slow_query_ms",
        "http.addr",
        "KEELSON_HTTP_ADDR",
        "keelson.toml",
    ] {
        assert!(said.contains(key), "{key} is not in:\n{said}");
    }
}

#[test]
fn the_configuration_is_shown_with_where_it_came_from_and_without_secrets() {
    let place = tempdir().unwrap();
    fs::write(place.path().join("keelson.toml"), "[nats]\nuser = \"ann\"\npassword = \"hunter2\"\n").unwrap();
    let shown = run(keelson(place.path()).args(["config", "show", "--json", "--data-dir", "elsewhere"]));
    let settings: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let find = |key: &str| {
        settings.as_array().unwrap().iter().find(|setting| setting["key"] == key).unwrap().clone()
    };
    assert_eq!(find("data_dir")["value"], "elsewhere");
    assert_eq!(find("data_dir")["from"], "--data-dir");
    assert_eq!(find("nats.user")["from"], "keelson.toml");
    assert!(!text(&shown.stdout).contains("hunter2"));
}

#[test]
fn outside_loopback_it_does_not_start_without_tokens() {
    let place = tempdir().unwrap();
    let refused = run(keelson(place.path()).args(["up", "--http-addr", "0.0.0.0:0"]));
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("http.addr") && said.contains("keelson token"), "{said}");
    assert!(!place.path().join(".keelson").exists(), "nothing was begun");
}

#[test]
fn a_token_is_admitted_by_its_section_and_hashes_to_it() {
    let place = tempdir().unwrap();
    let created = run(keelson(place.path()).args(["token", "create", "ops", "--scope", "admin"]));
    let (token, section) =
        text(&created.stdout).split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    fs::write(place.path().join("keelson.toml"), &section).unwrap();
    let checked = run(keelson(place.path()).args(["config", "check"]));
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    let mut hash = keelson(place.path())
        .args(["token", "hash"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(hash.stdin.take().unwrap(), "{token}").unwrap();
    let hash = text(&hash.wait_with_output().unwrap().stdout);
    assert!(section.contains(hash.trim()), "{hash} is not in {section}");
}

#[test]
fn roles_are_listed_and_others_are_refused() {
    let place = tempdir().unwrap();
    let roles: Value =
        serde_json::from_slice(&run(keelson(place.path()).args(["roles", "--json"])).stdout).unwrap();
    let names: Vec<&str> =
        roles.as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"metrics") && names.contains(&"ingress"), "{names:?}");
    let refused = run(keelson(place.path()).args(["run", "gardener"]));
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("metrics"), "{}", text(&refused.stderr));
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let place = tempdir().unwrap();
    for (arguments, hints) in [
        (&["run", "metrics"][..], &["NATS_URL"][..]),
        (&["bus", "plan"], &["NATS_URL", "keelson up"]),
        (&["operations", "list", "--url", "http://127.0.0.1:1"], &["keelson up", "KEELSON_URL"]),
        (&["alerts", "--url", "http://127.0.0.1:1"], &["keelson up", "KEELSON_URL"]),
        (&["rules", "check", "absent.toml"], &["absent.toml"]),
        (&["telemetry", "import", "absent.log", "--service", "web"], &["absent.log"]),
    ] {
        let failed = run(keelson(place.path()).args(arguments));
        let said = text(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(hints.iter().all(|hint| said.contains(hint)), "{arguments:?}: {said}");
    }
}

#[test]
fn the_doctor_finds_what_is_wrong() {
    let place = tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let environment = [("KEELSON_HTTP_ADDR", address.as_str())];
    assert_eq!(found_bad(place.path(), &environment), ["http"]);
    drop(taken);
    let bad = found_bad(place.path(), &environment);
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn completions_are_a_script_for_the_shell() {
    let place = tempdir().unwrap();
    let script = text(&run(keelson(place.path()).args(["completions", "bash"])).stdout);
    assert!(script.contains("_keelson()") && script.contains("dead-letters"));
}

const RULE: &str = "[[rules]]\nname = \"Errors\"\nsignal = \"errors\"\nabove = 0\n";
/// Three errors: in line 3, line 4 and line 7.
const WRONG: &str = "[[rules]]\nname = \"Errors\"\nsignal = \"eror_ratio\"\nabve = 0.5\n\n[[rules]]\nname = \"\"\nsignal = \"errors\"\nabove = 1\n";

#[test]
fn everything_that_is_wrong_with_rules_is_said_at_once_with_its_place() {
    let place = tempdir().unwrap();
    fs::write(place.path().join("wrong.toml"), WRONG).unwrap();
    fs::write(place.path().join("keelson.toml"), "[alerting]\nrule_files = [\"*ong.toml\"]\n").unwrap();
    for arguments in
        [&["rules", "check", "wrong.toml"][..], &["rules", "check"], &["rules", "test", "wrong.toml"]]
    {
        let checked = run(keelson(place.path()).args(arguments));
        let said = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(2), "{arguments:?}: {said}");
        for (line, key) in [(3, "signal"), (4, "abve"), (7, "name")] {
            let found =
                said.lines().any(|said| said.contains(&format!("wrong.toml:{line}: ")) && said.contains(key));
            assert!(found, "{arguments:?}: nothing about {key} in line {line}:\n{said}");
        }
    }
}

#[test]
fn rules_in_which_nothing_is_wrong_are_counted() {
    let place = tempdir().unwrap();
    fs::write(place.path().join("rules.toml"), RULE).unwrap();
    let checked = run(keelson(place.path()).args(["rules", "check", "rules.toml"]));
    assert_eq!((checked.status.code(), text(&checked.stdout).starts_with("1 rules,")), (Some(0), true));
    fs::write(place.path().join("keelson.toml"), "[alerting]\nrule_files = [\"rules.toml\"]\n").unwrap();
    let checked = run(keelson(place.path()).args(["rules", "check"]));
    assert_eq!((checked.status.code(), text(&checked.stdout).starts_with("17 rules,")), (Some(0), true));
    let untested = run(keelson(place.path()).args(["rules", "test", "rules.toml"]));
    assert_eq!(untested.status.code(), Some(3), "{}", text(&untested.stderr));
    assert!(text(&untested.stdout).contains("--since"));
}

/// The rule file that README.md shows.
fn rules_of_the_readme() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(path).unwrap();
    let block = readme.lines().skip_while(|line| !line.starts_with("    # rules/web.toml"));
    let block = block.take_while(|line| line.is_empty() || line.starts_with("    "));
    block.map(|line| line.trim_start().to_owned() + "\n").collect()
}

#[test]
fn tests_in_a_rule_file_say_what_is_otherwise_than_expected() {
    let place = tempdir().unwrap();
    let test = || run(keelson(place.path()).args(["rules", "test", "rules.toml"]));
    fs::write(place.path().join("rules.toml"), rules_of_the_readme()).unwrap();
    let passed = test();
    assert_eq!(passed.status.code(), Some(0), "{}{}", text(&passed.stdout), text(&passed.stderr));
    assert!(text(&passed.stdout).starts_with("ok  "), "{}", text(&passed.stdout));
    let spoilt = rules_of_the_readme().replace("status = 500", "status = 200");
    fs::write(place.path().join("rules.toml"), spoilt).unwrap();
    let failed = test();
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed.stdout));
    assert!(text(&failed.stdout).contains("FAIL  rules.toml:"), "{}", text(&failed.stdout));
    let json = run(keelson(place.path()).args(["rules", "test", "rules.toml", "--json"]));
    let outcomes: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(outcomes[0]["passed"], false);
}

/// The sample that is shipped.
fn sample() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../compose/keelson.toml");
    fs::read_to_string(path).unwrap()
}

fn settings(place: &std::path::Path) -> Vec<Value> {
    let shown = run(keelson(place).args(["config", "show", "--json"]).env_remove("KEELSON_NATS_SERVER"));
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    serde_json::from_slice(&shown.stdout).unwrap()
}

#[test]
fn the_sample_configuration_has_every_key_with_its_default() {
    let place = tempdir().unwrap();
    let defaults = settings(place.path());
    fs::write(place.path().join("keelson.toml"), sample()).unwrap();
    let sampled = settings(place.path());
    assert_eq!(sampled.len(), defaults.len());
    for (sampled, default) in sampled.iter().zip(&defaults) {
        assert_eq!((&sampled["key"], &sampled["value"]), (&default["key"], &default["value"]));
        // Lists of tables stand in the sample as one that is commented out.
        let tables = [
            "auth.tokens",
            "alerting.rules",
            "alerting.receivers",
            "alerting.inhibit",
            "backup.targets",
            "services.register",
        ];
        let is_table = tables.iter().any(|key| sampled["key"] == *key);
        assert!(is_table || sampled["from"] == "keelson.toml", "not in the sample: {}", sampled["key"]);
    }
}

#[test]
fn what_the_sample_configuration_leaves_out_can_be_put_in_as_it_stands() {
    let place = tempdir().unwrap();
    let is_setting = |line: &&str| line.contains(" = ") || line.starts_with('[') && line.ends_with(']');
    let put_in: String = sample()
        .lines()
        .map(|line| line.strip_prefix("# ").filter(is_setting).unwrap_or(line).to_owned() + "\n")
        .collect();
    fs::write(place.path().join("keelson.toml"), put_in).unwrap();
    let keys: Vec<String> = settings(place.path()).iter().map(|setting| setting["key"].to_string()).collect();
    for key in [
        "nats.url",
        "nats.credentials_file",
        "nats.user",
        "nats.password",
        "nats.server",
        "otel.endpoint",
        "alerting.route.group_by",
        "alerting.route.repeat_interval",
        "alerting.smtp.url",
        "backup.mongodb_uri",
        "backup.repository",
        "backup.password",
        "backup.spool",
        "services.check.reference",
    ] {
        assert!(keys.contains(&format!("\"{key}\"")), "{key} is not among {keys:?}");
    }
}
