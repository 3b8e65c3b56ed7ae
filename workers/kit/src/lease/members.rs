//! Who else is there to share with. A member says so by renewing a key named for its node; whoever stops is no longer
//! counted. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::campaign::{Candidate, Record};

/// A member that has been silent for so many durations is swept off the bus.
const SWEPT_AFTER: u32 = 20;

/// The nodes that were ever seen, and when they last moved.
#[derive(Debug)]
pub(super) struct Members {
    me: Candidate,
    duration: Duration,
    seen: BTreeMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    /// Empty once it left.
    owner: String,
    revision: u64,
    since: Instant,
}

impl Members {
    pub fn new(me: Candidate, duration: Duration) -> Self {
        Self { me, duration, seen: BTreeMap::new() }
    }

    /// A node's key was written, or (without a record) deleted. A node that leaves writes itself without an owner.
    pub fn observe(&mut self, node: &str, revision: u64, record: Option<Record>, now: Instant) {
        let known = self.seen.get(node).map_or(0, |seen| seen.revision);
        match record {
            None => _ = self.seen.remove(node),
            Some(record) if revision > known => {
                let seen = Seen { owner: record.owner, revision, since: now };
                self.seen.insert(node.to_owned(), seen);
            }
            Some(_) => {}
        }
    }

    /// Whether the own presence has come back from the bus: then all that was there before has too.
    pub fn knows_itself(&self) -> bool {
        self.seen.get(&self.me.node).is_some_and(|seen| seen.owner == self.me.owner)
    }

    /// How many share, this one included. Owners of leases that have run out are dead, whatever their presence says: it
    /// may run out a moment later.
    pub fn count(&self, now: Instant, dead: &[&str]) -> usize {
        let alive = |seen: &Seen| {
            !seen.owner.is_empty()
                && !dead.contains(&seen.owner.as_str())
                && now.saturating_duration_since(seen.since) < self.duration
        };
        1 + self.seen.iter().filter(|(node, seen)| **node != self.me.node && alive(seen)).count()
    }

    /// Takes out the nodes that have been silent for long.
    pub fn sweep(&mut self, now: Instant) -> Vec<String> {
        let silent = self.duration * SWEPT_AFTER;
        let gone = |seen: &Seen| now.saturating_duration_since(seen.since) >= silent;
        let nodes = self.seen.iter().filter(|(node, seen)| **node != self.me.node && gone(seen));
        let nodes: Vec<String> = nodes.map(|(node, _)| node.clone()).collect();
        self.seen.retain(|node, _| !nodes.contains(node));
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(3);

    fn record(owner: &str) -> Option<Record> {
        Some(Record { owner: owner.into(), node: String::new(), epoch: 0, attempt: 0, duration_ms: 0 })
    }

    #[test]
    fn those_count_that_move_and_neither_left_nor_let_a_lease_run_out() {
        let now = Instant::now();
        let me = Candidate { owner: "me.1".into(), node: "me".into() };
        let mut members = Members::new(me, LASTS);
        members.observe("me", 1, record("me.0"), now);
        assert!(!members.knows_itself(), "a predecessor was taken for oneself");
        members.observe("me", 2, record("me.1"), now);
        for (revision, node) in [(3, "quiet"), (4, "left"), (5, "dead"), (6, "fine"), (7, "deleted")] {
            members.observe(node, revision, record(node), now);
        }
        assert!(members.knows_itself());
        assert_eq!(members.count(now, &[]), 6);
        let later = now + LASTS;
        members.observe("left", 8, record(""), later);
        members.observe("dead", 9, record("dead"), later);
        members.observe("fine", 10, record("fine"), later);
        members.observe("deleted", 11, None, later);
        assert_eq!(members.count(later, &["dead"]), 2);
        assert_eq!(members.sweep(now + LASTS * SWEPT_AFTER), ["quiet"]);
    }
}
