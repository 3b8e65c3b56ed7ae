//! One look at an instance: HTTP, TCP, or a question over the bus.

use std::time::Duration;

use keelson_kit::bus::Bus;
use keelson_kit::query::AskError;
use keelson_schemas::services::Service;
use reqwest::Client;
use tokio::net::TcpStream;

use crate::address::Target;
use crate::certificate;
use crate::http::{self, BodyError, Names};
use crate::hysteresis::Seen;

/// How much of a body is looked at.
const MOST_BODY_BYTES: usize = 256 << 10;

/// Looks at instances.
#[derive(Clone)]
pub struct Prober {
    /// The bus.
    pub bus: Bus,
    /// Who resolves names.
    pub names: Names,
    /// Who asks over HTTP.
    pub client: Client,
}

/// What a look at an instance has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// How it is.
    pub seen: Seen,
    /// What is not well.
    pub reason: Option<String>,
    /// Unix milliseconds until when its certificate is valid, where it has one and is well.
    pub certificate_ends_ms: Option<u64>,
}

impl Look {
    fn not_well(seen: Seen, reason: String) -> Self {
        Self { seen, reason: Some(reason), certificate_ends_ms: None }
    }
}

/// What an instance has to do to be well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The path that is asked for.
    pub path: String,
    /// Statuses that are well; none are 200 to 299.
    pub status: Vec<u16>,
    /// What the body has to contain.
    pub body: Option<String>,
    /// How long it may take.
    pub timeout: Duration,
}

impl Expected {
    /// What a service has said of itself, else as is usual.
    #[must_use]
    pub fn of(service: &Service, timeout: Duration) -> Self {
        Self {
            path: service.health.clone(),
            status: service.status.clone(),
            body: service.body.clone(),
            timeout: service.timeout_ms.map_or(timeout, Duration::from_millis),
        }
    }
}

impl Prober {
    /// Looks at an instance, and at the reference when that does not do well: without the reference nothing is known of the instance.
    pub async fn look(&self, target: &Target, expected: &Expected, reference: Option<&Target>) -> Look {
        let reason = match self.probe(target, expected).await {
            Ok(certificate_ends_ms) => return Look { seen: Seen::Well, reason: None, certificate_ends_ms },
            Err(reason) => reason,
        };
        if !self.bus.is_connected() {
            return Look::not_well(Seen::Blind, format!("the checker has lost the bus ({reason})"));
        }
        let Some(reference) = reference else { return Look::not_well(Seen::Ill, reason) };
        let bare = Expected {
            path: "/".to_owned(),
            status: (100..600).collect(),
            body: None,
            timeout: expected.timeout,
        };
        match self.probe(reference, &bare).await {
            Ok(_) => Look::not_well(Seen::Ill, reason),
            Err(error) => {
                Look::not_well(Seen::Blind, format!("the checker cannot see {reference} either: {error}"))
            }
        }
    }

    /// Whether an instance does what it has to, and until when its certificate is valid, in Unix milliseconds.
    ///
    /// # Errors
    /// What it did instead.
    pub async fn probe(&self, target: &Target, expected: &Expected) -> Result<Option<u64>, String> {
        let looked = async {
            match target {
                Target::Http(base) => self.http(base.as_str().trim_end_matches('/'), expected).await,
                Target::Tcp { port, .. } => {
                    let host = target.host().map_or("", |(host, _)| host);
                    self.tcp(host, *port).await.map(|()| None)
                }
                Target::Nats(subject) => self.nats(subject, expected.timeout).await.map(|()| None),
            }
        };
        let in_time = tokio::time::timeout(expected.timeout, looked).await;
        in_time.unwrap_or_else(|_| Err(format!("it did not answer within {:?}", expected.timeout)))
    }

    async fn http(&self, base: &str, expected: &Expected) -> Result<Option<u64>, String> {
        let response =
            self.client.get(format!("{base}{}", expected.path)).send().await.map_err(http::said)?;
        let (status, certificate_ends_ms) = (response.status(), certificate::ends_ms(&response));
        let fine = match expected.status.is_empty() {
            true => status.is_success(),
            false => expected.status.contains(&status.as_u16()),
        };
        if !fine {
            return Err(format!("it answered {status}"));
        }
        let Some(wanted) = &expected.body else { return Ok(certificate_ends_ms) };
        match http::body(response, MOST_BODY_BYTES).await {
            Ok(body) if String::from_utf8_lossy(&body).contains(wanted.as_str()) => Ok(certificate_ends_ms),
            Ok(_) => Err(format!("it answered {status}, and {wanted:?} is not in the body")),
            Err(BodyError::TooLarge(most)) => Err(format!("its body has more than {most} bytes")),
            Err(BodyError::Broken(why)) => Err(format!("its body broke off: {why}")),
        }
    }

    async fn tcp(&self, host: &str, port: u16) -> Result<(), String> {
        let addresses = self.names.addresses(host).await.map_err(|error| error.to_string())?;
        let mut error = "it has no address".to_owned();
        for address in addresses {
            match TcpStream::connect((address, port)).await {
                Ok(_) => return Ok(()),
                Err(failed) => error = failed.to_string(),
            }
        }
        Err(error)
    }

    async fn nats(&self, subject: &str, within: Duration) -> Result<(), String> {
        match self.bus.ask_bytes(subject, Default::default(), within).await {
            Ok(_) => Ok(()),
            Err(AskError::Unreadable { .. }) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}
