//! Prometheus itself and its promtool, as they are shipped by Debian, on the export.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keelson_tests::keelson::{SHOWN_WITHIN, Up};
use keelson_tests::place::TOKEN;
use keelson_tests::prometheus::{Prometheus, scrapes};
use keelson_tests::traffic::{Load, Traffic};
use reqwest::Method;

#[tokio::test]
async fn promtool_has_nothing_to_say() {
    let up = Up::start().await;
    let traffic = Traffic::start(&up.client(), Load::default());
    up.client().scrape_until(SHOWN_WITHIN, |page| page.requests() > 2_000).await;
    let (sent, _) = traffic.stop().await;
    up.client().assert_shows(&sent, SHOWN_WITHIN).await;

    let page = up.client().request(Method::GET, "/api/monitoring/prometheus").send().await.expect("a scrape");
    let (said, passed) = promtool(&page.text().await.expect("a page"));
    assert!(passed && said.is_empty(), "{said}");
}

/// The scrapes last as many seconds as KEELSON_SCRAPE_SECONDS says, 10 if it says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_scrapes_native_histograms_without_error() {
    let seconds = std::env::var("KEELSON_SCRAPE_SECONDS").map_or(10, |text| text.parse().expect("seconds"));
    let up = Up::start().await;
    let prometheus = Prometheus::start(&scrapes(&up.place().url(), "1s", TOKEN), "");
    prometheus.wait_for("up", "1").await;
    let traffic = Traffic::start(&up.client(), Load::default());
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        assert_target_is_well(&prometheus).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (sent, _) = traffic.stop().await;
    up.client().assert_shows(&sent, SHOWN_WITHIN).await;

    let total = sent.requests().to_string();
    prometheus.wait_for("sum(http_server_requests_total)", &total).await;
    let timed: u64 = sent.0.values().map(|count| count.timed).sum();
    prometheus
        .wait_for("histogram_count(sum(http_server_request_duration_seconds))", &timed.to_string())
        .await;
    let scrapes = prometheus.value(&format!("count_over_time(up[{}s])", seconds + 5)).await;
    assert_eq!(prometheus.value("min_over_time(up[1h])").await, Some("1".into()));
    assert_eq!(prometheus.value("sum(resets(http_server_requests_total[1h]))").await, Some("0".into()));
    println!("{} scrapes in {seconds} s without error, {total} requests", scrapes.expect("scrapes"));
}

async fn assert_target_is_well(prometheus: &Prometheus) {
    let targets = prometheus.get("/api/v1/targets", &[]).await.expect("Prometheus answers");
    let target = &targets["data"]["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{target}");
}

fn promtool(page: &str) -> (String, bool) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool runs: Debian's package prometheus has it");
    child.stdin.take().expect("piped").write_all(page.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), output.status.success())
}
