//! Posting JSON to the outside, and what the answer means.

use std::time::Duration;

use keelson_kit::config::Secret;
use keelson_kit::failure::Failure;
use keelson_kit::trace;
use keelson_schemas::envelope::TRACEPARENT;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde::Serialize;

/// How long one try may take.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that a receiver can ask to be left alone.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);
/// How much of an answer is read for its reason.
const MOST_ANSWER_BYTES: usize = 512;

/// A client for all receivers. It follows no redirect: what is configured is where things go.
#[derive(Clone, Debug)]
pub struct Http(Client);

/// A request to be made.
pub struct Post<'a, B> {
    /// Where to. It may hold a secret, so that it is never shown.
    pub url: &'a Secret,
    /// A bearer token.
    pub token: Option<&'a Secret>,
    /// The same in every try, so that the receiver can tell that it has it already.
    pub key: Option<&'a str>,
    /// What is sent.
    pub body: &'a B,
}

impl Http {
    /// A client.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> reqwest::Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("keelson/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none());
        Ok(Self(client.build()?))
    }

    /// Posts JSON, once.
    ///
    /// # Errors
    /// [`Failure::Retry`] when nobody answers, or with 408, 429 or 5xx; [`Failure::Reject`] with any other status but 2xx.
    pub async fn post<B: Serialize>(&self, post: Post<'_, B>) -> Result<(), Failure> {
        let mut request = self.0.post(post.url.expose()).json(post.body);
        if let Some(token) = post.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(key) = post.key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(traceparent) = trace::current().traceparent {
            request = request.header(TRACEPARENT, traceparent);
        }
        match request.send().await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(refused(response).await),
            Err(error) if error.is_builder() => Err(Failure::reject(said(error))),
            Err(error) => Err(Failure::retry(said(error))),
        }
    }
}

async fn refused(response: Response) -> Failure {
    let status = response.status();
    let after =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let after = after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    let reason = reason(status, &beginning(response).await);
    let passes = status.is_server_error()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    match (passes, after) {
        (true, Some(after)) => Failure::retry_after(after, reason),
        (true, None) => Failure::retry(reason),
        (false, _) => Failure::reject(reason),
    }
}

fn reason(status: StatusCode, answer: &str) -> String {
    if answer.is_empty() {
        format!("it answered {status}")
    } else {
        format!("it answered {status}: {answer}")
    }
}

/// The beginning of an answer, in one line.
async fn beginning(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < MOST_ANSWER_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(MOST_ANSWER_BYTES - bytes.len())]);
    }
    String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The error with its causes, without the address.
fn said(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::from(error.without_url()))
}
