//! CloudFront by AWS's own SDK, with what may be in progress at once.

use std::time::Duration;

use keelson_tests::fakes::cloudfront::{self, DISTRIBUTION};
use keelson_tests::keelson::Up;
use keelson_tests::nats;
use keelson_tests::place::Place;
use reqwest::Method;
use serde_json::{Value, json};

use super::PATIENCE;

pub async fn up(url: &str, distribution: &str) -> Up {
    let section = "[cdn]\nproviders = [\"cloudfront\"]\ndomain = \"cdn.example\"\nrebound = \"0s\"\nrebound_all = \"0s\"\n\
                   [cdn.verify]\nenabled = false\n";
    let place = Place::new()
        .configured(section)
        .env("CLOUDFRONT_DISTRIBUTION_ID", distribution)
        .env("AWS_ENDPOINT_URL", url)
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret");
    Up::start_in(place).await
}

pub async fn purge(up: &Up, body: &Value) -> Value {
    let request = up.client().request(Method::POST, "/api/cdn/purge").timeout(PATIENCE);
    let request = request.header("prefer", format!("wait={}", PATIENCE.as_secs()));
    request.json(body).send().await.expect("an answer").json().await.expect("JSON")
}

#[tokio::test]
async fn every_path_is_invalidated_and_never_too_much_at_once() {
    let fake = cloudfront::start().await;
    let up = up(fake.url(), DISTRIBUTION).await;
    let urls: Vec<String> = (0..3_001).map(|n| format!("https://cdn.example/v/{n}?a=1&b=2")).collect();
    let prefixes: Vec<String> = (0..16).map(|n| format!("/p/{n}/")).collect();
    let operation = purge(&up, &json!({ "urls": urls, "prefixes": prefixes })).await;
    assert_eq!(operation["state"], "succeeded", "{operation}");
    let paths = urls.iter().map(|url| url.replace("https://cdn.example", ""));
    let wildcards = prefixes.iter().map(|prefix| format!("{prefix}*"));
    assert_eq!(fake.seen("files"), paths.chain(wildcards).collect());
    assert!(fake.kept().wrong.is_empty(), "{:?}", fake.kept().wrong);
    let named: usize = fake.kept().calls.iter().map(|call| call.items.len()).sum();
    assert_eq!(named, 3_017, "each is paid for once");
}

#[tokio::test]
async fn ten_thousand_urls_arrive_and_never_too_many_at_once() {
    let fake = cloudfront::start().await;
    let up = up(fake.url(), DISTRIBUTION).await;
    let urls: Vec<String> = (0..10_000).map(|n| format!("https://cdn.example/v/{n}")).collect();
    let operation = purge(&up, &json!({ "urls": urls })).await;
    assert_eq!(operation["state"], "succeeded", "{operation}");
    assert_eq!(fake.seen("files"), urls.iter().map(|url| url.replace("https://cdn.example", "")).collect());
    assert!(fake.kept().wrong.is_empty(), "{:?}", fake.kept().wrong);
    let named: usize = fake.kept().calls.iter().map(|call| call.items.len()).sum();
    assert_eq!(named, 10_000, "each is paid for once");
}

#[tokio::test]
async fn a_distribution_that_is_not_there_ends_it_in_the_words_of_aws() {
    let fake = cloudfront::start().await;
    let up = up(fake.url(), "EOTHER").await;
    let operation = purge(&up, &json!({ "all": true, "confirm": "cdn.example", "reason": "a test" })).await;
    let error = operation["error"].as_str().unwrap_or_default();
    assert!(error.contains("NoSuchDistribution"), "{operation}");
}

#[tokio::test]
async fn a_new_sender_knows_which_urls_a_tag_covers() {
    let fake = cloudfront::start().await;
    let mut up = up(fake.url(), DISTRIBUTION).await;
    let event = json!({ "urls": ["https://cdn.example/v/1"], "tags": ["video:1"] });
    let stream = nats::jetstream(&up.nats_url()).await;
    let sent = stream.publish("keelson.evt.content.changed", event.to_string().into()).await;
    sent.expect("sent").await.expect("stored");
    let operation = purge(&up, &json!({ "tags": ["video:1"] })).await;
    assert_eq!(operation["state"], "succeeded", "{operation}");
    // Long enough for the position to be kept: what is done is not read again for its own sake.
    tokio::time::sleep(Duration::from_secs(2)).await;
    up.restart().await;
    let operation = purge(&up, &json!({ "tags": ["video:1"] })).await;
    assert_eq!(operation["state"], "succeeded", "{operation}");
}
