//! The life of every purge at one provider, decided purely: sent, sent again after a while (the rebound), looked at, and sent once more when readers
//! still get something old.
//!
//! The rebound is against fetches that were under way during the first purge: the edge keeps what they bring, and that may be from before the change.
//! A purge ends only after all of it; until then its message counts as not done, and whoever begins anew after a crash does it again.

mod answer;
mod calls;
mod life;
mod resume;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_schemas::cdn::{PurgeOutcome, Version};
use rustc_hash::FxHashMap;

use crate::batch::{Batch, Key, Queue};
use crate::budget::Budget;
use crate::health::{Health, Standing};
use crate::latest::Latest;
use crate::limits::Limits;
use crate::purge::{Purge, Request};
use crate::record::Record;
use crate::selector::{Kind, Selector};
use crate::url::EdgeUrl;

pub use answer::{Answer, Quota};
pub use life::{Look, Sight};
use resume::Resumed;

/// A moment, as a clock and as a calendar say it.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For waits.
    pub at: Instant,
    /// For what is written down: Unix milliseconds.
    pub ms: u64,
}

/// What is wanted of the life of a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// When URLs, tags and prefixes are purged again; never, only in tests that show why.
    pub rebound: Option<Duration>,
    /// The same for everything.
    pub rebound_all: Option<Duration>,
    /// Whether the edge is looked at.
    pub verify: bool,
    /// How often a purge is sent in all when readers still get something old, the rebound not counted.
    pub attempts: u32,
    /// URLs that may be looked at at once.
    pub looks_at_once: usize,
    /// Selectors and URLs of purges under way, past which no more messages are read: they wait on the stream.
    pub most_under_way: usize,
}

/// A call that is to be made.
#[derive(Debug, Clone)]
pub struct Call {
    /// Names it in [`Flow::answered`].
    pub id: u64,
    /// What is to be sent.
    pub batch: Arc<Batch>,
    /// What is to be written down first, under the batch's reference.
    pub record: Option<Record>,
}

/// How far a stream of requests is: what a successor needs to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// Every message up to this one was read.
    pub read: u64,
    /// Those of them that are not done, in order.
    pub open: Vec<u64>,
}

/// All purges of one provider.
#[derive(Debug)]
pub struct Flow {
    provider: String,
    limits: Limits,
    policy: Policy,
    read: u64,
    open: BTreeSet<Key>,
    /// Those that a former sender had not ended and that were not read again yet, in order.
    to_read_again: VecDeque<Key>,
    purges: FxHashMap<Key, Purge>,
    under_way: usize,
    queue: Queue,
    ready: VecDeque<Batch>,
    put_off: FxHashMap<u64, Batch>,
    calls: FxHashMap<u64, Arc<Batch>>,
    /// What is written down of calls that are to be made once only: their names, and for which purges they are.
    records: BTreeMap<String, Vec<Key>>,
    resumed: FxHashMap<Key, Resumed>,
    next_id: u64,
    looks: VecDeque<(Key, EdgeUrl, usize)>,
    looking: usize,
    /// Until when there is something new.
    new_until: Option<Instant>,
    latest: Latest,
    timers: BinaryHeap<Reverse<(Instant, u64, Timer)>>,
    standing: Standing,
    budget: Budget,
    ended: Vec<(Arc<Request>, PurgeOutcome)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Again(Key),
    Look(Key, EdgeUrl, usize),
    Ready(u64),
}

impl Flow {
    /// Nothing under way yet.
    #[must_use]
    pub fn new(provider: &str, limits: Limits, policy: Policy, position: Position) -> Self {
        Self {
            provider: provider.to_owned(),
            limits,
            policy,
            read: position.read,
            to_read_again: position.open.iter().copied().collect(),
            open: position.open.into_iter().collect(),
            purges: FxHashMap::default(),
            under_way: 0,
            queue: Queue::default(),
            ready: VecDeque::new(),
            put_off: FxHashMap::default(),
            calls: FxHashMap::default(),
            records: BTreeMap::new(),
            resumed: FxHashMap::default(),
            next_id: 0,
            looks: VecDeque::new(),
            looking: 0,
            new_until: None,
            latest: Latest::default(),
            timers: BinaryHeap::new(),
            standing: Standing::default(),
            budget: Budget::default(),
            ended: Vec::new(),
        }
    }

    /// Whether more may be read from the stream.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.under_way < self.policy.most_under_way
    }

    /// Whether a message is still to be done.
    #[must_use]
    pub fn wants(&self, key: Key) -> bool {
        key > self.read || self.open.contains(&key)
    }

    /// Notes what an event says that URLs serve, also one that is done already.
    pub fn learn(&mut self, key: Key, selectors: &[Selector], version: Option<&Arc<Version>>) {
        for selector in selectors {
            if let Selector::Url(url) = selector {
                self.latest.learn(key, url, version.cloned());
            }
        }
    }

    /// A message that asks for nothing here.
    pub fn pass(&mut self, key: Key) {
        self.arrived(key);
        self.read = self.read.max(key);
        self.open.remove(&key);
    }

    /// A message that is done by other means: it counts as not done until [`Flow::told`].
    pub fn set_aside(&mut self, key: Key) {
        self.arrived(key);
        self.read = self.read.max(key);
        self.open.insert(key);
    }

    /// A message that asks for a purge; one that was taken already stays as it is.
    pub fn take(&mut self, request: Request, now: Now) {
        let key = request.key;
        self.set_aside(key);
        if self.purges.contains_key(&key) {
            return;
        }
        self.under_way += weight(&request);
        self.purges.insert(key, Purge::new(request));
        let resumed = self.resumed.remove(&key);
        match (resumed, self.standing.health()) {
            (Some(resumed), _) => self.go_on(key, resumed, now),
            (None, Health::Refused(reason)) => self.give_up_if_asked(key, &reason.clone(), now),
            (None, _) => self.send(key, now),
        }
    }

    /// Does what has become due.
    pub fn pass_time(&mut self, now: Now) {
        while self.timers.peek().is_some_and(|Reverse((due, ..))| *due <= now.at) {
            let Some(Reverse((.., timer))) = self.timers.pop() else { return };
            match timer {
                Timer::Again(key) => self.send(key, now),
                Timer::Look(key, url, tries) if self.purges.contains_key(&key) => {
                    self.looks.push_back((key, url, tries))
                }
                Timer::Look(..) => {}
                Timer::Ready(id) => self.ready.extend(self.put_off.remove(&id)),
            }
        }
    }

    /// When something becomes due that was not due at this moment. What waits for an answer is not: it comes by itself.
    #[must_use]
    pub fn due(&self, now: Now) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((due, ..))| *due);
        let calls = self.ready.front().into_iter().map(|batch| (batch.kind, batch.items.len()));
        let calls = calls.chain(self.queue.waiting(&self.limits));
        let may = calls.filter_map(|(kind, items)| {
            let budget = self.rate(kind).and_then(|rate| self.budget.wait_until(&rate, items, now.at));
            self.standing.paused_until().max(budget)
        });
        timer.into_iter().chain(may.filter(|at| *at > now.at)).min()
    }

    /// What has ended since the last time. Say it, then [`Flow::told`].
    pub fn ended(&mut self) -> Vec<(Arc<Request>, PurgeOutcome)> {
        std::mem::take(&mut self.ended)
    }

    /// The end of these was said, durably: their messages are done.
    pub fn told(&mut self, keys: &[Key]) {
        keys.iter().for_each(|key| _ = self.open.remove(key));
    }

    /// How far it is.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { read: self.read, open: self.open.iter().copied().collect() }
    }

    /// What of the provider's limits is taken, so that a successor goes on with it: when each bucket is full again, Unix milliseconds.
    #[must_use]
    pub fn full_at_ms(&self, now: Now) -> Vec<u64> {
        self.budget.full_at_ms(now)
    }

    /// Goes on with what a former sender had taken of the provider's limits.
    pub fn go_on_within(&mut self, full_at_ms: &[u64], now: Now) {
        let rates = self.limits.kinds().filter_map(|limit| limit.rate);
        self.budget.go_on(full_at_ms, rates, now);
    }

    /// How the provider fares.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What may still be sent: as the provider said, else as its documentation says.
    #[must_use]
    pub fn quota_left(&self, now: Instant) -> Option<u64> {
        let kinds = [Kind::Url, Kind::Tag, Kind::Prefix, Kind::All].into_iter();
        let left = kinds.filter_map(|kind| Some(self.budget.left(&self.rate(kind)?, now)));
        self.standing.quota_left(now).or_else(|| left.min())
    }

    /// Selectors that wait to be sent.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let cut = self.ready.iter().chain(self.put_off.values());
        self.queue.len() + cut.map(|batch| batch.items.len()).sum::<usize>()
    }

    /// Purges under way.
    #[must_use]
    pub fn purges(&self) -> usize {
        self.purges.len()
    }
}

impl Flow {
    /// Messages come in their order: those before this one that did not come are on the stream no more, and would never be done.
    fn arrived(&mut self, key: Key) {
        while self.to_read_again.front().is_some_and(|open| *open <= key) {
            let Some(open) = self.to_read_again.pop_front() else { return };
            if open < key {
                self.open.remove(&open);
                self.resumed.remove(&open);
            }
        }
    }

    fn set(&mut self, due: Instant, timer: Timer) {
        let id = self.fresh_id();
        self.timers.push(Reverse((due, id, timer)));
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// What a purge takes of the room for purges under way.
fn weight(request: &Request) -> usize {
    1 + request.selectors.len() + request.checks.len()
}

#[cfg(test)]
mod tests;
