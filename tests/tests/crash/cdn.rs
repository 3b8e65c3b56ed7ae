//! The CDN worker under blows: content changes, and every provider is told of every change, and told again after the rebound, within its limits.

pub mod changes;
mod verdict;

use std::time::{Duration, Instant};

use keelson_schemas::cdn::Selectors;
use keelson_tests::fakes::{cloudflare, cloudfront, fastly};
use keelson_tests::keelson::Separate;
use keelson_tests::place::Place;
use keelson_tests::seed;
use nix::sys::signal::Signal;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::blows::Blow;
use crate::deployment::{a_while, crash_at, start_cdn, strike};
use crate::points;
use crate::run::{Plan, Rounds};
use changes::Changes;
use verdict::{Providers, Verdict};

/// When everything is purged a second time.
const REBOUND: Duration = Duration::from_millis(500);
/// Long enough for the position to be kept several times while purges wait for a provider that is away.
const AWAY: Duration = Duration::from_millis(1_500);
/// A purge that no provider saw by then is lost. Longer than a lease and any wait between two tries.
const PATIENCE: Duration = Duration::from_secs(90);
/// What is lost never comes, so it is not waited for long.
const SABOTAGED_PATIENCE: Duration = Duration::from_secs(10);
/// Every second blow waits until a provider was told of something after the one before, but not longer than this.
const RECOVERED_WITHIN: Duration = Duration::from_secs(15);
/// Those that count how much they are asked at once.
pub const METERED: [&str; 2] = ["cloudflare", "cloudfront"];
/// URLs that are purged at once: more than Cloudflare takes in five seconds, more than CloudFront takes at once.
const FLOOD: usize = 5_000;
/// Tags that are purged at once: a call more than the 25 with a hundred each that Cloudflare takes at once. The next is due in twelve seconds.
const TAGS: usize = 2_600;
/// What Cloudflare takes of them.
const TAGS_AT_ONCE: usize = 2_500;
/// Long enough for a sender to have begun, and to have kept how much it sent.
const SETTLED: Duration = Duration::from_secs(2);

/// A run with random blows.
pub async fn struck(plan: Plan) -> Verdict {
    let mut course = Course::begin("", plan.seed, PATIENCE).await;
    let mut rng = seed::rng(plan.seed, 8_000);
    for _ in 0..plan.rounds {
        a_while(&mut rng).await;
        a_while(&mut rng).await;
        course.strike(Blow::random_at_cdn(&mut rng), &mut rng).await;
        if rng.random_bool(0.5) {
            course.recovered().await;
        }
    }
    course.end().await
}

/// A run through all fault points of the CDN worker.
pub async fn at_points(plan: Plan) -> Verdict {
    let mut course = Course::begin("", plan.seed, PATIENCE).await;
    let mut rng = seed::rng(plan.seed, 9_000);
    for (passer, point) in points::of_cdn() {
        for _ in 0..plan.rounds {
            a_while(&mut rng).await;
            if crash_at(&mut course.all, passer, point, &mut rng).await {
                course.rounds.count(point);
            }
        }
    }
    course.end().await
}

/// A short run with safeguards switched off, or with none. Providers are away before each blow: what changes meanwhile is read, was told to nobody, and only
/// the kept position knows of it.
pub async fn sabotaged(safeguards: &str) -> Verdict {
    let seed = seed::seed();
    let patience = if safeguards.is_empty() { PATIENCE } else { SABOTAGED_PATIENCE };
    let mut course = Course::begin(safeguards, seed, patience).await;
    let mut rng = seed::rng(seed, 10_000);
    for _ in 0..2 {
        course.recovered().await;
        course.providers.answer_all(Some(503));
        tokio::time::sleep(AWAY).await;
        course.strike(Blow::KillBothCdn, &mut rng).await;
        course.providers.answer_all(None);
    }
    course.end().await
}

/// A short run without records of calls that are paid for: each blow falls right after such a call, long before its purges have ended.
pub async fn forgetful() -> Verdict {
    let seed = seed::seed();
    let mut course = Course::begin("record", seed, SABOTAGED_PATIENCE).await;
    let mut rng = seed::rng(seed, 11_000);
    for _ in 0..3 {
        course.paid().await;
        course.strike(Blow::KillBothCdn, &mut rng).await;
    }
    course.end().await
}

/// Far more to purge than Cloudflare and CloudFront take at once, and no blows; what they found wrong with how they were told of it.
pub async fn flooded(safeguards: &str) -> Vec<String> {
    let providers = Providers::start().await;
    let all = start_cdn(place(&providers).env("KEELSON_SABOTAGE", safeguards)).await;
    let urls = (0..FLOOD).map(|number| format!("https://cdn.example/v/{number}")).collect();
    changes::request(&all.nats.url(), &METERED, Selectors { urls, ..Selectors::default() }).await;
    providers.know(&METERED, "files", FLOOD, PATIENCE).await;
    providers.wrong().collect()
}

/// More tags than Cloudflare takes at once, while their sender leaves and its successors are killed; what was wrong with how it was told of them.
pub async fn handed_over() -> Vec<String> {
    let providers = Providers::start().await;
    let mut all = start_cdn(place(&providers)).await;
    let tags = (0..TAGS).map(|number| format!("t{number}")).collect();
    changes::request(&all.nats.url(), &["cloudflare"], Selectors { tags, ..Selectors::default() }).await;
    providers.know(&["cloudflare"], "tags", TAGS_AT_ONCE, PATIENCE).await;
    for replica in [0, 1] {
        tokio::time::sleep(SETTLED).await;
        let mut process = all.cdn[replica].take().expect("the replica runs");
        process.signal(Signal::SIGTERM);
        assert!(process.end(PATIENCE).await.is_some(), "it does not leave");
        tokio::time::sleep(SETTLED).await;
        all.start_cdn(replica, &[]);
    }
    strike(&mut all, Blow::KillBothCdn, &mut seed::rng(seed::seed(), 12_000)).await;
    tokio::time::sleep(SETTLED).await;
    providers.wrong().collect()
}

/// A deployment, what it purges, and what changes.
struct Course {
    seed: u64,
    began: Instant,
    patience: Duration,
    providers: Providers,
    all: Separate,
    changes: Changes,
    rounds: Rounds,
}

impl Course {
    async fn begin(sabotage: &str, seed: u64, patience: Duration) -> Self {
        let providers = Providers::start().await;
        let all = start_cdn(place(&providers).env("KEELSON_SABOTAGE", sabotage)).await;
        let changes = Changes::start(&all.nats.url(), seed).await;
        let course = Self {
            seed,
            began: Instant::now(),
            patience,
            providers,
            all,
            changes,
            rounds: Rounds::default(),
        };
        course.recovered().await;
        course
    }

    async fn strike(&mut self, blow: Blow, rng: &mut StdRng) {
        strike(&mut self.all, blow, rng).await;
        self.rounds.count(blow.name());
    }

    /// Waits until a provider was told of something.
    async fn recovered(&self) {
        grown(|| self.providers.calls()).await;
    }

    /// Waits until a call was made that is paid for.
    async fn paid(&self) {
        grown(|| self.providers.calls_paid_for()).await;
    }

    /// Lets content change no more, and waits until everything was purged that has to be.
    async fn end(self) -> Verdict {
        let Self { seed, began, patience, providers, all, changes, rounds } = self;
        let (asked, garbage) = changes.stop().await;
        let findings = providers.findings(&asked, garbage, &all.nats.url(), patience).await;
        let calls = providers.calls();
        Verdict { seed, took: began.elapsed(), rounds, purges: asked.len(), garbage, calls, findings }
    }
}

async fn grown(calls: impl Fn() -> usize) {
    let (before, deadline) = (calls(), Instant::now() + RECOVERED_WITHIN);
    while calls() == before && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn place(providers: &Providers) -> Place {
    let [varnish, cloudflare_url, fastly_url, cloudfront_url] = providers.urls();
    let rebound = REBOUND.as_millis();
    let section = format!(
        "[cdn]\nproviders = [\"varnish\", \"cloudflare\", \"fastly\", \"cloudfront\"]\ndomain = \"cdn.example\"\n\
         rebound = \"{rebound}ms\"\nlongest_fetch = \"{rebound}ms\"\n[cdn.verify]\nenabled = false\n\
         [cdn.varnish]\nurls = [\"{varnish}\"]\n[cdn.cloudflare]\napi_url = \"{cloudflare_url}/client/v4\"\n\
         [cdn.fastly]\napi_url = \"{fastly_url}\"\n"
    );
    Place::new()
        .configured(&section)
        .env("CLOUDFLARE_API_KEY", cloudflare::TOKEN)
        .env("CLOUDFLARE_ZONE_ID", cloudflare::ZONE)
        .env("FASTLY_API_TOKEN", fastly::TOKEN)
        .env("FASTLY_SERVICE_ID", fastly::SERVICE)
        .env("CLOUDFRONT_DISTRIBUTION_ID", cloudfront::DISTRIBUTION)
        .env("AWS_ENDPOINT_URL", cloudfront_url)
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
}
