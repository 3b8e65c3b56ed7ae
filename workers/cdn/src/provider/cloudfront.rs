//! CloudFront, one distribution: docs.aws.amazon.com/cloudfront/latest/APIReference/API_CreateInvalidation.html. An invalidation is asked for under a reference
//! of our own, so that asking again after a lost answer gives the same one, and is done when CloudFront says `Completed`.

use std::time::Duration;

use aws_config::meta::region::RegionProviderChain;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_cloudfront::Client;
use aws_sdk_cloudfront::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_cloudfront::types::{Invalidation, InvalidationBatch, Paths};
use futures::FutureExt;
use futures::future::BoxFuture;
use keelson_kit::clock::Clock;
use tokio::sync::OnceCell;

use super::Provider;
use crate::batch::{Batch, Item};
use crate::flow::Answer;
use crate::limits::{CLOUDFRONT, Limits};
use crate::selector::Selector;
use crate::url::shown;

const TIMEOUT: Duration = Duration::from_secs(30);
/// CloudFront is asked in one region; whichever is configured leads there.
const REGION: &str = "us-east-1";
/// Waits between two looks at an invalidation under way, the last for as long as it takes.
const LOOKS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10)];
/// How often it is looked before it is asked for again, under the same reference: a quarter of an hour.
const MOST_LOOKS: usize = 90;
/// What passes: these come as HTTP 400 too.
const PASSES: [&str; 3] = ["Throttling", "ThrottlingException", "ServiceUnavailable"];
/// Somebody else invalidates as well.
const FULL: &str = "TooManyInvalidationsInProgress";
/// What somebody has to mend in the configuration or at AWS.
const NEEDS_MENDING: [&str; 8] = [
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "InvalidClientTokenId",
    "MissingAuthenticationToken",
    "NoSuchDistribution",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// One distribution.
pub struct Cloudfront {
    distribution: String,
    clock: Clock,
    client: OnceCell<Client>,
}

impl Cloudfront {
    /// A distribution. Credentials and region are looked up where every AWS program has them, at the first call.
    #[must_use]
    pub fn new(distribution: &str) -> Self {
        Self { distribution: distribution.to_owned(), clock: Clock::system(), client: OnceCell::new() }
    }

    async fn call(&self, batch: &Batch) -> Answer {
        let client = self.client.get_or_init(async || Client::new(&settings().await)).await;
        match self.create(client, batch).await {
            Ok(invalidation) => self.completed(client, invalidation).await,
            Err(answer) => answer,
        }
    }

    async fn create(&self, client: &Client, batch: &Batch) -> Result<Invalidation, Answer> {
        let wanted = asked(batch).map_err(|error| Answer::Refused(error.to_string()))?;
        let create =
            client.create_invalidation().distribution_id(&self.distribution).invalidation_batch(wanted);
        let created = create.send().await.map_err(|error| judged(&error))?;
        created.invalidation.ok_or_else(|| again("it answered without an invalidation"))
    }

    async fn completed(&self, client: &Client, mut invalidation: Invalidation) -> Answer {
        for look in 0..MOST_LOOKS {
            if invalidation.status().eq_ignore_ascii_case("completed") {
                return Answer::done(Some(invalidation.id));
            }
            self.clock.sleep(LOOKS[look.min(LOOKS.len() - 1)]).await;
            let get = client.get_invalidation().distribution_id(&self.distribution).id(invalidation.id());
            match get.send().await.map(|found| found.invalidation) {
                Ok(found) => invalidation = found.unwrap_or(invalidation),
                Err(error) => {
                    if let answer @ Answer::Credentials(_) = judged(&error) {
                        return answer;
                    }
                }
            }
        }
        again(&format!("invalidation {} is still {}", invalidation.id(), invalidation.status()))
    }
}

impl Provider for Cloudfront {
    fn limits(&self) -> Limits {
        CLOUDFRONT
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Answer> {
        self.call(batch).boxed()
    }
}

/// Only one stage retries, and that is ours.
async fn settings() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .region(RegionProviderChain::default_provider().or_else(REGION))
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().operation_timeout(TIMEOUT).build())
        .load()
        .await
}

fn asked(batch: &Batch) -> Result<InvalidationBatch, aws_sdk_cloudfront::error::BuildError> {
    let paths: Vec<String> = batch.items.iter().map(path).collect();
    let quantity = i32::try_from(paths.len()).unwrap_or(i32::MAX);
    let paths = Paths::builder().quantity(quantity).set_items(Some(paths)).build()?;
    InvalidationBatch::builder().paths(paths).caller_reference(&batch.reference).build()
}

/// Paths are those of every host. A star at the end stands for anything.
fn path(item: &Item) -> String {
    match &item.selector {
        Selector::Url(url) => url.path_and_query().to_owned(),
        Selector::Prefix(prefix) => format!("{prefix}*"),
        Selector::All | Selector::Tag(_) => "/*".to_owned(),
    }
}

fn judged<E>(error: &SdkError<E>) -> Answer
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let Some(service) = error.as_service_error() else {
        let reason = shown(&DisplayErrorContext(error).to_string());
        return if reason.contains("redentials") { Answer::Credentials(reason) } else { again(&reason) };
    };
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    let code = service.code().unwrap_or("no code");
    let reason = format!("it answered {status} {code}: {}", service.message().unwrap_or("no message"));
    match code {
        FULL => Answer::Full(reason),
        _ if PASSES.contains(&code) || status == 429 || status >= 500 => again(&reason),
        _ if NEEDS_MENDING.contains(&code) || status == 401 || status == 403 => Answer::Credentials(reason),
        _ => Answer::Refused(reason),
    }
}

fn again(reason: &str) -> Answer {
    Answer::Retry { after: None, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::Site;

    #[test]
    fn paths_are_those_of_urls_and_prefixes_are_wildcards() {
        let site = Site::new("cdn.example", &[]).unwrap();
        let url = Selector::Url(site.url("https://cdn.example/a?b=c").unwrap());
        let cases = [(url, "/a?b=c"), (Selector::Prefix("/v/".into()), "/v/*"), (Selector::All, "/*")];
        for (selector, expected) in cases {
            assert_eq!(path(&Item { selector, purges: vec![] }), expected);
        }
    }
}
