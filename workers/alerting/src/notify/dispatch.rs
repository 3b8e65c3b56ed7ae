//! All groups, and what decides about them: routes, silences, inhibition, flapping. Pure: time is a parameter, and what is to be written and sent is for
//! the caller to see to.
//!
//! A transition goes into every group that its alert belongs to, in the order of the stream and once, for a group knows through which sequence it has them.

mod answers;
mod places;

use std::collections::{BTreeMap, BTreeSet};

use keelson_kit::kv::Change;
use keelson_schemas::alerting::{Alert, AlertState, Notify, Transition};
use tracing::warn;

use super::alerts::Alerts;
use super::config::{Flap, NotifyConfig};
use super::group::{Group, GroupId};
use super::inhibit::Inhibitor;
use super::lane::{Changes, Lane, Pumped, Surroundings};
use super::route::Routes;
use crate::silences::{Outdated, Silences};

/// How often groups are looked at that hold something back: a silence ends, or an alert is steady, without a message that says so.
const REVIEW_MS: u64 = 1_000;

/// The state of the notifier.
#[derive(Debug)]
pub struct Dispatch {
    routes: Routes,
    ways: BTreeMap<String, Ways>,
    flap: Flap,
    /// Which making of the stream of events sequences count in.
    stream: u64,
    alerts: Alerts,
    silences: Silences,
    inhibitor: Inhibitor,
    groups: BTreeMap<GroupId, Entry>,
    /// The groups that each alert is a member of.
    groups_of: BTreeMap<String, BTreeSet<GroupId>>,
    /// Groups to be looked at, because something about them has changed.
    touched: BTreeSet<GroupId>,
    /// Groups that hold something back.
    holding: BTreeSet<GroupId>,
    /// When to look at which groups again.
    again: BTreeSet<(u64, GroupId)>,
    /// Groups that were looked at: the caller writes what has changed, and sends what is sealed.
    looked_at: BTreeSet<GroupId>,
}

/// In which ways a receiver is told.
#[derive(Debug)]
struct Ways {
    integrations: Vec<&'static str>,
    send_resolved: bool,
}

/// A group in memory.
#[derive(Debug)]
pub struct Entry {
    /// The group.
    pub group: Group,
    /// Moves with every change of it.
    pub version: u64,
    /// Whether a route leads to it: the routes may be others than when it was made.
    routed: bool,
    again_at_ms: Option<u64>,
}

impl Dispatch {
    /// Without any alert or group.
    ///
    /// # Errors
    /// A matcher that cannot be read.
    pub fn new(
        config: &NotifyConfig,
        stream: u64,
        alerts: Alerts,
        silences: Silences,
    ) -> anyhow::Result<Self> {
        let mut inhibitor = Inhibitor::of(&config.inhibit)?;
        alerts.firing().for_each(|alert| inhibitor.observe(alert));
        let ways = config.receivers.iter().map(|receiver| {
            let ways = Ways { integrations: receiver.integrations(), send_resolved: receiver.send_resolved };
            (receiver.name.clone(), ways)
        });
        Ok(Self {
            routes: Routes::of(config)?,
            ways: ways.filter(|(_, ways)| !ways.integrations.is_empty()).collect(),
            flap: config.flap.clone(),
            stream,
            alerts,
            silences,
            inhibitor,
            groups: BTreeMap::new(),
            groups_of: BTreeMap::new(),
            touched: BTreeSet::new(),
            holding: BTreeSet::new(),
            again: BTreeSet::new(),
            looked_at: BTreeSet::new(),
        })
    }

    /// Takes in a group that was kept, and gives what waits in it for ways that its receiver no longer has: it is let go.
    pub fn restore(&mut self, id: GroupId, mut group: Group) -> Vec<Notify> {
        let integrations = self.ways.get(&group.receiver).map_or(&[][..], |ways| &ways.integrations);
        let let_go = group.keep_ways(&id, integrations);
        for integration in integrations {
            group.lanes.entry((*integration).to_owned()).or_default();
        }
        let policy = self.leading_to(&id, &group);
        group.timing = policy.as_ref().map_or(group.timing, |policy| policy.timing);
        self.insert(id.clone(), group, policy.is_some());
        if let (false, Some(entry)) = (let_go.is_empty(), self.groups.get_mut(&id)) {
            // To be written: it is let go once.
            entry.version += 1;
        }
        let_go
    }

    /// Takes in the transition at a sequence, and the trace that led to it. Only [`Dispatch::settle`] decides what follows from it.
    pub fn apply(&mut self, sequence: u64, transition: &Transition, trace: Option<&str>, now_ms: u64) {
        if !self.alerts.apply(sequence, transition, &self.flap) {
            return;
        }
        let alert = &transition.alert;
        self.inhibitor.observe(alert);
        let groups: BTreeSet<GroupId> = match alert.state {
            AlertState::Firing => self.destinations(alert).into_iter().collect(),
            AlertState::Resolved => {
                // What it may have inhibited is free now.
                self.review();
                self.groups_of.get(&alert.fingerprint).cloned().unwrap_or_default()
            }
            AlertState::Pending | AlertState::Inactive => return,
        };
        for id in groups {
            let stream = self.stream;
            if self.groups.get_mut(&id).is_some_and(|entry| entry.group.lacks(stream, sequence)) {
                self.take(&id, alert, trace, now_ms);
            }
        }
    }

    /// Takes it that exactly these alerts are pending or fire, though the transitions that say so are lost; gives how many stand otherwise than was known. What follows for
    /// groups is found when they are [placed](Dispatch::place).
    pub fn reconcile(&mut self, live: &BTreeMap<String, Alert>, now_ms: u64) -> usize {
        let lost = self.alerts.lost(live, now_ms);
        for transition in &lost {
            self.alerts.note(transition, &self.flap);
            self.inhibitor.observe(&transition.alert);
        }
        lost.len()
    }

    /// Takes note that there is no transition at a sequence.
    pub fn pass_over(&mut self, sequence: u64) {
        self.alerts.pass_over(sequence);
    }

    /// Takes in a change of a silence.
    pub fn silence(&mut self, change: &Change) {
        self.silences.changed(change);
        self.review();
    }

    /// Decides for every group of which something changed or is due.
    pub fn settle(&mut self, now_ms: u64) {
        while let Some((at_ms, id)) = self.again.first().cloned()
            && at_ms <= now_ms
        {
            self.again.pop_first();
            self.touched.insert(id);
        }
        for id in std::mem::take(&mut self.touched) {
            self.pump(&id, now_ms);
            self.looked_at.insert(id);
        }
    }

    /// The groups that were looked at since this was last asked.
    pub fn looked_at(&mut self) -> BTreeSet<GroupId> {
        std::mem::take(&mut self.looked_at)
    }

    /// Unix milliseconds at which to settle again, if nothing happens before.
    #[must_use]
    pub fn again_at_ms(&self) -> Option<u64> {
        self.again.first().map(|(at_ms, _)| *at_ms)
    }

    /// A group.
    #[must_use]
    pub fn group(&self, id: &GroupId) -> Option<&Entry> {
        self.groups.get(id)
    }

    /// All groups.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupId, &Entry)> {
        self.groups.iter()
    }

    /// Lets go of a group that is not kept any more.
    pub fn remove(&mut self, id: &GroupId) {
        if let Some(entry) = self.groups.remove(id) {
            self.reschedule(id, entry.again_at_ms, None);
            self.holding.remove(id);
            self.unlist(id, entry.group.members.into_keys());
        }
    }

    /// Changes a lane whose sealed notification has this number; nothing if that is over.
    pub fn sealed(
        &mut self,
        id: &GroupId,
        integration: &str,
        number: u64,
        change: impl FnOnce(&mut Lane, &Changes),
    ) {
        let Some(entry) = self.groups.get_mut(id) else { return };
        let Group { lanes, changes, .. } = &mut entry.group;
        let lane = lanes.get_mut(integration);
        let Some(lane) =
            lane.filter(|lane| lane.sealed.as_ref().is_some_and(|sealed| sealed.number == number))
        else {
            return;
        };
        change(lane, changes);
        entry.version += 1;
        self.touched.insert(id.clone());
    }

    /// The alerts, as they are to be kept.
    #[must_use]
    pub fn alerts(&self) -> &Alerts {
        &self.alerts
    }

    /// Which making of the stream sequences count in.
    #[must_use]
    pub fn stream(&self) -> u64 {
        self.stream
    }

    /// Forgets alerts, and gives the silences, that nobody wants to see any more.
    pub fn forget(&mut self, now_ms: u64) -> Vec<Outdated> {
        self.alerts.forget(now_ms, &self.flap);
        self.silences.forget(now_ms)
    }

    fn insert(&mut self, id: GroupId, group: Group, routed: bool) {
        for fingerprint in group.members.keys() {
            self.groups_of.entry(fingerprint.clone()).or_default().insert(id.clone());
        }
        self.groups.insert(id, Entry { group, version: 0, routed, again_at_ms: None });
    }

    fn take(&mut self, id: &GroupId, alert: &Alert, trace: Option<&str>, now_ms: u64) {
        let Some(entry) = self.groups.get_mut(id) else { return };
        entry.group.take(alert, trace, now_ms);
        entry.version += 1;
        if entry.group.members.contains_key(&alert.fingerprint) {
            self.groups_of.entry(alert.fingerprint.clone()).or_default().insert(id.clone());
        }
        self.touched.insert(id.clone());
    }

    /// What is held back is looked at again.
    fn review(&mut self) {
        self.touched.extend(self.holding.iter().cloned());
    }

    fn pump(&mut self, id: &GroupId, now_ms: u64) {
        let Some(entry) = self.groups.get_mut(id) else { return };
        let suppressed = |alert: &Alert| {
            self.silences.silencing(&alert.labels, now_ms).next().is_some()
                || self.inhibitor.inhibits(&alert.labels)
                || self.alerts.flaps(&alert.fingerprint, now_ms, &self.flap)
        };
        let Group { changes, members, lanes, timing, receiver, .. } = &mut entry.group;
        let around = Surroundings {
            changes,
            members,
            timing: *timing,
            send_resolved: self.ways.get(receiver).is_some_and(|ways| ways.send_resolved),
            routed: entry.routed,
            suppressed: &suppressed,
            now_ms,
        };
        let pumped: Vec<Pumped> = lanes.values_mut().map(|lane| lane.pump(&around)).collect();
        if pumped.iter().any(|pumped| pumped.changed) {
            entry.version += 1;
        }
        let squashed = entry.group.squash();
        if squashed > 0 {
            warn!(
                group.key = entry.group.key,
                receiver = entry.group.receiver,
                squashed,
                "too much waits for a receiver; changes that were overtaken since are not notified"
            );
        }
        let over = entry.group.sweep();
        let holds = pumped.iter().any(|pumped| pumped.holds);
        let review = holds.then_some(now_ms.saturating_add(REVIEW_MS));
        let again_at_ms = pumped.iter().filter_map(|pumped| pumped.again_at_ms).chain(review).min();
        let former = std::mem::replace(&mut entry.again_at_ms, again_at_ms);
        self.reschedule(id, former, again_at_ms);
        if holds {
            self.holding.insert(id.clone())
        } else {
            self.holding.remove(id)
        };
        self.unlist(id, over);
    }

    fn reschedule(&mut self, id: &GroupId, former: Option<u64>, next: Option<u64>) {
        if let Some(at_ms) = former {
            self.again.remove(&(at_ms, id.clone()));
        }
        self.again.extend(next.map(|at_ms| (at_ms, id.clone())));
    }

    fn unlist(&mut self, id: &GroupId, fingerprints: impl IntoIterator<Item = String>) {
        for fingerprint in fingerprints {
            if let Some(groups) = self.groups_of.get_mut(&fingerprint) {
                groups.remove(id);
                if groups.is_empty() {
                    self.groups_of.remove(&fingerprint);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
