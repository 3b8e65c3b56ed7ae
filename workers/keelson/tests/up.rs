//! `keelson up` as an operator meets it: started, killed, started twice, told to end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::getpgid;
use support::{Up, alive, children, found_bad, keelson, nats_server, run, text, until};
use tempfile::tempdir;

const NO_LATENCY: &str = r#"{"service":"web","http":[{"method":"GET","route":"/","status":200}]}"#;

const FAILED: &str =
    r#"{"service":"web","http":[{"method":"GET","route":"/","status":500,"duration_us":5}]}"#;

async fn send(up: &Up, place: &std::path::Path, samples: &'static str) {
    let token = fs::read_to_string(place.join(".keelson/admin-token")).unwrap();
    let request = reqwest::Client::new().post(format!("{}/api/telemetry", up.http)).bearer_auth(token.trim());
    let answer = request.header("Content-Type", "application/json").body(samples).send().await.unwrap();
    assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
}

/// What the export says of the requests sent here; none while it is not available.
async fn counted(up: &Up) -> Option<u64> {
    let answer = reqwest::get(format!("{}/api/monitoring/prometheus", up.http)).await.ok()?;
    let text = answer.error_for_status().ok()?.text().await.ok()?;
    let line =
        text.lines().find(|line| line.starts_with("http_server_requests_total{") && line.contains("\"web\""));
    line?.rsplit(' ').next()?.parse().ok()
}

async fn counts(up: &Up, expected: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut last = None;
    while last != Some(expected) {
        assert!(Instant::now() < deadline, "{last:?} instead of {expected}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        last = counted(up).await;
    }
}

#[tokio::test]
async fn killed_alone_it_leaves_no_server_behind_and_goes_on_counting_where_it_was() {
    let place = tempdir().unwrap();
    let mut up = Up::start(place.path());
    send(&up, place.path(), NO_LATENCY).await;
    counts(&up, 1).await;
    let server = up.nats_server();
    up.signal(Signal::SIGKILL);
    up.wait();
    until("the server follows", || !alive(server));
    let up = Up::start(place.path());
    send(&up, place.path(), NO_LATENCY).await;
    counts(&up, 2).await;
}

#[tokio::test]
async fn a_start_waits_for_the_server_of_the_last_run_to_let_go_of_the_store() {
    let place = tempdir().unwrap();
    for round in 1..=5 {
        let up = Up::start(place.path());
        send(&up, place.path(), NO_LATENCY).await;
        counts(&up, round).await;
        // At once, and without waiting for the server to follow.
        up.signal(Signal::SIGKILL);
    }
}

/// A wrapper between Keelson and its server takes the leash, and the server survives: it must keep the store to itself all the same.
#[test]
fn a_server_that_outlives_its_parent_after_all_keeps_others_off_its_store() {
    let place = tempdir().unwrap();
    let wrapper = place.path().join("nats-server");
    let real = nats_server().display().to_string();
    // In the background a shell gives a command no standard input of its own accord.
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec {real} --version\nexec 3<&0\n{real} \"$@\" <&3 3<&- &\nwait\n"
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let mut up = Up::start_with(place.path(), &[("KEELSON_NATS_SERVER", wrapper.to_str().unwrap())]);
    let server = children(up.nats_server()).pop().unwrap();
    up.signal(Signal::SIGKILL);
    up.wait();
    let refused = run(keelson(place.path()).args(["up", "--http-addr", "127.0.0.1:0"]));
    let error = text(&refused.stderr);
    assert!(alive(server), "the test needs an orphan");
    kill(server, Signal::SIGKILL).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(error.contains("a nats-server of an earlier run still has"), "{error}");
    Up::start(place.path());
}

#[test]
fn a_second_one_on_the_same_directory_is_refused_and_the_first_is_left_in_peace() {
    let place = tempdir().unwrap();
    let up = Up::start(place.path());
    let second = run(keelson(place.path()).args(["up", "--http-addr", "127.0.0.1:0"]));
    let said = text(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("in use by process {}", up.pid())) && said.contains("KEELSON_DATA_DIR"),
        "{said}"
    );
    assert!(alive(up.pid()) && alive(up.nats_server()));
    let bad = found_bad(place.path(), &[]);
    assert!(bad.is_empty(), "{bad:?}");
    let planned = run(keelson(place.path()).args(["bus", "plan"]));
    assert_eq!(planned.status.code(), Some(0), "{}{}", text(&planned.stdout), text(&planned.stderr));
}

#[tokio::test]
async fn a_server_that_crashes_comes_back_on_its_port_with_its_data() {
    let place = tempdir().unwrap();
    let up = Up::start(place.path());
    send(&up, place.path(), NO_LATENCY).await;
    counts(&up, 1).await;
    let first = up.nats_server();
    kill(first, Signal::SIGKILL).unwrap();
    until("another one runs", || up.try_nats_server().is_some_and(|pid| pid != first));
    let address = up.nats.trim_start_matches("nats://").to_owned();
    until("it listens where the first one did", || std::net::TcpStream::connect(&address).is_ok());
    counts(&up, 1).await;
}

#[test]
fn a_signal_drains_it_and_nothing_is_left() {
    for interrupt in [false, true] {
        let place = tempdir().unwrap();
        let mut up = Up::start(place.path());
        let server = up.nats_server();
        assert_ne!(
            getpgid(Some(server)),
            getpgid(Some(up.pid())),
            "Ctrl-C must not reach the server before we have drained"
        );
        if interrupt {
            up.signal_group(Signal::SIGINT);
        } else {
            up.signal(Signal::SIGTERM);
        }
        assert_eq!(up.wait().code(), Some(0), "{}", fs::read_to_string(place.path().join("log")).unwrap());
        assert!(!alive(server));
        assert!(!place.path().join(".keelson/running.json").exists());
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let place = tempdir().unwrap();
    let mut up = Up::start(place.path());
    let server = up.nats_server();
    // A server that is frozen answers nobody: draining takes as long as it may.
    kill(server, Signal::SIGSTOP).unwrap();
    up.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(500));
    assert!(alive(up.pid()), "it drains");
    let told = Instant::now();
    up.signal(Signal::SIGTERM);
    assert_eq!(up.wait().code(), Some(1));
    assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
    until("the server follows", || !alive(server));
}

#[tokio::test]
async fn without_tokens_there_is_a_private_one_for_the_local_admin() {
    let place = tempdir().unwrap();
    let up = Up::start(place.path());
    let file = place.path().join(".keelson/admin-token");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let token = fs::read_to_string(&file).unwrap();
    let listed = run(keelson(place.path()).args(["operations", "list", "--json"]));
    assert_eq!(listed.status.code(), Some(0), "{}", text(&listed.stderr));
    let wrong = run(keelson(place.path()).args(["operations", "list"]).env("KEELSON_TOKEN", "wrong"));
    assert_eq!(wrong.status.code(), Some(1), "{}", text(&wrong.stderr));
    drop(up);
    let _again = Up::start(place.path());
    assert_eq!(fs::read_to_string(&file).unwrap(), token, "a restart keeps it");
}

#[test]
fn an_old_or_missing_server_is_refused_with_what_to_install() {
    let place = tempdir().unwrap();
    let old = place.path().join("nats-server");
    fs::write(&old, "#!/bin/sh\necho 'nats-server: v2.9.10'\n").unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    for (server, said) in [(old.as_path(), "2.9.10"), (place.path().join("absent").as_path(), "cannot run")] {
        let refused = run(keelson(place.path()).arg("up").env("KEELSON_NATS_SERVER", server));
        let error = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{error}");
        assert!(error.contains(said) && error.contains("make tools"), "{error}");
    }
}

#[test]
fn a_server_that_cannot_start_is_reported_with_its_own_words() {
    let place = tempdir().unwrap();
    let broken = place.path().join("nats-server");
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && echo 'nats-server: v2.15.1' && exit\necho 'no room on the raft'\nexit 1\n";
    fs::write(&broken, script).unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let failed = run(keelson(place.path()).arg("up").env("KEELSON_NATS_SERVER", &broken));
    let error = text(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{error}");
    assert!(error.contains("no room on the raft"), "{error}");
}

/// A client command to this Keelson; what it printed.
fn says(up: &Up, place: &std::path::Path, arguments: &[&str], code: i32) -> String {
    let done = run(keelson(place).args(arguments).env("KEELSON_URL", &up.http));
    let said = text(&done.stdout);
    assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}{}", text(&done.stderr));
    said.trim().to_owned()
}

#[tokio::test]
async fn what_is_wrong_is_listed_silenced_and_looked_for_in_the_past() {
    let place = tempdir().unwrap();
    let up = Up::start(place.path());
    let path = place.path();
    send(&up, path, FAILED).await;
    let mut alerts = String::new();
    until("it fires", || {
        alerts = says(&up, path, &["alerts", "list", "--state", "firing"], 0);
        alerts.contains("HighErrorRate{service_name=\"web\"")
    });
    until("its rule says so", || says(&up, path, &["rules", "list"], 0).contains("firing"));

    let id = says(&up, path, &["silences", "add", "service_name=web", "--comment", "a disk"], 0);
    until("it is silenced", || says(&up, path, &["alerts"], 0).contains("silenced"));
    assert!(says(&up, path, &["silences", "list"], 0).contains("a disk"));
    says(&up, path, &["silences", "expire", &id], 0);
    assert_eq!(says(&up, path, &["silences", "list"], 0), "there are no silences");
    assert!(says(&up, path, &["silences", "list", "--expired"], 0).contains(&id));

    let refused = run(keelson(path).args(["silences", "add", "a=~.*"]).env("KEELSON_URL", &up.http));
    assert!(text(&refused.stderr).contains("400"), "{}", text(&refused.stderr));
    says(&up, path, &["silences", "expire", "nothing"], 1);

    fs::write(path.join("r.toml"), "[[rules]]\nname = \"Any\"\nsignal = \"errors\"\nabove = 0\n").unwrap();
    let found = says(&up, path, &["rules", "test", "r.toml", "--since", "1h"], 0);
    assert!(
        found.contains("Any{service_name=\"web\"") && found.contains("one alert would have fired"),
        "{found}"
    );
    let found = says(&up, path, &["rules", "test", "--since", "1h", "--by", "arrival", "--json"], 0);
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["firings"][0]["labels"]["alertname"], "HighErrorRate", "{found}");
}

#[tokio::test]
async fn rules_are_read_again_and_those_that_run_stay_when_there_is_an_error() {
    let place = tempdir().unwrap();
    let write = |text: &str| fs::write(place.path().join("rules.toml"), text).unwrap();
    let section = "[alerting]\ndefault_rules = false\nrule_files = [\"rules.toml\"]\n";
    fs::write(place.path().join("keelson.toml"), section).unwrap();
    write("");
    let up = Up::start(place.path());
    let list = |code| says(&up, place.path(), &["rules", "list"], code);
    until("the rules are known", || {
        run(keelson(place.path()).args(["rules", "list"]).env("KEELSON_URL", &up.http)).status.success()
    });
    assert_eq!(list(0), "there are no rules");
    write("[[rules]]\nname = \"Any\"\nsignal = \"errors\"\nabove = 0\n");
    says(&up, place.path(), &["rules", "reload"], 0);
    until("the new rules run", || list(0).contains("Any"));
    write("[[rules]]\nname = \"Other\"\nsignal = \"eror\"\nabove = 0\n");
    let refused = run(keelson(place.path()).args(["rules", "reload"]).env("KEELSON_URL", &up.http));
    let said = text(&refused.stderr);
    assert!(
        refused.status.code() == Some(1)
            && said.contains("those that run stay")
            && said.contains("rules.toml:3"),
        "{said}"
    );
    assert!(list(3).contains("Any"));
}
