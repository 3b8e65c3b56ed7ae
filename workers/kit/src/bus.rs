//! The connection to NATS: made once, kept for ever, and honest about whether it stands.
//!
//! The client library reconnects by itself, but it also accepts and buffers what is published while it is disconnected, and its
//! event callback may drop events. So everything in the kit asks [`Bus::link`] instead, which follows the library's own state.

mod address;
mod error;
mod link;
mod options;

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, jetstream};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::publish::InFlight;
use crate::retry::{Backoff, Schedule};

pub use error::{ApiError, ConnectError};
pub use link::Link;
pub use options::BusOptions;

/// The oldest server Keelson runs on. Before it, a stream with two sources can silently drop a message whose id occurred in both.
pub const MINIMUM_SERVER: semver::Version = semver::Version::new(2, 14, 0);
/// A server that does not answer two pings in a row is away: a frozen one is noticed too.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Messages that one subscription buffers before the library drops some; above what any puller here asks for at once.
const SUBSCRIPTION_CAPACITY: usize = 64 * 1024;
/// How often a connection that is being drained is asked whether it is closed.
const CLOSED_POLL: Duration = Duration::from_millis(5);
/// First connection: soon again, since a server that is just starting takes a few hundred milliseconds.
const FIRST_CONNECT: Schedule =
    Schedule { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

/// A connection to the bus. Clones share it.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
    source: Arc<str>,
}

struct Inner {
    client: Client,
    jetstream: jetstream::Context,
    link: watch::Receiver<Link>,
    in_flight: InFlight,
    request_timeout: Duration,
    clock: Clock,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("source", &self.source).field("link", &*self.inner.link.borrow()).finish()
    }
}

impl Bus {
    /// Connects. Once this has succeeded the connection is made anew for ever, in the background, whenever it breaks.
    pub async fn connect(options: BusOptions) -> Result<Self, ConnectError> {
        let deadline = options.connect_within.and_then(|within| options.clock.now().checked_add(within));
        let forever = options.connect_within.is_some() && deadline.is_none();
        let mut waits = Backoff::new(FIRST_CONNECT);
        loop {
            let error = match connect_once(&options).await {
                Ok(bus) => return Ok(bus),
                Err(error) => error,
            };
            let wait = waits.next_wait();
            let in_time = forever || deadline.is_some_and(|deadline| options.clock.now() + wait < deadline);
            if !error.may_pass() || !in_time {
                return Err(error);
            }
            warn!(error = %error, "the bus is not there yet");
            options.clock.sleep(wait).await;
        }
    }

    /// The same connection under another name: `ce-source` becomes `keelson/<source>`.
    #[must_use]
    pub fn named(&self, source: &str) -> Self {
        Self { inner: self.inner.clone(), source: format!("keelson/{source}").into() }
    }

    /// `ce-source` of what this handle publishes.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the bus can be used now.
    pub fn is_connected(&self) -> bool {
        self.inner.link.borrow().up
    }

    /// The state of the connection, and its changes.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.inner.link.clone()
    }

    /// Waits until the bus can be used.
    pub async fn connected(&self) {
        // An error means that the watcher is gone, which happens only with the last handle.
        let _ = self.inner.link.clone().wait_for(|link| link.up).await;
    }

    /// The largest message the server takes, headers included.
    pub fn max_payload(&self) -> usize {
        self.inner.client.max_payload()
    }

    /// The version of the server connected to.
    pub fn server_version(&self) -> String {
        self.inner.client.server_info().version
    }

    /// Sends what is still buffered and closes the connection, within `grace`.
    pub async fn drain(&self, grace: Duration) {
        if let Err(error) = self.inner.client.drain().await {
            warn!(error = %error, "the connection to the bus could not be drained");
        }
        // The library's state stays "connected" after it has closed the connection; that nobody takes its requests any more is the sign.
        let closed = async {
            while self.inner.client.flush().await.is_ok() {
                tokio::time::sleep(CLOSED_POLL).await;
            }
        };
        let _ = tokio::time::timeout(grace, closed).await;
    }

    /// One request to the JetStream API, `$JS.API.<subject>`, in its JSON.
    pub(crate) async fn api<Q: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        subject: &str,
        request: &Q,
    ) -> Result<R, ApiError> {
        let sent = self
            .inner
            .jetstream
            .request::<_, _, jetstream::response::Response<R>>(subject.to_owned(), request);
        match self.on_this_link(sent).await {
            None => Err(ApiError::Unavailable("disconnected".into())),
            Some(Err(error)) => Err(ApiError::Unavailable(error.to_string())),
            Some(Ok(jetstream::response::Response::Ok(answer))) => Ok(answer),
            Some(Ok(jetstream::response::Response::Err { error })) => Err(error.into()),
        }
    }

    /// Awaits an answer for as long as the connection it was asked on stands; None when it broke or there was none.
    pub(crate) async fn on_this_link<F: Future>(&self, answer: F) -> Option<F::Output> {
        let mut link = self.inner.link.clone();
        let this = *link.borrow_and_update();
        if !this.up {
            return None;
        }
        tokio::select! {
            biased;
            answer = answer => Some(answer),
            _ = link.wait_for(|link| *link != this) => None,
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn jetstream(&self) -> &jetstream::Context {
        &self.inner.jetstream
    }

    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.inner.in_flight
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.inner.request_timeout
    }

    /// The time now, for what is written down.
    pub(crate) fn timestamp(&self) -> jiff::Timestamp {
        let now = i64::try_from(self.inner.clock.now_ms()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(now).unwrap_or(jiff::Timestamp::MAX)
    }
}

async fn connect_once(options: &BusOptions) -> Result<Bus, ConnectError> {
    let servers = address::parse(&options.url)?;
    let changed = Arc::new(tokio::sync::Notify::new());
    let told = changed.clone();
    let connect = authenticated(options, &servers)
        .await?
        .name(format!("keelson/{}", options.source))
        .connection_timeout(options.connect_timeout)
        .ping_interval(PING_INTERVAL)
        .request_timeout(Some(options.request_timeout))
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .max_reconnects(None)
        .reconnect_delay_callback(link::reconnect_delay)
        .custom_inbox_prefix(&options.inbox_prefix)
        .event_callback(move |event| {
            // Such as a subject that this user may not use: whoever asked there sees only that no answer comes.
            if let async_nats::Event::ServerError(error) = event {
                warn!(error = %error, "the bus refuses something");
            }
            told.notify_one();
            std::future::ready(())
        });
    let shown = address::shown(&servers);
    let client = connect.connect(servers).await.map_err(|error| refused(&error, &shown))?;
    check_server(&client, &shown)?;
    info!(nats.address = %shown, nats.version = %client.server_info().version, "connected to the bus");
    Ok(Bus::over(client, options, changed))
}

impl Bus {
    fn over(client: Client, options: &BusOptions, changed: Arc<tokio::sync::Notify>) -> Self {
        let jetstream =
            jetstream::context::ContextBuilder::new().timeout(options.request_timeout).build(client.clone());
        let inner = Inner {
            link: link::watch(client.clone(), changed),
            in_flight: InFlight::default(),
            request_timeout: options.request_timeout,
            clock: options.clock.clone(),
            client,
            jetstream,
        };
        Self { inner: Arc::new(inner), source: format!("keelson/{}", options.source).into() }
    }
}

async fn authenticated(
    options: &BusOptions,
    servers: &[async_nats::ServerAddr],
) -> Result<ConnectOptions, ConnectError> {
    if let Some(path) = &options.credentials_file {
        return ConnectOptions::with_credentials_file(path)
            .await
            .map_err(|error| ConnectError::Credentials { path: path.clone(), reason: error.to_string() });
    }
    if let Some((user, password)) = &options.user {
        return Ok(ConnectOptions::with_user_and_password(user.clone(), password.clone()));
    }
    Ok(address::authentication(servers))
}

fn refused(error: &async_nats::ConnectError, address: &str) -> ConnectError {
    let (address, reason) = (address.to_owned(), error.to_string());
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            ConnectError::Refused { address, reason }
        }
        _ => ConnectError::Unreachable { address, reason },
    }
}

fn check_server(client: &Client, address: &str) -> Result<(), ConnectError> {
    let info = client.server_info();
    if !is_new_enough(&info.version) {
        return Err(ConnectError::TooOld { found: info.version });
    }
    if !info.jetstream {
        return Err(ConnectError::NoJetStream { address: address.to_owned() });
    }
    Ok(())
}

/// Whether a server's version is at least [`MINIMUM_SERVER`]; a pre-release of it will do.
fn is_new_enough(version: &str) -> bool {
    semver::Version::parse(version.trim_start_matches('v'))
        .is_ok_and(|found| (found.major, found.minor) >= (MINIMUM_SERVER.major, MINIMUM_SERVER.minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused() {
        let cases = [
            ("2.9.10", false),
            ("2.12.8", false),
            ("2.13.99", false),
            ("2.14.0-RC.1", true),
            ("2.14.0", true),
            ("v2.15.1", true),
            ("3.0.0", true),
            ("", false),
            ("unknown", false),
        ];
        for (version, fine) in cases {
            assert_eq!(is_new_enough(version), fine, "{version}");
        }
    }
}
