//! Whether the connection stands, as a value that can be watched.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Client, connection::State};
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use crate::retry::{Schedule, wait_for_attempt};

/// The library's events wake the watcher; since it may drop them, the watcher also looks by itself this often.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Work has to resume within five seconds of the bus being back, so the longest wait is well below that.
const RECONNECT: Schedule =
    Schedule { first: Duration::from_millis(20), longest: Duration::from_millis(500) };

/// The state of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether it can be used.
    pub up: bool,
    /// How often it was made. A reader whose link has another number than when it subscribed may have missed something.
    pub connects: u64,
}

/// How long to wait before reconnection attempt `attempt`.
pub(super) fn reconnect_delay(attempt: usize) -> Duration {
    wait_for_attempt(RECONNECT, u32::try_from(attempt).unwrap_or(u32::MAX))
}

/// Watches the connection of `client` until nobody watches any more. `changed` wakes it early.
pub(super) fn watch(client: Client, changed: Arc<Notify>) -> watch::Receiver<Link> {
    let (sender, receiver) = watch::channel(look(&client));
    // The one task outside the supervisor: it belongs to the connection, which outlives every task, and ends with it.
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = changed.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let (before, now) = (*sender.borrow(), look(&client));
            if before != now {
                tell(&client, before, now);
                sender.send_replace(now);
            }
        }
    });
    receiver
}

fn look(client: &Client) -> Link {
    let connected = client.connection_state() == State::Connected;
    let up = connected && super::is_new_enough(&client.server_info().version);
    Link { up, connects: client.statistics().connects.load(Ordering::Relaxed) }
}

fn tell(client: &Client, before: Link, now: Link) {
    let version = client.server_info().version;
    match (now.up, client.connection_state()) {
        (true, _) => info!(nats.version = %version, nats.connects = now.connects, "the bus is back"),
        (false, State::Connected) => error!("{}", super::ConnectError::TooOld { found: version }),
        (false, _) if before.up => warn!("the connection to the bus is lost; it is being made anew"),
        (false, _) => {}
    }
}
