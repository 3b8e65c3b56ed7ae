//! Calls: which is made next, and what follows from what the provider said to it.

use std::sync::Arc;
use std::time::Instant;

use super::{Answer, Call, Flow, Now, Timer};
use crate::batch::{Batch, Key};
use crate::budget::Rate;
use crate::selector::Kind;

impl Flow {
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
        let record = self.record(&batch);
        let batch = Arc::new(batch);
        self.calls.insert(id, Arc::clone(&batch));
        Some(Call { id, batch, record })
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

    /// The next call that the budget has room for: what was tried before goes first.
    fn next_batch(&mut self, now: Instant) -> Option<Batch> {
        let (limits, budget) = (self.limits, &self.budget);
        let again = self.calls.values().filter(|batch| batch.again).count();
        let room_again = again < limits.again_at_once || !self.has_new(now);
        let may = |kind: Kind, items: usize, again: bool| {
            let rate = limits.of(kind).and_then(|limit| limit.rate);
            (room_again || !again) && rate.is_none_or(|rate| budget.wait_until(&rate, items, now).is_none())
        };
        let tried = self.ready.iter().position(|batch| may(batch.kind, batch.items.len(), batch.again));
        let batch = match tried {
            Some(place) => self.ready.remove(place),
            None => self.queue.cut_where(&limits, may),
        }?;
        if let Some(rate) = self.rate(batch.kind) {
            self.budget.take(&rate, batch.items.len(), now);
        }
        Some(batch)
    }

    pub(super) fn rate(&self, kind: Kind) -> Option<Rate> {
        self.limits.of(kind)?.rate
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
        for item in &batch.items {
            for key in &item.purges {
                if let Some(purge) = self.purges.get_mut(key) {
                    purge.called(request_id);
                    self.acknowledged(*key, now);
                } else if let Some(resumed) = self.resumed.get_mut(key) {
                    resumed.done(&item.selector, request_id);
                }
            }
        }
    }

    /// One selector cannot be purged; the others of its purges still can.
    fn refused(&mut self, batch: &Batch, reason: &str, now: Now) {
        for item in &batch.items {
            let reason = || format!("{} is refused: {reason}", item.selector);
            for key in &item.purges {
                if let Some(purge) = self.purges.get_mut(key) {
                    purge.refused.get_or_insert_with(reason);
                    self.acknowledged(*key, now);
                } else if let Some(resumed) = self.resumed.get_mut(key) {
                    resumed.refused(&item.selector, reason());
                }
            }
        }
    }

    fn put_off(&mut self, batch: &Batch, until: Instant) {
        let id = self.fresh_id();
        self.put_off.insert(id, Batch { tries: batch.tries + 1, ..batch.clone() });
        self.set(until, Timer::Ready(id));
    }
}
