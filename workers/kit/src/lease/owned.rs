//! What this process owns by lease: the work on it, and the answers that only its owner may give.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::info;

use super::{GroupSpec, Lease, LeaseGroup};
use crate::retry::{Backoff, Schedule};
use crate::role::Context;
use crate::tasks::Tasks;

impl Context {
    /// Joins those who share a group's keys, and does the work of each key that falls to this process: from when its lease is gained until it
    /// is lost or the work is over, in a task of its own that is started again when it crashes, though not before the bus can be used. The work
    /// has to end when its lease is lost or these tasks are cancelled; with the last clone of it the lease is given back.
    pub fn own<F, Fut>(&self, spec: GroupSpec, work: F)
    where
        F: Fn(Lease) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let name = spec.name.clone();
        let (ctx, mut group) = (self.clone(), LeaseGroup::join(self, spec));
        self.tasks.spawn_once(format!("owner of {name}"), async move {
            while let Some(lease) = group.next().await {
                let (ctx, work) = (ctx.clone(), work.clone());
                ctx.tasks.clone().spawn(lease.key().to_owned(), move || {
                    ctx.clone().work_once_connected(lease.clone(), work.clone())
                });
            }
            Ok(())
        });
    }

    /// Were work begun while the bus is away, it would fail again and again, and wait long when the bus is back.
    async fn work_once_connected<Fut>(self, lease: Lease, work: impl Fn(Lease) -> Fut) -> anyhow::Result<()>
    where
        Fut: Future<Output = anyhow::Result<()>>,
    {
        tokio::select! {
            biased;
            () = lease.over(&self.tasks) => return Ok(()),
            () = self.bus.connected() => {}
        }
        work(lease).await
    }
}

/// How a tenure ends: the work between two times of reading back what is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The lease is lost or fenced, or the process shuts down.
    Over,
    /// What was read is no longer what is there.
    ReadAgain,
}

/// A tenure that lasted so long is followed by the next one after a short wait, whatever happened before.
const STABLE_AFTER: Duration = Duration::from_secs(10);

impl Lease {
    /// One tenure after another, until one is over or fails. Should the reason for reading again stay, the waits between them grow.
    ///
    /// # Errors
    /// The tenure's.
    pub async fn tenures<F, Fut>(&self, tasks: &Tasks, tenure: F) -> anyhow::Result<()>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = anyhow::Result<End>>,
    {
        let mut waits = Backoff::new(Schedule::NEAR);
        loop {
            let began = self.clock.now();
            if tenure().await? == End::Over {
                return Ok(());
            }
            if self.clock.now() - began >= STABLE_AFTER {
                waits.reset();
            }
            let wait = waits.next_wait();
            info!(lease.key = %self.key, wait_ms = %wait.as_millis(), "what is there is not what was read; reading again");
            tokio::select! {
                biased;
                () = self.over(tasks) => return Ok(()),
                () = self.clock.sleep(wait) => {}
            }
        }
    }
}

/// What is known about keys that this process owns, by their place in the group, for those who answer questions about them. Cheap to clone.
#[derive(Debug)]
pub struct Owned<T>(Arc<Mutex<HashMap<usize, Held<T>>>>);

#[derive(Debug)]
struct Held<T> {
    lease: Lease,
    known: T,
}

/// For as long as this lives, what is known about a key can be asked for.
#[derive(Debug)]
pub struct Ownership<T> {
    owned: Owned<T>,
    index: usize,
    epoch: u64,
}

impl<T> Clone for Owned<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Owned<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Owned<T> {
    /// Notes what is known about the key of a lease. Work under a former lease of the key, which may end late, takes nothing from this one.
    #[must_use]
    pub fn hold(&self, lease: &Lease, known: T) -> Ownership<T> {
        let mut held = self.held();
        if held.get(&lease.index()).is_none_or(|held| held.lease.epoch() <= lease.epoch()) {
            held.insert(lease.index(), Held { lease: lease.clone(), known });
        }
        Ownership { owned: self.clone(), index: lease.index(), epoch: lease.epoch() }
    }

    /// An answer about a key, made under the epoch of its lease; none when this process may not speak for it. It counts only if the lease is
    /// valid after it was made: then no other owner had got further while it was made.
    pub fn answer<A>(&self, index: usize, make: impl FnOnce(&T, u64) -> Option<A>) -> Option<A> {
        let (lease, known) = self.held().get(&index).map(|held| (held.lease.clone(), held.known.clone()))?;
        let answer = make(&known, lease.epoch())?;
        lease.is_valid().then_some(answer)
    }
}

impl<T> Owned<T> {
    fn held(&self) -> MutexGuard<'_, HashMap<usize, Held<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Ownership<T> {
    fn drop(&mut self) {
        let mut held = self.owned.held();
        if held.get(&self.index).is_some_and(|held| held.lease.epoch() == self.epoch) {
            held.remove(&self.index);
        }
    }
}
