//! The life of every purge at one provider, decided purely: sent, sent again after a while (the rebound), looked at, and sent once more when readers
//! still get something old.
//!
//! The rebound is against fetches that were under way during the first purge: the edge keeps what they bring, and that may be from before the change.
//! A purge ends only after all of it; until then its message counts as not done, and whoever begins anew after a crash does it again.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_schemas::cdn::{PurgeOutcome, Version};
use rustc_hash::FxHashMap;

use crate::batch::{Batch, Key, Queue};
use crate::budget::{Budget, Rate};
use crate::health::{Health, Standing};
use crate::latest::Latest;
use crate::limits::Limits;
use crate::purge::{Purge, Request};
use crate::selector::{Kind, Selector};
use crate::url::EdgeUrl;

/// Waits before a URL that shows something old is looked at again: softly purged copies are served once more, and large edges need a moment.
const LOOKS: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];
/// The part of looks at once that is left while something waits that was never sent.
const LOOKS_SHARE: usize = 8;
/// How long after a failed look at everything it is all purged again; twice as long each time.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

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
}

/// What a provider said to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done, under the provider's own name for the call.
    Done {
        /// That name.
        request_id: Option<String>,
        /// What else may be sent, if the provider says so.
        quota: Option<Quota>,
    },
    /// Not now.
    Retry {
        /// When, if the provider says so.
        after: Option<Duration>,
        /// Why not.
        reason: String,
    },
    /// Not now: it is well, and has too much in progress.
    Full(String),
    /// Not like this: something in it is wrong for the provider, or there is too much of it.
    Refused(String),
    /// Not with these credentials.
    Credentials(String),
}

/// What a provider says may still be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Calls.
    pub left: u64,
    /// When it is counted anew.
    pub resets_after: Duration,
}

impl Answer {
    /// It is done.
    #[must_use]
    pub fn done(request_id: Option<String>) -> Self {
        Self::Done { request_id, quota: None }
    }

    /// Why it is not done.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Done { .. } => None,
            Self::Retry { reason, .. }
            | Self::Full(reason)
            | Self::Refused(reason)
            | Self::Credentials(reason) => Some(reason),
        }
    }
}

/// A URL that is to be looked at.
#[derive(Debug, Clone)]
pub struct Look {
    /// Whose.
    pub purge: Key,
    /// What is fetched.
    pub url: EdgeUrl,
    /// What it has to be; none: whatever the origin says.
    pub expected: Option<Arc<Version>>,
    tries: usize,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// What it has to be.
    Fresh,
    /// Something else.
    Stale(String),
    /// Nothing that could be compared.
    Unverifiable(String),
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
    next_id: u64,
    looks: VecDeque<(Key, EdgeUrl, usize)>,
    looking: usize,
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
            next_id: 0,
            looks: VecDeque::new(),
            looking: 0,
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
        match self.standing.health() {
            Health::Refused(reason) => self.give_up_if_asked(key, &reason.clone(), now),
            _ => self.send(key, now),
        }
    }

    /// The next call to be made now.
    pub fn next_call(&mut self, now: Now) -> Option<Call> {
        if !self.standing.may_call(now.at, self.calls.len()) || self.calls.len() >= self.limits.calls_at_once
        {
            return None;
        }
        let mut batch = self.next_batch(now.at)?;
        let id = self.fresh_id();
        if batch.reference.is_empty() {
            batch.reference = format!("keelson-{}-{id}", now.ms);
        }
        let batch = Arc::new(batch);
        self.calls.insert(id, Arc::clone(&batch));
        Some(Call { id, batch })
    }

    /// What became of a call.
    pub fn answered(&mut self, call: u64, answer: Answer, now: Now) {
        let Some(batch) = self.calls.remove(&call) else { return };
        match answer {
            Answer::Done { request_id, quota } => {
                self.took(now);
                self.standing.has_left(quota, now.at);
                self.done(&batch, &request_id, now);
            }
            Answer::Retry { after, reason } => {
                let wait = self.standing.failed(batch.tries, after, reason, now);
                self.put_off(&batch, now.at + wait);
            }
            Answer::Full(_) => {
                self.took(now);
                let wait = self.standing.full(batch.tries, now.at);
                self.put_off(&batch, now.at + wait);
            }
            Answer::Credentials(reason) => {
                let wait = self.standing.refused(reason.clone(), now);
                self.put_off(&batch, now.at + wait);
                let asked: Vec<Key> = self.purges.keys().copied().collect();
                asked.into_iter().for_each(|key| self.give_up_if_asked(key, &reason, now));
            }
            Answer::Refused(reason) => {
                self.took(now);
                match Arc::unwrap_or_clone(batch).halves() {
                    Ok((first, second)) => self.ready.extend([first, second]),
                    Err(one) => self.refused(&one, &reason, now),
                }
            }
        }
    }

    /// The next URL to be looked at now.
    pub fn next_look(&mut self) -> Option<Look> {
        // While there is something to purge, looks take a part of the machine only.
        let share = if self.queue.has_first() { LOOKS_SHARE } else { 1 };
        if self.looking >= self.policy.looks_at_once.div_ceil(share) {
            return None;
        }
        let (purge, url, tries) = self.looks.pop_front()?;
        self.looking += 1;
        Some(Look { purge, expected: self.latest.expected(&url), url, tries })
    }

    /// What a look saw.
    pub fn looked(&mut self, look: Look, sight: Sight, now: Now) {
        self.looking -= 1;
        let Look { purge: key, url, tries, .. } = look;
        if let (false, Some(wait)) = (sight == Sight::Fresh, LOOKS.get(tries)) {
            return self.set(now.at + *wait, Timer::Look(key, url, tries + 1));
        }
        let Some(purge) = self.purges.get_mut(&key) else { return };
        match sight {
            Sight::Fresh => {}
            Sight::Stale(reason) => _ = purge.stale.get_or_insert(reason),
            Sight::Unverifiable(reason) => _ = purge.unseen.get_or_insert(reason),
        }
        purge.looking -= 1;
        if purge.looking == 0 {
            self.seen(key, now);
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
            }
        }
    }

    /// The next call that the budget has room for: what was tried before goes first.
    fn next_batch(&mut self, now: Instant) -> Option<Batch> {
        let (limits, budget) = (self.limits, &self.budget);
        let may = |kind: Kind, items: usize| {
            let rate = limits.of(kind).and_then(|limit| limit.rate);
            rate.is_none_or(|rate| budget.wait_until(&rate, items, now).is_none())
        };
        let tried = self.ready.iter().position(|batch| may(batch.kind, batch.items.len()));
        let batch = match tried {
            Some(place) => self.ready.remove(place),
            None => self.queue.cut_where(&limits, may),
        }?;
        if let Some(rate) = self.rate(batch.kind) {
            self.budget.take(&rate, batch.items.len(), now);
        }
        Some(batch)
    }

    fn rate(&self, kind: Kind) -> Option<Rate> {
        self.limits.of(kind)?.rate
    }

    /// Sends all of a purge, once more if it was sent before.
    fn send(&mut self, key: Key, now: Now) {
        let Some(purge) = self.purges.get_mut(&key) else { return };
        purge.rounds += 1;
        purge.open = purge.request.selectors.len();
        if purge.open == 0 {
            return self.end(key, now);
        }
        let (request, again) = (Arc::clone(&purge.request), purge.rounds > 1);
        for selector in &request.selectors {
            let soft = request.soft && self.limits.of(selector.kind()).is_some_and(|limit| limit.soft);
            self.queue.add(selector, soft, again, key);
        }
    }

    /// The provider takes calls. If it did not before, nothing waits any longer.
    fn took(&mut self, now: Now) {
        if self.standing.succeeded(now.ms) {
            let mut put_off: Vec<(u64, Batch)> = self.put_off.drain().collect();
            put_off.sort_unstable_by_key(|(id, _)| *id);
            self.ready.extend(put_off.into_iter().map(|(_, batch)| batch));
        }
    }

    fn done(&mut self, batch: &Batch, request_id: &Option<String>, now: Now) {
        for key in batch.items.iter().flat_map(|item| &item.purges) {
            if let Some(purge) = self.purges.get_mut(key) {
                purge.called(request_id);
                self.acknowledged(*key, now);
            }
        }
    }

    /// One selector cannot be purged; the others of its purges still can.
    fn refused(&mut self, batch: &Batch, reason: &str, now: Now) {
        for item in &batch.items {
            for key in &item.purges {
                if let Some(purge) = self.purges.get_mut(key) {
                    purge.refused.get_or_insert_with(|| format!("{} is refused: {reason}", item.selector));
                    self.acknowledged(*key, now);
                }
            }
        }
    }

    fn acknowledged(&mut self, key: Key, now: Now) {
        let Some(purge) = self.purges.get_mut(&key) else { return };
        purge.open = purge.open.saturating_sub(1);
        if purge.open > 0 {
            return;
        }
        if purge.rounds > 1 {
            return self.look(key, now);
        }
        purge.acknowledged_after_ms = Some(now.ms.saturating_sub(purge.request.caused_at_ms));
        let rebound = if purge.has_all() { self.policy.rebound_all } else { self.policy.rebound };
        match rebound {
            Some(rebound) => self.set(now.at + rebound, Timer::Again(key)),
            None => self.look(key, now),
        }
    }

    fn look(&mut self, key: Key, now: Now) {
        let Some(purge) = self.purges.get_mut(&key) else { return };
        if !self.policy.verify {
            purge.unseen.get_or_insert_with(|| "verification is switched off".to_owned());
            return self.end(key, now);
        }
        purge.looking = purge.request.checks.len();
        if purge.looking == 0 {
            purge.unseen.get_or_insert_with(|| "no URL is known to look at".to_owned());
            return self.end(key, now);
        }
        self.looks.extend(purge.request.checks.iter().map(|url| (key, url.clone(), 0)));
    }

    /// All was looked at.
    fn seen(&mut self, key: Key, now: Now) {
        let Some(purge) = self.purges.get_mut(&key) else { return };
        let sent = purge.rounds.saturating_sub(u32::from(self.policy.rebound.is_some()));
        if purge.stale.is_none() || sent >= self.policy.attempts {
            return self.end(key, now);
        }
        purge.stale = None;
        purge.unseen.clone_from(&purge.request.unseen);
        let wait = AGAIN_AFTER * 2_u32.saturating_pow(sent.saturating_sub(1).min(6));
        self.set(now.at + wait, Timer::Again(key));
    }

    fn end(&mut self, key: Key, now: Now) {
        let Some(purge) = self.purges.remove(&key) else { return };
        self.under_way -= weight(&purge.request);
        self.ended.push((Arc::clone(&purge.request), purge.outcome(&self.provider, now.ms)));
    }

    /// Somebody waits for the outcome of a command, and gets it. What events ask for waits until the provider takes it.
    fn give_up_if_asked(&mut self, key: Key, reason: &str, now: Now) {
        let Some(purge) = self.purges.get_mut(&key) else { return };
        if purge.request.operation.is_some() {
            purge.refused = Some(reason.to_owned());
            self.end(key, now);
        } else if purge.rounds == 0 {
            self.send(key, now);
        }
    }

    fn put_off(&mut self, batch: &Batch, until: Instant) {
        let id = self.fresh_id();
        self.put_off.insert(id, Batch { tries: batch.tries + 1, ..batch.clone() });
        self.set(until, Timer::Ready(id));
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
