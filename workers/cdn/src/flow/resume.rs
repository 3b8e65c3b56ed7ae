//! Calls that a former sender wrote down: they are made again under their names, and stand for the purges that they were for.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::{Flow, Now, Position};
use crate::batch::{Batch, Item, Key};
use crate::record::{Record, Recorded};
use crate::selector::Selector;

/// What was written down of a purge whose message was not read again yet.
#[derive(Debug, Default)]
pub(super) struct Resumed {
    /// Which time it is sent.
    round: u32,
    /// What of it is in calls of that round, and whether they are done.
    sent: FxHashMap<Selector, bool>,
    refused: Option<String>,
    request_ids: Vec<String>,
}

impl Resumed {
    pub(super) fn done(&mut self, selector: &Selector, request_id: &Option<String>) {
        self.sent.insert(selector.clone(), true);
        self.request_ids.extend(request_id.clone().filter(|id| self.request_ids.last() != Some(id)));
    }

    pub(super) fn refused(&mut self, selector: &Selector, reason: String) {
        self.sent.insert(selector.clone(), true);
        self.refused.get_or_insert(reason);
    }
}

impl Flow {
    /// Takes over calls that were written down, the oldest first, before any message is taken. They are made before anything else.
    pub fn resume(&mut self, calls: Vec<(String, Recorded)>) {
        let cut = cut(&calls);
        for (_, call) in calls.iter().filter(|(reference, _)| !cut.contains(reference)) {
            for (key, round) in call.items.iter().flat_map(|(_, purges)| purges) {
                if self.wants(*key) {
                    let resumed = self.resumed.entry(*key).or_default();
                    resumed.round = resumed.round.max(*round);
                }
            }
        }
        for (reference, call) in calls {
            let keys = call.items.iter().flat_map(|(_, purges)| purges).map(|(key, _)| *key);
            self.records.insert(reference.clone(), keys.collect());
            if !cut.contains(&reference) {
                self.resume_one(reference, call);
            }
        }
    }

    /// A call of which no purge needs anything any more is not made again.
    fn resume_one(&mut self, reference: String, call: Recorded) {
        let mut items = Vec::with_capacity(call.items.len());
        for (selector, purges) in call.items {
            let mut still = Vec::new();
            for (key, round) in purges {
                if let Some(resumed) = self.resumed.get_mut(&key).filter(|resumed| resumed.round == round) {
                    resumed.sent.insert(selector.clone(), false);
                    still.push(key);
                }
            }
            items.push(Item { selector, purges: still });
        }
        if items.iter().any(|item| !item.purges.is_empty()) {
            self.ready.push_back(Batch { reference, ..Batch::new(call.kind, call.soft, items) });
        }
    }

    /// Goes on with a purge where the former sender was: what is in its calls is not sent anew.
    pub(super) fn go_on(&mut self, key: Key, resumed: Resumed, now: Now) {
        let Some(purge) = self.purges.get_mut(&key) else { return };
        purge.rounds = resumed.round;
        purge.refused = purge.refused.take().or(resumed.refused);
        resumed.request_ids.into_iter().for_each(|id| purge.called(&Some(id)));
        purge.open = resumed.sent.values().filter(|done| !**done).count();
        self.enqueue(key, |selector| !resumed.sent.contains_key(selector));
        self.if_round_is_over(key, now);
    }

    /// What is to be written down before this call is made; nothing when that is done, or need not be.
    pub(super) fn record(&mut self, batch: &Batch) -> Option<Record> {
        if !self.limits.once || self.records.contains_key(&batch.reference) {
            return None;
        }
        let keys = batch.items.iter().flat_map(|item| item.purges.iter().copied());
        self.records.insert(batch.reference.clone(), keys.collect());
        Some(Record::of(batch, |key| self.purges.get(&key).map_or(0, |purge| purge.rounds)))
    }

    /// Calls that nobody needs to know of any more: all their purges have ended, as far as it is kept.
    pub fn forget(&mut self, kept: &Position) -> Vec<String> {
        let is_over = |key: &Key| *key <= kept.read && kept.open.binary_search(key).is_err();
        let over = self.records.iter().filter(|(_, keys)| keys.iter().all(is_over));
        let over: Vec<String> = over.map(|(reference, _)| reference.clone()).collect();
        over.iter().for_each(|reference| _ = self.records.remove(reference));
        over
    }
}

/// Calls that were refused and are made in parts, one of which at least was written down: the parts have their name with an `a` or `b` more.
fn cut(calls: &[(String, Recorded)]) -> BTreeSet<String> {
    let mut cut = BTreeSet::new();
    for (reference, _) in calls {
        let mut part = reference.as_str();
        while let Some(whole) = part.strip_suffix(['a', 'b']) {
            cut.insert(whole.to_owned());
            part = whole;
        }
    }
    cut
}
