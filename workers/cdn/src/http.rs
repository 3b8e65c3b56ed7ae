//! Requests to the outside: how they are made, and how what fails is said.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response};

use crate::url::shown;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are kept open to one host.
const IDLE_PER_HOST: usize = 128;
/// How much of an answer is read: the names of 256 purges, or a reason.
const MOST_ANSWER_BYTES: usize = 64 << 10;

/// A client that follows no redirect and keeps its connections.
pub fn client(timeout: Duration) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("keelson/", env!("CARGO_PKG_VERSION")))
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .redirect(Policy::none())
}

/// The error with its causes, without the address, which may hold a secret.
pub fn said(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::from(error.without_url()))
}

/// When the other side wants to be asked again.
pub fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The status and the beginning of an answer, in one line.
pub async fn reason(response: Response) -> String {
    let status = response.status();
    let text = one_line(&text(response).await);
    if text.is_empty() { format!("it answered {status}") } else { format!("it answered {status}: {text}") }
}

/// An answer, as far as it is read.
pub async fn text(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < MOST_ANSWER_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(MOST_ANSWER_BYTES - bytes.len())]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The beginning of a text, in one line.
pub fn one_line(text: &str) -> String {
    shown(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}
