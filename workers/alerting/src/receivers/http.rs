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

use super::text::shortened;
use super::veil::Veil;

/// How long one try may take.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that a receiver can ask to be left alone.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);
/// How much of an answer is read for its reason.
const MOST_READ_BYTES: usize = 8 * 1024;
/// How much of it is told.
const MOST_ANSWER_CHARS: usize = 500;

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
    /// A secret in it.
    pub hidden: Option<&'a Secret>,
}

/// Whether a secret can be sent as a bearer token.
#[must_use]
pub fn is_token(token: &Secret) -> bool {
    let token = token.expose();
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
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
            Ok(response) => Err(refused(response, &Veil::over(&post)).await),
            Err(error) if error.is_builder() => Err(Failure::reject(said(error))),
            Err(error) => Err(Failure::retry(said(error))),
        }
    }
}

async fn refused(response: Response, veil: &Veil) -> Failure {
    let status = response.status();
    let after =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let after = after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    let reason = reason(status, &beginning(response, veil).await);
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

/// The beginning of an answer, in one line, without secrets.
async fn beginning(mut response: Response, veil: &Veil) -> String {
    let (mut bytes, mut is_cut) = (Vec::new(), false);
    while let Ok(Some(chunk)) = response.chunk().await {
        is_cut = bytes.len() + chunk.len() > MOST_READ_BYTES;
        bytes.extend_from_slice(&chunk[..chunk.len().min(MOST_READ_BYTES - bytes.len())]);
        if is_cut {
            break;
        }
    }
    if is_cut {
        // What is cut off may have begun with a part of a secret.
        bytes.truncate(bytes.len().saturating_sub(veil.longest()));
    }
    let text = veil.drawn_over(&String::from_utf8_lossy(&bytes));
    shortened(&text.split_whitespace().collect::<Vec<_>>().join(" "), MOST_ANSWER_CHARS)
}

/// The error with its causes, without the address.
fn said(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::from(error.without_url()))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{HeaderMap, Uri};
    use axum::response::{IntoResponse, Redirect};
    use axum::routing::post;
    use serde_json::json;

    use super::*;

    async fn server() -> String {
        let router = Router::new()
            .route(
                "/fine",
                post(async |headers: HeaderMap| {
                    let has = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);
                    let status = if has("idempotency-key", "k") && has("authorization", "Bearer t") {
                        200
                    } else {
                        400
                    };
                    StatusCode::from_u16(status).unwrap()
                }),
            )
            .route(
                "/busy",
                post(async || (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "7")], "slow\n down")),
            )
            .route("/patient", post(async || (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "999999")])))
            .route("/broken", post(async || (StatusCode::BAD_GATEWAY, "x".repeat(100_000))))
            .route("/timeout", post(async || StatusCode::REQUEST_TIMEOUT))
            .route("/gone", post(async || (StatusCode::GONE, "channel_is_archived")))
            .route(
                "/echo/{secret}",
                post(async |uri: Uri, headers: HeaderMap| {
                    let heard = format!("no such hook {uri} for {:?} ", headers["authorization"]);
                    (StatusCode::GONE, heard.repeat(MOST_READ_BYTES / heard.len()) + "hunter2hun")
                }),
            )
            .route("/moved", post(async || Redirect::temporary("/fine").into_response()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    async fn posted(url: String) -> Result<(), Failure> {
        let (url, token) = (url.into(), "t".to_owned().into());
        Http::new()
            .unwrap()
            .post(Post { url: &url, token: Some(&token), key: Some("k"), body: &json!({}), hidden: None })
            .await
    }

    #[tokio::test]
    async fn an_answer_says_whether_trying_again_makes_sense() {
        let server = server().await;
        assert_eq!(posted(format!("{server}/fine")).await, Ok(()));
        for (path, after, says) in [
            ("busy", Some(7), "429 Too Many Requests: slow down"),
            ("patient", Some(900), "503 Service Unavailable"),
            ("broken", None, "502 Bad Gateway: xxx"),
            ("timeout", None, "408 Request Timeout"),
        ] {
            let Err(Failure::Retry { after: found, reason }) = posted(format!("{server}/{path}")).await
            else {
                panic!("{path}");
            };
            assert_eq!(found, after.map(Duration::from_secs), "{path}");
            assert!(reason.contains(says) && reason.len() < 600, "{reason}");
        }
        for (path, says) in [("gone", "410 Gone: channel_is_archived"), ("moved", "307"), ("nowhere", "404")]
        {
            let failure = posted(format!("{server}/{path}")).await.unwrap_err();
            assert!(matches!(&failure, Failure::Reject { reason } if reason.contains(says)), "{failure}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_repeats_what_it_was_sent_is_told_without_it() {
        let failure = posted(server().await + "/echo/hunter2hunter2").await.unwrap_err();
        let told = failure.to_string();
        assert!(told.contains("no such hook") && !told.contains("hunter2"), "{told}");
    }

    #[tokio::test]
    async fn what_cannot_be_reached_may_come_back_and_its_address_stays_secret() {
        let failure = posted("http://127.0.0.1:1/hunter2?key=hunter2".to_owned()).await.unwrap_err();
        assert!(matches!(failure, Failure::Retry { .. }));
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
    }
}
