//! The steps of one purge: sent, sent again, looked at, ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_schemas::cdn::Version;

use super::{Flow, Now, Timer, weight};
use crate::batch::Key;
use crate::selector::Selector;
use crate::url::EdgeUrl;

/// Waits before a URL that shows something old is looked at again: softly purged copies are served once more, and large edges need a moment.
const LOOKS: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];
/// The part of looks at once that is left while there is something new.
const LOOKS_SHARE: usize = 8;
/// How long after a purge was sent for the first time more of them are to be expected.
const NEW_FOR: Duration = Duration::from_secs(1);
/// How long after a failed look at everything it is all purged again; twice as long each time.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A URL that is to be looked at.
#[derive(Debug, Clone)]
pub struct Look {
    /// Whose.
    pub purge: Key,
    /// What is fetched.
    pub url: EdgeUrl,
    /// What it has to be; none: whatever the origin says.
    pub expected: Option<Arc<Version>>,
    pub(super) tries: usize,
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

impl Flow {
    /// Sends all of a purge, once more if it was sent before.
    pub(super) fn send(&mut self, key: Key, now: Now) {
        let Some(purge) = self.purges.get_mut(&key) else { return };
        purge.rounds += 1;
        if purge.rounds == 1 {
            self.new_until = Some(now.at + NEW_FOR);
        }
        if purge.request.selectors.is_empty() {
            return self.end(key, now);
        }
        self.enqueue(key, |_| true);
    }

    /// Lets those selectors of a purge wait that are among `which`.
    pub(super) fn enqueue(&mut self, key: Key, which: impl Fn(&Selector) -> bool) {
        let Some(purge) = self.purges.get_mut(&key) else { return };
        let (request, again) = (Arc::clone(&purge.request), purge.rounds > 1);
        for selector in request.selectors.iter().filter(|selector| which(selector)) {
            purge.open += 1;
            let soft = request.soft && self.limits.of(selector.kind()).is_some_and(|limit| limit.soft);
            self.queue.add(selector, soft, again, key);
        }
    }

    pub(super) fn acknowledged(&mut self, key: Key, now: Now) {
        let Some(purge) = self.purges.get_mut(&key) else { return };
        purge.open = purge.open.saturating_sub(1);
        self.if_round_is_over(key, now);
    }

    /// What follows once all of a round is acknowledged.
    pub(super) fn if_round_is_over(&mut self, key: Key, now: Now) {
        let Some(purge) = self.purges.get_mut(&key).filter(|purge| purge.open == 0) else { return };
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

    /// Whether purges come in that were never sent. Rebounds and looks then take a part of the machine only, so that these do not wait for them; a
    /// queue that is empty at the moment says nothing of that.
    pub(super) fn has_new(&self, now: Instant) -> bool {
        self.new_until.is_some_and(|until| now < until)
    }

    /// The next URL to be looked at now.
    pub fn next_look(&mut self, now: Now) -> Option<Look> {
        let share = if self.has_new(now.at) { LOOKS_SHARE } else { 1 };
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
    pub(super) fn give_up_if_asked(&mut self, key: Key, reason: &str, now: Now) {
        let Some(purge) = self.purges.get_mut(&key) else { return };
        if purge.request.operation.is_some() {
            purge.refused = Some(reason.to_owned());
            self.end(key, now);
        } else if purge.rounds == 0 {
            self.send(key, now);
        }
    }
}
