//! Who else is there to share with. Members say so by renewing a key; whoever stops is no longer counted. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::campaign::{Candidate, Record};

/// A member that has been silent for so many durations is swept off the bus.
const SWEPT_AFTER: u32 = 20;

/// The members that were ever seen, and when they last moved.
#[derive(Debug)]
pub(super) struct Members {
    me: Candidate,
    duration: Duration,
    seen: BTreeMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    node: String,
    revision: u64,
    since: Instant,
}

impl Members {
    pub fn new(me: Candidate, duration: Duration) -> Self {
        Self { me, duration, seen: BTreeMap::new() }
    }

    /// A member's key was written (or, without a record, deleted).
    pub fn observe(&mut self, owner: &str, revision: u64, record: Option<Record>, now: Instant) {
        let known = self.seen.get(owner).map_or(0, |seen| seen.revision);
        match record {
            None => _ = self.seen.remove(owner),
            Some(record) if revision > known => {
                _ = self.seen.insert(owner.to_owned(), Seen { node: record.node, revision, since: now });
            }
            Some(_) => {}
        }
    }

    /// Whether the own presence has come back from the bus: then all that was there before has too.
    pub fn knows_itself(&self) -> bool {
        self.seen.contains_key(&self.me.owner)
    }

    /// How many share, this one included. Owners of leases that have run out are dead, whatever their presence says: it
    /// may run out a moment later.
    pub fn count(&self, now: Instant, dead: &[&str]) -> usize {
        let others = self.seen.iter().filter(|(owner, seen)| {
            **owner != self.me.owner
                && seen.node != self.me.node
                && now.saturating_duration_since(seen.since) < self.duration
                && !dead.contains(&owner.as_str())
        });
        1 + others.count()
    }

    /// Takes out those that have been silent for long.
    pub fn sweep(&mut self, now: Instant) -> Vec<String> {
        let silent = self.duration * SWEPT_AFTER;
        let gone = |seen: &Seen| now.saturating_duration_since(seen.since) >= silent;
        let owners = self.seen.iter().filter(|(owner, seen)| **owner != self.me.owner && gone(seen));
        let owners: Vec<String> = owners.map(|(owner, _)| owner.clone()).collect();
        self.seen.retain(|owner, _| !owners.contains(owner));
        owners
    }
}
