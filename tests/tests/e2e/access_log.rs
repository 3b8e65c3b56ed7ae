//! The import of an access log: every line counts once under its status code, and no latency is invented.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keelson_tests::binary::repository;
use keelson_tests::keelson::{SHOWN_WITHIN, Up};

/// The lines of tests/data/access.log by status code; the file is made up, in the shape of a real server's.
const SAMPLE: [(u16, u64); 8] =
    [(200, 182), (206, 3), (301, 5), (304, 9), (403, 1), (404, 6), (416, 1), (500, 1)];
/// The lines of the log that KEELSON_ACCESS_LOG may name, of a real web server.
const REAL: [(u16, u64); 8] =
    [(200, 9126), (206, 45), (301, 164), (304, 445), (403, 2), (404, 213), (416, 2), (500, 3)];

#[tokio::test]
async fn an_imported_log_shows_its_lines_by_status_code() {
    imports(&repository().join("tests/data/access.log"), &SAMPLE).await;
}

#[tokio::test]
async fn a_real_log_shows_its_lines_by_status_code() {
    match std::env::var_os("KEELSON_ACCESS_LOG") {
        Some(file) => imports(&PathBuf::from(file), &REAL).await,
        None => println!("KEELSON_ACCESS_LOG names no log: only the sample was imported"),
    }
}

async fn imports(file: &Path, expected: &[(u16, u64)]) {
    let up = Up::start().await;
    let file = file.to_str().expect("a path in UTF-8");
    println!("{}", up.command(&["telemetry", "import", file, "--service", "website"]));

    let expected: BTreeMap<u16, u64> = expected.iter().copied().collect();
    let total: u64 = expected.values().sum();
    let page = up.client().scrape_until(SHOWN_WITHIN, |page| page.requests() >= total).await;
    println!("by status code: {:?}", page.by_status("website"));
    assert_eq!(page.by_status("website"), expected);
    assert_eq!(page.sum("http_server_request_duration_seconds_count", &[]), 0.0, "a latency was invented");

    // The same file again is the same lines again, not new ones: a broken-off import can be repeated.
    up.command(&["telemetry", "import", file, "--service", "website"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let page = up.client().scrape(SHOWN_WITHIN).await;
    assert_eq!(page.by_status("website"), expected, "a repeated import counted twice");
}
