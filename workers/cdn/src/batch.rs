//! What waits to be sent, and how it is cut into calls.
//!
//! The same selector asked for twice is sent once, but only as long as it waits: a call that was cut stands for nobody who comes later, since
//! the provider may have purged already when their content changed.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::limits::Limits;
use crate::selector::{Kind, Selector};

/// Which purge: the sequence of the message that caused it.
pub type Key = u64;

/// Kinds, each soft and hard, are never in one call; and what is sent for the first time goes before what is sent again.
const LANES: usize = 16;
const FIRST_LANES: usize = LANES / 2;

/// A selector and all purges that wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What is purged.
    pub selector: Selector,
    /// For whom.
    pub purges: Vec<Key>,
}

/// What goes to a provider in one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Of what kind all of it is.
    pub kind: Kind,
    /// Whether all of it is purged softly.
    pub soft: bool,
    /// Whether all of it was sent before: what was not goes first.
    pub again: bool,
    /// At least one.
    pub items: Vec<Item>,
    /// How often it was tried already.
    pub tries: u32,
    /// Names it at the provider, the same each time that it is tried; empty before it is sent.
    pub reference: String,
}

/// Selectors that wait: those sent for the first time before those sent again, the oldest first. Rebounds so give way when there is much to do; that they
/// come at all is seen to by the bound on purges under way.
#[derive(Debug, Default)]
pub struct Queue {
    lanes: [Lane; LANES],
    added: u64,
}

#[derive(Debug, Default)]
struct Lane {
    order: VecDeque<(u64, Selector)>,
    waiting: FxHashMap<Selector, Vec<Key>>,
}

impl Queue {
    /// Adds a selector for a purge, or the purge to those that wait for it.
    pub fn add(&mut self, selector: &Selector, soft: bool, again: bool, purge: Key) {
        self.added += 1;
        let lane = &mut self.lanes[place(selector.kind(), soft) + if again { FIRST_LANES } else { 0 }];
        if let Some(purges) = lane.waiting.get_mut(selector) {
            return purges.push(purge);
        }
        lane.waiting.insert(selector.clone(), vec![purge]);
        lane.order.push_back((self.added, selector.clone()));
    }

    /// How many selectors wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.order.len()).sum()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next call, from the lane whose first has waited longest, as large as the limits allow.
    pub fn cut(&mut self, limits: &Limits) -> Option<Batch> {
        self.cut_where(limits, |_, _, _| true)
    }

    /// The same of those of which a call may be made: of this kind, with so many items, which are sent again or for the first time.
    pub fn cut_where(&mut self, limits: &Limits, may: impl Fn(Kind, usize, bool) -> bool) -> Option<Batch> {
        let waiting = self
            .calls(limits)
            .filter(|(_, place, items)| may(named(*place % FIRST_LANES).0, *items, *place >= FIRST_LANES));
        let (_, place, _) = waiting.min_by_key(|(added, place, _)| (*place >= FIRST_LANES, *added))?;
        let (kind, soft) = named(place % FIRST_LANES);
        let (most_items, most_bytes) =
            limits.of(kind).map_or((1, usize::MAX), |limit| (limit.items, limit.bytes));
        let lane = &mut self.lanes[place];
        let (mut items, mut bytes) = (Vec::new(), 0_usize);
        while let Some((_, selector)) = lane.order.front() {
            bytes = bytes.saturating_add(selector.text().len() + 1);
            if !items.is_empty() && (items.len() >= most_items || bytes > most_bytes) {
                break;
            }
            let Some((_, selector)) = lane.order.pop_front() else { break };
            let purges = lane.waiting.remove(&selector).unwrap_or_default();
            items.push(Item { selector, purges });
        }
        Some(Batch { again: place >= FIRST_LANES, ..Batch::new(kind, soft, items) })
    }

    /// The kinds that wait, each with the most items that its next call has.
    pub fn waiting<'a>(&'a self, limits: &'a Limits) -> impl Iterator<Item = (Kind, usize)> + 'a {
        self.calls(limits).map(|(_, place, items)| (named(place % FIRST_LANES).0, items))
    }

    /// Of every lane that is not empty: since when its first waits, its place, and the most items of its next call.
    fn calls<'a>(&'a self, limits: &'a Limits) -> impl Iterator<Item = (u64, usize, usize)> + 'a {
        self.lanes.iter().enumerate().filter_map(|(place, lane)| {
            let most = limits.of(named(place % FIRST_LANES).0).map_or(1, |limit| limit.items);
            Some((lane.order.front()?.0, place, lane.order.len().min(most)))
        })
    }
}

impl Batch {
    /// Of selectors that are sent for the first time, and not tried yet.
    #[must_use]
    pub fn new(kind: Kind, soft: bool, items: Vec<Item>) -> Self {
        Self { kind, soft, again: false, items, tries: 0, reference: String::new() }
    }

    /// Two calls in its place.
    ///
    /// # Errors
    /// Itself, when it has only one selector.
    pub fn halves(mut self) -> Result<(Self, Self), Self> {
        if self.items.len() < 2 {
            return Err(self);
        }
        let second = self.items.split_off(self.items.len() / 2);
        let second = Self { items: second, reference: format!("{}b", self.reference), ..self.clone() };
        self.reference.push('a');
        Ok((self, second))
    }
}

fn place(kind: Kind, soft: bool) -> usize {
    let kind = match kind {
        Kind::Url => 0,
        Kind::Tag => 1,
        Kind::Prefix => 2,
        Kind::All => 3,
    };
    2 * kind + usize::from(soft)
}

fn named(place: usize) -> (Kind, bool) {
    let kind = match place / 2 {
        0 => Kind::Url,
        1 => Kind::Tag,
        2 => Kind::Prefix,
        _ => Kind::All,
    };
    (kind, place % 2 == 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{PerCall, VARNISH};

    fn tag(name: usize) -> Selector {
        Selector::Tag(format!("tag:{name}").into())
    }

    fn taking(items: usize, bytes: usize) -> Limits {
        Limits { tag: Some(PerCall { items, bytes, soft: true, rate: None }), ..VARNISH }
    }

    #[test]
    fn lanes_have_names() {
        for kind in [Kind::Url, Kind::Tag, Kind::Prefix, Kind::All] {
            for soft in [false, true] {
                assert_eq!(named(place(kind, soft)), (kind, soft));
            }
        }
    }

    #[test]
    fn what_waits_is_sent_once_for_all_and_what_was_cut_is_not_added_to() {
        let mut queue = Queue::default();
        queue.add(&tag(1), false, false, 1);
        queue.add(&tag(1), true, false, 2);
        queue.add(&tag(1), false, false, 3);
        let first = queue.cut(&VARNISH).unwrap();
        queue.add(&tag(1), false, false, 4);
        assert_eq!(first.items, [Item { selector: tag(1), purges: vec![1, 3] }]);
        let (second, third) = (queue.cut(&VARNISH).unwrap(), queue.cut(&VARNISH).unwrap());
        assert_eq!((second.soft, &second.items[0].purges[..]), (true, &[2][..]));
        assert_eq!((third.soft, &third.items[0].purges[..]), (false, &[4][..]));
        assert_eq!(queue.cut(&VARNISH), None);
    }

    #[test]
    fn what_was_never_sent_goes_first() {
        let mut queue = Queue::default();
        queue.add(&tag(1), false, true, 1);
        queue.add(&tag(2), false, false, 2);
        let order: Vec<Key> =
            std::iter::from_fn(|| queue.cut(&taking(1, 100))).map(|batch| batch.items[0].purges[0]).collect();
        assert_eq!(order, [2, 1]);
    }

    #[test]
    fn halves_have_all_of_it() {
        let mut queue = Queue::default();
        (0..5).for_each(|n| queue.add(&tag(n), false, false, n as u64));
        let (first, second) = queue.cut(&VARNISH).unwrap().halves().unwrap();
        assert_eq!((first.items.len(), second.items.len()), (2, 3));
        let mut one = second;
        while let Ok((_, rest)) = one.clone().halves() {
            one = rest;
        }
        assert_eq!(one.items, [Item { selector: tag(4), purges: vec![4] }]);
    }

    proptest! {
        #[test]
        fn every_purge_is_in_exactly_one_call_and_no_call_is_over_a_limit(
            adds in proptest::collection::vec((0..40_usize, any::<bool>(), 0..20_u8), 1..200),
            items in 1..7_usize,
            bytes in 1..60_usize,
        ) {
            let limits = taking(items, bytes);
            let mut queue = Queue::default();
            let mut sent: Vec<(Selector, bool, Key)> = Vec::new();
            let mut cut = |queue: &mut Queue| -> Result<(), TestCaseError> {
                let Some(batch) = queue.cut(&limits) else { return Ok(()) };
                let length: usize = batch.items.iter().map(|item| item.selector.text().len() + 1).sum();
                prop_assert!(batch.items.len() <= items && (batch.items.len() == 1 || length <= bytes));
                for item in batch.items {
                    sent.extend(item.purges.iter().map(|purge| (item.selector.clone(), batch.soft, *purge)));
                }
                Ok(())
            };
            for (purge, (name, soft, cuts)) in adds.iter().enumerate() {
                queue.add(&tag(*name), *soft, purge % 3 == 0, purge as u64);
                if *cuts == 0 {
                    cut(&mut queue)?;
                }
            }
            while !queue.is_empty() {
                cut(&mut queue)?;
            }
            sent.sort_by_key(|(_, _, purge)| *purge);
            let added: Vec<_> = adds.iter().enumerate().map(|(purge, (name, soft, _))| (tag(*name), *soft, purge as u64)).collect();
            prop_assert_eq!(sent, added);
        }
    }
}
