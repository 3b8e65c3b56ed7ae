//! The SDKs that Cloudflare, Fastly and AWS publish, unmodified, against the stand-ins for their APIs; and CloudFront as moto knows it, which others use as theirs.

use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use keelson_tests::fakes::{Fake, cloudflare, cloudfront, fastly};
use keelson_tests::place::free_port;
use keelson_tests::process::Process;
use serde_json::json;

use super::cloudfront::{purge, up};
use crate::foreign::{foreign, tool};

const READY_WITHIN: Duration = Duration::from_secs(30);

/// Runs the script in Python; what the stand-in was asked by the SDK for one kind.
async fn run(which: &'static str, fake: &Fake, id: &'static str, token: &'static str) {
    let url = fake.url().to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(tool("python/bin/python"));
        command.arg(foreign("purge.py")).args([which, &url, id, token]).output().expect("python runs")
    });
    let output = output.await.expect("it is not cancelled");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fake.kept().wrong.is_empty(), "{:?}", fake.kept().wrong);
}

fn one(text: &str) -> std::collections::BTreeSet<String> {
    [text.to_owned()].into()
}

#[tokio::test]
async fn cloudflares_own_sdk_finds_its_api() {
    let fake = cloudflare::start().await;
    run("cloudflare", &fake, cloudflare::ZONE, cloudflare::TOKEN).await;
    assert_eq!(fake.seen("files"), one("https://cdn.example/a?b=c"));
    assert_eq!(fake.seen("tags"), one("video:1"));
    assert_eq!(fake.seen("prefixes"), one("cdn.example/v/"));
    assert_eq!(fake.seen("all").len(), 1);
}

#[tokio::test]
async fn fastlys_own_sdk_finds_its_api() {
    let fake = fastly::start().await;
    run("fastly", &fake, fastly::SERVICE, fastly::TOKEN).await;
    assert_eq!(fake.seen("tags"), ["video:1", "video:2", "video:3"].map(str::to_owned).into());
    assert_eq!(fake.seen("all").len(), 1);
    assert!(fake.kept().calls.iter().any(|call| call.kind == "tags" && call.soft), "{:?}", fake.kept().calls);
}

#[tokio::test]
async fn awss_own_sdk_finds_cloudfronts_api() {
    let fake = cloudfront::start().await;
    run("cloudfront", &fake, cloudfront::DISTRIBUTION, "").await;
    assert_eq!(fake.seen("files"), ["/a?b=c&d=e", "/v/*"].map(str::to_owned).into());
    assert_eq!(fake.kept().calls.len(), 1);
}

/// moto has its own view of CloudFront's wire format; of its limits and of repeated calls it knows nothing.
#[tokio::test]
async fn moto_takes_what_cloudfront_takes() {
    let moto = Moto::start().await;
    let distribution = moto.ask(&[]).await.remove(0);
    let up = up(&moto.url, &distribution).await;
    let body =
        json!({ "urls": ["https://cdn.example/a?b=1&c=2", "https://cdn.example/d"], "prefixes": ["/v/"] });
    let operation = purge(&up, &body).await;
    assert_eq!(operation["state"], "succeeded", "{operation}");
    let mut paths = moto.ask(&[&distribution]).await;
    paths.sort();
    assert_eq!(paths, ["/a?b=1&c=2", "/d", "/v/*"]);
}

/// moto's server, as it is published.
struct Moto {
    url: String,
    _process: Process,
}

impl Moto {
    async fn start() -> Self {
        let port = free_port();
        let mut command = Command::new(tool("python/bin/python"));
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        let mut process = Process::spawn("moto", command);
        let deadline = Instant::now() + READY_WITHIN;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(process.ended().is_none() && Instant::now() < deadline, "{}", process.output());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { url: format!("http://127.0.0.1:{port}"), _process: process }
    }

    /// What AWS's SDK finds there, line by line.
    async fn ask(&self, more: &[&str]) -> Vec<String> {
        let mut command = Command::new(tool("python/bin/python"));
        command.arg(foreign("aws.py")).arg(&self.url).args(more);
        let output = tokio::task::spawn_blocking(move || command.output().expect("python runs"));
        let output = output.await.expect("it is not cancelled");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }
}
