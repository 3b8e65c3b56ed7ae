//! CDNs that are asked over their APIs, with their limits; the providers' own SDKs say whether what they are asked here is what they are.

mod cloudfront;
mod outage;
mod sdk;

use std::time::{Duration, Instant};

use keelson_tests::fakes::{Fake, cloudflare, fastly};
use keelson_tests::keelson::Up;
use keelson_tests::place::Place;
use reqwest::Method;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(120);

/// Cloudflare and Fastly beside each other, in front of a site that nobody serves.
struct Two {
    up: Up,
    cloudflare: Fake,
    fastly: Fake,
}

impl Two {
    async fn start() -> Self {
        Self::start_with(cloudflare::TOKEN).await
    }

    async fn start_with(token: &str) -> Self {
        let (cloudflare, fastly) = (cloudflare::start().await, fastly::start().await);
        let section = format!(
            "[cdn]\nproviders = [\"cloudflare\", \"fastly\"]\ndomain = \"cdn.example\"\nrebound = \"0s\"\nrebound_all = \"0s\"\n\
             [cdn.verify]\nenabled = false\n[cdn.cloudflare]\napi_url = \"{}/client/v4\"\n[cdn.fastly]\napi_url = \"{}\"\n",
            cloudflare.url(),
            fastly.url()
        );
        let place = Place::new()
            .configured(&section)
            .env("CLOUDFLARE_API_KEY", token)
            .env("CLOUDFLARE_ZONE_ID", cloudflare::ZONE)
            .env("FASTLY_API_TOKEN", fastly::TOKEN)
            .env("FASTLY_SERVICE_ID", fastly::SERVICE);
        Self { up: Up::start_in(place).await, cloudflare, fastly }
    }

    /// A purge, and its operation once it has ended.
    async fn purge(&self, body: &Value) -> Value {
        let request = self.up.client().request(Method::POST, "/api/cdn/purge").timeout(PATIENCE);
        let request = request.header("prefer", format!("wait={}", PATIENCE.as_secs()));
        request.json(body).send().await.expect("an answer").json().await.expect("JSON")
    }

    async fn status(&self) -> Value {
        let request = self.up.client().request(Method::GET, "/api/cdn/status");
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    /// Waits until the status shows this of the two.
    async fn until(&self, wanted: impl Fn(&[Value; 2]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await;
            if wanted(&[0, 1].map(|lane| status["providers"][lane]["health"].clone())) {
                return;
            }
            assert!(Instant::now() < deadline, "{status:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn assert_within_limits(&self) {
        for fake in [&self.cloudflare, &self.fastly] {
            assert!(fake.kept().wrong.is_empty(), "{:?}", fake.kept().wrong);
        }
    }
}

#[tokio::test]
async fn every_item_arrives_and_no_limit_is_exceeded() {
    let two = Two::start().await;
    let names = |prefix: &str, count: usize| (0..count).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>();
    let tags = names("video:", 257);
    let operation = two.purge(&json!({ "tags": tags, "soft": true })).await;
    assert_eq!(operation["state"], "succeeded", "{operation}");
    let urls = names("https://cdn.example/v/", 10_000);
    let operation = two.purge(&json!({ "urls": urls })).await;
    assert_eq!(operation["state"], "succeeded", "{operation}");
    let prefixes = names("/p/", 16);
    let operation = two.purge(&json!({ "prefixes": prefixes, "providers": ["cloudflare"] })).await;
    assert_eq!(operation["state"], "succeeded", "{operation}");

    let of = |items: &[String], strip: &str| items.iter().map(|item| item.replace(strip, "")).collect();
    assert_eq!(two.cloudflare.seen("tags"), of(&tags, ""));
    assert_eq!(two.cloudflare.seen("files"), of(&urls, ""));
    assert_eq!(
        two.cloudflare.seen("prefixes"),
        prefixes.iter().map(|at| format!("cdn.example{at}")).collect()
    );
    assert_eq!(two.fastly.seen("tags"), of(&tags, ""));
    assert_eq!(two.fastly.seen("files"), of(&urls, "https://"));
    assert!(two.fastly.kept().calls.iter().all(|call| call.soft == (call.kind == "tags")));
    two.assert_within_limits();
    assert!(two.status().await["providers"][0]["quotaLeft"].as_u64() < Some(25));
}

#[tokio::test]
async fn everything_is_emptied_and_what_a_provider_lacks_is_said() {
    let two = Two::start().await;
    let all = json!({ "all": true, "confirm": "cdn.example", "reason": "a test" });
    assert_eq!(two.purge(&all).await["state"], "succeeded");
    assert_eq!((two.cloudflare.seen("all").len(), two.fastly.seen("all").len()), (1, 1));
    let operation = two.purge(&json!({ "prefixes": ["/v/"] })).await;
    let error = operation["error"].as_str().unwrap_or_default();
    assert!(error.contains("unsupported: fastly cannot purge prefix /v/"), "{operation}");
    assert_eq!(two.cloudflare.seen("prefixes").len(), 1, "the other has done it");
    two.assert_within_limits();
}

#[tokio::test]
async fn older_plans_that_take_fewer_get_fewer() {
    let two = Two::start().await;
    two.cloudflare.kept().most_items = Some(30);
    let tags: Vec<String> = (0..100).map(|n| format!("t{n}")).collect();
    let operation = two.purge(&json!({ "tags": tags, "providers": ["cloudflare"] })).await;
    assert_eq!(operation["state"], "succeeded", "{operation}");
    assert_eq!(two.cloudflare.seen("tags").len(), 100);
}

#[tokio::test]
async fn credentials_that_are_refused_end_it_in_the_providers_words() {
    let two = Two::start_with("another-token").await;
    let operation = two.purge(&json!({ "tags": ["t"] })).await;
    let error = operation["error"].as_str().unwrap_or_default();
    assert!(error.contains("cloudflare failed") && error.contains("Authentication error"), "{operation}");
    assert!(!error.contains("fastly"), "{operation}");
    two.until(|health| *health == ["refused", "up"]).await;
}

#[tokio::test]
async fn one_that_is_down_delays_the_other_by_nothing_and_catches_up() {
    let two = Two::start().await;
    two.fastly.answer_all(Some(503));
    let pending = two.purge(&json!({ "tags": ["late"], "providers": ["cloudflare"] })).await;
    assert_eq!(pending["state"], "succeeded", "{pending}");
    let both = async { two.purge(&json!({ "tags": ["both"] })).await };
    let mend = async {
        two.until(|health| *health == ["up", "down"]).await;
        assert!(two.cloudflare.seen("tags").contains("both"));
        two.fastly.answer_all(None);
    };
    let (operation, ()) = tokio::join!(both, mend);
    assert_eq!(operation["state"], "succeeded", "{operation}");
    assert_eq!(two.fastly.seen("tags").len(), 1);
}
