//! A rule at work: what it looks at, in groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use keelson_schemas::alerting::{self, Alert, AlertState, Labels};
use keelson_schemas::limits::OVERFLOW;
use keelson_schemas::slice::Cell;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Change;
use super::clock::{Clocks, MAX_LAG_S};
use super::group::{self, Group};
use super::lifecycle::Next;
use super::pace::Pace;
use super::series::{Counted, Labelled};
use crate::rules::Rule;
use crate::signal::SERVICE;

/// Groups of one rule; what is past them is looked at as one.
pub(super) const MAX_GROUPS: usize = 1_000;
/// Things past the bound that are told apart in order to count them.
const MAX_FOLDED: usize = 10_000;

/// The values of the labels in a rule's `by`.
type Key = Vec<String>;

/// A rule at work.
#[derive(Debug)]
pub(super) struct Watch {
    pub rule: Arc<Rule>,
    most_groups: usize,
    groups: Vec<Group>,
    by_key: FxHashMap<Key, usize>,
    /// What has no group of its own.
    folded: FxHashSet<Key>,
    /// What the series are to it, by their numbers; none while that is not worked out.
    places: Vec<Option<Place>>,
    /// Whether it looks at a service, by its number.
    looks_at: Vec<bool>,
    /// The second as of which all groups were looked at last, and the one at which room was made.
    looked_s: u64,
    swept_s: u64,
    /// The earliest time at which an alert changes by itself.
    due_ms: Option<u64>,
}

/// What something is to a rule.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Filtered out.
    Outside,
    /// In this group.
    In(usize),
    /// In this group, together with all that has none of its own.
    Folded(usize),
}

impl Place {
    fn group(self) -> Option<usize> {
        match self {
            Self::Outside => None,
            Self::In(group) | Self::Folded(group) => Some(group),
        }
    }
}

impl Watch {
    /// One that looks at so many groups at most, beside that of all others.
    pub fn new(rule: Arc<Rule>, most_groups: usize) -> Self {
        Self {
            rule,
            most_groups,
            groups: Vec::new(),
            by_key: FxHashMap::default(),
            folded: FxHashSet::default(),
            places: Vec::new(),
            looks_at: Vec::new(),
            looked_s: 0,
            swept_s: 0,
            due_ms: None,
        }
    }

    /// Counts cells of the series with this number.
    pub fn count<'a>(
        &mut self,
        (number, series): (usize, &dyn Counted),
        cells: impl Iterator<Item = &'a Cell>,
        clocks: &mut Clocks,
    ) {
        let begin_s = self.begin_s(clocks);
        for cell in cells.filter(|cell| cell.second >= begin_s) {
            let Some(group) = self.place(number, series, clocks) else { return };
            self.groups[group].count(cell, series.marked(cell));
        }
    }

    /// Notes a value that `thing` had in a second; `about` tells apart what the rule does not.
    pub fn read(
        &mut self,
        thing: &dyn Labelled,
        about: &Labels,
        (second, value): (u64, f64),
        clocks: &mut Clocks,
    ) {
        if second < self.begin_s(clocks) || !value.is_finite() {
            return;
        }
        if let Some(group) = self.place_of(thing, clocks).group() {
            self.groups[group].read(second, about, value);
        }
    }

    /// Lets all windows move on.
    pub fn advance(&mut self, clocks: &Clocks) {
        self.meet(clocks);
        let pace = Pace::of(self.rule.signal.source, &self.looks_at, clocks);
        for group in &mut self.groups {
            group.advance(pace.moment(group.service));
            group.is_touched = true;
        }
    }

    /// What is to change. All groups are looked at once a second, when an alert is due, and otherwise those that something happened to.
    pub fn evaluate(&mut self, clocks: &Clocks) -> Vec<Change> {
        self.meet(clocks);
        let (pace, now_ms) = (Pace::of(self.rule.signal.source, &self.looks_at, clocks), clocks.now_ms());
        let is_new_second = std::mem::replace(&mut self.looked_s, clocks.now_s()) != clocks.now_s();
        let all = is_new_second || self.due_ms.is_some_and(|due_ms| due_ms <= now_ms);
        if all {
            self.due_ms = None;
        }
        let mut changes = Vec::new();
        let is_concerned = |group: &Group| all || group.is_touched || pace.has_moved(group.service);
        for group in self.groups.iter_mut().filter(|group| is_concerned(group)) {
            let (next, change) = group.evaluate(&self.rule, pace.moment(group.service), now_ms);
            // Until the change is made, it is said again.
            group.is_touched = change.is_some();
            changes.extend(change);
            if let Next::Until(due_ms) = next {
                self.due_ms = earlier(self.due_ms, due_ms);
            }
        }
        changes
    }

    /// Takes in an alert if it is one of this rule's.
    pub fn apply(&mut self, alert: &Alert, clocks: &mut Clocks) -> bool {
        let Some(key) = self.key_of(alert) else { return false };
        let group = self.by_key.get(&key).copied().unwrap_or_else(|| self.add(key, clocks));
        self.groups[group].apply(alert);
        if alert.state == AlertState::Pending {
            self.due_ms = earlier(self.due_ms, alert.active_at_ms + self.rule.hold_ms);
        }
        true
    }

    /// What is pending or fires.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.groups.iter().filter_map(|group| group.alert.as_ref())
    }

    /// Since when the conditions of alerts do not hold any more, though they fire, by fingerprint.
    pub fn ceased(&self) -> impl Iterator<Item = (&String, u64)> {
        self.groups.iter().filter_map(Group::ceased)
    }

    /// Takes it that the conditions of alerts have not held since these times.
    pub fn cease(&mut self, ceased_at_ms: &BTreeMap<String, u64>) {
        for group in &mut self.groups {
            let at_ms = group.alert.as_ref().and_then(|alert| ceased_at_ms.get(&alert.fingerprint));
            at_ms.into_iter().for_each(|at_ms| group.cease(*at_ms));
        }
    }

    /// How it is doing.
    pub fn status(&self) -> alerting::Rule {
        let any = |state| self.groups.iter().any(|group| group.state() == state);
        let states = [AlertState::Firing, AlertState::Pending];
        alerting::Rule {
            name: self.rule.name.clone(),
            source: self.rule.source.clone(),
            condition: self.rule.to_string(),
            state: states.into_iter().find(|state| any(*state)).unwrap_or(AlertState::Inactive),
            series: self.groups.iter().filter(|group| !group.is_idle()).count() as u64,
            overflow: self.folded.len() as u64,
        }
    }

    /// About how many bytes it keeps.
    pub fn bytes(&self) -> usize {
        self.groups.iter().map(Group::bytes).sum()
    }

    /// When something may change by itself, in Unix milliseconds; perhaps in the past.
    pub fn next_due(&self, clocks: &Clocks) -> Option<u64> {
        let pace = Pace::of(self.rule.signal.source, &self.looks_at, clocks);
        let of_group = |group: &Group| {
            let next = group.next();
            let leaves_s = next.leaves_s.map(|end_s| end_s + pace.moment(group.service).lag_s);
            next.comes_s.into_iter().chain(leaves_s).min()
        };
        let contents = self.groups.iter().filter_map(of_group).map(|second| second * 1000);
        contents.chain(self.due_ms).min()
    }

    /// The first second that can still be within a window.
    fn begin_s(&self, clocks: &Clocks) -> u64 {
        (clocks.now_s() + 1).saturating_sub(self.rule.window_s + MAX_LAG_S)
    }

    /// The group of the series with this number; none if it is filtered out.
    fn place(&mut self, number: usize, series: &dyn Counted, clocks: &mut Clocks) -> Option<usize> {
        let known = self.places.get(number).copied().flatten();
        let place = known.unwrap_or_else(|| self.place_of(series, clocks));
        if known.is_none() && !matches!(place, Place::Folded(_)) {
            self.places.resize(self.places.len().max(number + 1), None);
            self.places[number] = Some(place);
        }
        place.group()
    }

    fn place_of(&mut self, thing: &dyn Labelled, clocks: &mut Clocks) -> Place {
        if !self.rule.filters.matches_by(|name| thing.label(name)) {
            return Place::Outside;
        }
        let key: Key = self.rule.by.iter().map(|name| thing.label(name).into_owned()).collect();
        if let Some(group) = self.by_key.get(&key) {
            return Place::In(*group);
        }
        if self.groups.len() >= self.most_groups && self.swept_s != clocks.now_s() {
            self.make_room(clocks.now_s());
        }
        if self.groups.len() < self.most_groups {
            Place::In(self.add(key, clocks))
        } else {
            self.fold(key, clocks)
        }
    }

    /// Past the bound, everything new goes into one group.
    fn fold(&mut self, key: Key, clocks: &mut Clocks) -> Place {
        let overflow = vec![OVERFLOW.to_owned(); key.len()];
        if self.folded.len() < MAX_FOLDED {
            self.folded.insert(key);
        }
        let known = self.by_key.get(&overflow).copied();
        Place::Folded(known.unwrap_or_else(|| self.add(overflow, clocks)))
    }

    fn add(&mut self, key: Key, clocks: &mut Clocks) -> usize {
        let is_overflow = key.iter().all(|value| value == OVERFLOW);
        let service = self.rule.by.iter().position(|label| *label == SERVICE).filter(|_| !is_overflow);
        let service = service.map(|at| clocks.number(&key[at]));
        self.groups.push(Group::new(&self.rule, &key, service));
        self.by_key.insert(key, self.groups.len() - 1);
        self.groups.len() - 1
    }

    /// Forgets groups of which nothing is known any more. What was folded may then get one of its own.
    fn make_room(&mut self, now_s: u64) {
        self.swept_s = now_s;
        if !self.groups.iter().any(Group::is_idle) {
            return;
        }
        let mut keys: Vec<(Key, usize)> = self.by_key.drain().collect();
        keys.sort_unstable_by_key(|(_, group)| *group);
        let groups = std::mem::take(&mut self.groups).into_iter().zip(keys);
        for (group, (key, _)) in groups.filter(|(group, _)| !group.is_idle()) {
            self.by_key.insert(key, self.groups.len());
            self.groups.push(group);
        }
        self.places.clear();
        self.folded.clear();
    }

    /// The key of the group that has this alert; none if it can be none of this rule's.
    fn key_of(&self, alert: &Alert) -> Option<Key> {
        let label = |name: &str| alert.labels.get(name).cloned().unwrap_or_default();
        let key: Key = self.rule.by.iter().map(|name| label(name)).collect();
        let is_overflow = key.iter().all(|value| value == OVERFLOW);
        let mut values = self.rule.by.iter().zip(&key);
        let is_allowed = is_overflow || values.all(|(name, value)| self.rule.filters.allow(name, value));
        let is_own = group::labels(&self.rule, &key) == alert.labels;
        (is_own && is_allowed).then_some(key)
    }

    /// Works out whether it looks at services that are new.
    fn meet(&mut self, clocks: &Clocks) {
        let new = clocks.names().iter().skip(self.looks_at.len());
        self.looks_at.extend(new.map(|name| self.rule.filters.allow(SERVICE, name)));
    }
}

fn earlier(due_ms: Option<u64>, other_ms: u64) -> Option<u64> {
    Some(due_ms.map_or(other_ms, |due_ms| due_ms.min(other_ms)))
}
