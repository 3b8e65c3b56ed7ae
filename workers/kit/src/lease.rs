//! Leases: who owns what, under which epoch, so that exactly one does the work and another takes over when it dies.
//!
//! A [`LeaseGroup`] shares a set of keys fairly among all processes that join under the same name, one key or sixteen. A
//! [`Lease`] says under which epoch its holder owns the key and until when that may be relied on. Validity is about time and so
//! only as good as clocks; what must be exact carries the epoch, or a compare-and-set of its own, to where it is stored.
//!
//! A lease is renewed every [`Timing::renew_every`]; one that has not moved for [`Timing::duration`] is taken by another. A clean
//! stop releases it at once, and a node that was restarted on its data directory takes back at once what it held.
//!
//! A worker calls [`crate::role::Context::own`] with the work on one key, and answers questions from [`Owned`].

mod campaign;
mod group;
mod members;
mod owned;
mod share;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use self::group::{GroupSpec, LeaseGroup};
pub use self::owned::{End, Owned, Ownership};
use crate::clock::Clock;
use crate::fault;
use crate::tasks::Tasks;

/// The bucket that holds all leases.
const BUCKET: &str = "leases";

/// How long a lease lasts and how often it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A lease that was not renewed for so long may be taken.
    pub duration: Duration,
    /// The holder renews this often.
    pub renew_every: Duration,
}

impl Default for Timing {
    /// Three seconds, so that a dead owner's work goes on within five; renewed four times in that.
    fn default() -> Self {
        Self { duration: Duration::from_secs(3), renew_every: Duration::from_millis(750) }
    }
}

/// A lease that was gained. When the last clone is dropped it is given back.
#[derive(Clone, Debug)]
pub struct Lease {
    key: Arc<str>,
    index: usize,
    epoch: u64,
    clock: Clock,
    holding: watch::Receiver<Holding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    Until(Instant),
    Over(Loss),
}

/// Why a lease is no longer held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Another took it, under a higher epoch.
    Fenced,
    /// It was given to another member, whose fair share it is.
    Shared,
    /// The group was left.
    Left,
}

impl Lease {
    /// The key in the bucket.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its place in [`GroupSpec::keys`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// The fencing number: higher than that of every earlier holder of the key.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether nobody else can hold it now. Ask after the work whose result depends on it, not before.
    pub fn is_valid(&self) -> bool {
        fault::disabled("lease") || self.valid_until().is_some_and(|until| self.clock.now() < until)
    }

    /// Until when it may be relied on if it is not renewed; None once it is lost.
    pub fn valid_until(&self) -> Option<Instant> {
        // Nobody is at the other end: the group was left, or its task crashed and campaigns anew.
        if self.holding.has_changed().is_err() {
            return None;
        }
        match *self.holding.borrow() {
            Holding::Until(until) => Some(until),
            Holding::Over(_) => None,
        }
    }

    /// Waits until work on what it covers has to end: it is lost for good, or these tasks are told to end.
    pub async fn over(&self, tasks: &Tasks) {
        tokio::select! {
            _ = self.lost() => {}
            () = tasks.cancelled() => {}
        }
    }

    /// Waits until it is lost for good. A lease that merely ran out, because the bus is away, is not lost before another
    /// has taken it; until then it may become valid again under the same epoch.
    pub async fn lost(&self) -> Loss {
        if fault::disabled("lease") {
            // A holder that never hears of its loss: whatever it does has to be fenced where it is stored.
            return std::future::pending().await;
        }
        let mut holding = self.holding.clone();
        let over = holding.wait_for(|holding| matches!(holding, Holding::Over(_))).await;
        match over.as_deref() {
            Ok(Holding::Over(loss)) => *loss,
            // The group is gone with everything it held.
            _ => Loss::Left,
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
