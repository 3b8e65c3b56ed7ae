//! The SDKs that Cloudflare and Fastly publish, unmodified, against the stand-ins for their APIs.

use std::process::Command;

use keelson_tests::fakes::{Fake, cloudflare, fastly};

use crate::foreign::{foreign, tool};

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
