//! The HTTP client behind the commands that talk to a running Keelson.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use keelson_schemas::operation::Operation;
use reqwest::header::RETRY_AFTER;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::global::Global;

const DEFAULT_URL: &str = "http://127.0.0.1:8080";
const TIMEOUT: Duration = Duration::from_secs(30);

/// The path of one of many below another; whatever names it stays one segment.
#[must_use]
pub fn path_below(path: &str, name: &str) -> String {
    let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    format!("{path}/{}", name.replace('+', "%20"))
}

/// Which Keelson to talk to, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub struct ClientArgs {
    /// The address of Keelson's HTTP ingress [default: that of `keelson up` on this data directory, or http://127.0.0.1:8080]
    #[arg(long, env = "KEELSON_URL", value_name = "URL")]
    url: Option<Url>,
    /// The bearer token [default: the admin-token in this data directory]
    #[arg(long, env = "KEELSON_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// A connection to the ingress.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The receiver is away or overfull: the same call may succeed later.
    #[error("{why}")]
    Later {
        /// When, if the receiver said so.
        after: Option<Duration>,
        /// What happened, and what to do.
        why: String,
    },
    /// The same call will not succeed.
    #[error("{why}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// What happened, and what to do.
        why: String,
    },
    /// The answer is not what Keelson answers.
    #[error("{0}")]
    Strange(String),
}

/// RFC 9457, as far as a person wants to read it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
}

impl Client {
    /// A client for the address and token of the command line, the environment, or the data directory, in this order.
    ///
    /// # Errors
    /// When the address cannot be one, or the data directory's configuration is wrong and needed.
    pub fn new(args: &ClientArgs, global: &Global) -> anyhow::Result<Self> {
        let local = match (&args.url, &args.token) {
            (Some(_), Some(_)) => None,
            _ => Some(global.data_dir()?),
        };
        let running = || local.as_ref()?.running().map(|running| running.http);
        let base = match &args.url {
            Some(url) => url.clone(),
            None => running()
                .as_deref()
                .unwrap_or(DEFAULT_URL)
                .parse()
                .context("the address in the data directory is none")?,
        };
        let token = args.token.clone().or_else(|| local.as_ref()?.admin_token());
        let http =
            reqwest::Client::builder().user_agent(concat!("keelson/", env!("CARGO_PKG_VERSION"))).build()?;
        Ok(Self { http, base, token })
    }

    /// GETs JSON.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, CallError> {
        let request = self.request(Method::GET, path, query)?.timeout(TIMEOUT);
        self.json(self.send(request).await?).await
    }

    /// GETs what comes in lines, however long that takes.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn lines(&self, path: &str, query: &[(&str, String)]) -> Result<Response, CallError> {
        self.send(self.request(Method::GET, path, query)?).await
    }

    /// GETs a stream of server-sent events.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn events(&self, path: &str) -> Result<Response, CallError> {
        self.send(self.request(Method::GET, path, &[])?.header("Accept", "text/event-stream")).await
    }

    /// POSTs a JSON body that counts once, however often it is sent under this key.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: Vec<u8>,
    ) -> Result<T, CallError> {
        let request = self
            .request(Method::POST, path, &[])?
            .timeout(TIMEOUT)
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", key)
            .body(body);
        self.json(self.send(request).await?).await
    }

    /// Asks for a command; the answer comes with its end, or after `wait_s` seconds.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn command(
        &self,
        method: Method,
        path: &str,
        key: &str,
        wait_s: u64,
        body: Vec<u8>,
    ) -> Result<Operation, CallError> {
        let request = self
            .request(method, path, &[])?
            .timeout(TIMEOUT)
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", key)
            .header("Prefer", format!("wait={wait_s}"))
            .body(body);
        self.json(self.send(request).await?).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<RequestBuilder, CallError> {
        let mut url = self.base.join(path).map_err(|error| CallError::Strange(error.to_string()))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T, CallError> {
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            CallError::Strange(format!("{} does not answer as Keelson does: {error}", self.base))
        })
    }

    async fn refusal(&self, response: Response) -> CallError {
        let status = response.status();
        let after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let problem: Problem = response
            .json::<Value>()
            .await
            .ok()
            .and_then(|body| serde_json::from_value(body).ok())
            .unwrap_or_default();
        let why = self.explain(status, &problem);
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            CallError::Later { after, why }
        } else {
            CallError::Refused { status, why }
        }
    }

    fn explain(&self, status: StatusCode, problem: &Problem) -> String {
        let what = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
        let hint = match status {
            StatusCode::UNAUTHORIZED if self.token.is_none() => {
                ". No token was sent: set KEELSON_TOKEN, or run this where the data directory of `keelson up` is"
            }
            StatusCode::UNAUTHORIZED => ". The token was not accepted: is it one of this Keelson's?",
            _ => "",
        };
        format!("{} answered {status}: {what}{hint}", self.base)
    }

    fn unreachable(&self, error: &reqwest::Error) -> CallError {
        let why = if error.is_connect() {
            format!("nothing answers at {}: is `keelson up` running, and is KEELSON_URL right?", self.base)
        } else if error.is_timeout() {
            format!("{} did not answer in time", self.base)
        } else {
            format!("the connection to {} broke off: {error}", self.base)
        };
        CallError::Later { after: None, why }
    }
}
