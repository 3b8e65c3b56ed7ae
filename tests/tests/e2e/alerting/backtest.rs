//! A rule tried against the past: an imported access log, whose errors are found at the times at which they happened.

use std::path::{Path, PathBuf};

use jiff::fmt::strtime;
use keelson_tests::alerting::rule_file;
use keelson_tests::binary::repository;
use keelson_tests::keelson::{SHOWN_WITHIN, Up};
use serde_json::Value;

#[tokio::test]
async fn a_backtest_finds_the_errors_of_an_imported_log() {
    finds_errors(&repository().join("tests/data/access.log"), 1).await;
}

#[tokio::test]
async fn a_backtest_finds_the_errors_of_a_real_log() {
    match std::env::var_os("KEELSON_ACCESS_LOG") {
        Some(file) => finds_errors(&PathBuf::from(file), 3).await,
        None => println!("KEELSON_ACCESS_LOG names no log: only the sample was tried"),
    }
}

async fn finds_errors(file: &Path, expected: usize) {
    let log = std::fs::read_to_string(file).expect("the log");
    let errors: Vec<i64> = log.lines().filter_map(second_of_error).collect();
    assert_eq!(errors.len(), expected, "errors in the log");

    let up = Up::start().await;
    up.command(&["telemetry", "import", file.to_str().expect("a path in UTF-8"), "--service", "website"]);
    let lines = log.lines().count() as u64;
    up.client().scrape_until(SHOWN_WITHIN, |page| page.requests() >= lines).await;

    let rules = rule_file("access-log.toml");
    let report = up.command(&["rules", "test", &rules, "--since", "2015-01-01", "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}"));
    assert_eq!(report["samples"], lines, "{report:#}");
    let firings = report["firings"].as_array().expect("firings");
    println!("{:#}", report["firings"]);
    // A second is looked at once it is over.
    let found: Vec<i64> =
        firings.iter().map(|firing| firing["startsAtMs"].as_i64().expect("a time")).collect();
    let differs = |(found, second): (&i64, &i64)| !(second * 1000..=(second + 1) * 1000).contains(found);
    assert_eq!(found.len(), errors.len(), "{report:#}");
    assert!(!found.iter().zip(&errors).any(differs), "{found:?} are not the times of {errors:?}");
    assert!(firings.iter().all(|firing| firing["labels"]["service_name"] == "website"));

    // For people: the same in words.
    let told = up.command(&["rules", "test", &rules, "--since", "2015-01-01"]);
    println!("{told}");
    assert!(told.contains("ServerErrors") && told.contains("2015-05-"), "{told}");
}

/// The Unix second of a line whose status is 500 or more.
fn second_of_error(line: &str) -> Option<i64> {
    let (_, after) = line.split_once('[')?;
    let (time, after) = after.split_once(']')?;
    let status: u16 = after.split('"').nth(2)?.split_whitespace().next()?.parse().ok()?;
    let at = strtime::parse("%d/%b/%Y:%H:%M:%S %z", time).ok()?.to_timestamp().ok()?;
    (status >= 500).then(|| at.as_second())
}
