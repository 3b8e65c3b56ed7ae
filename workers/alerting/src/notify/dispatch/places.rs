//! Where an alert belongs: its groups by the routes, and the part of a group that has it or has room for it.

use std::sync::Arc;

use keelson_kit::publish::fresh_id;
use keelson_schemas::alerting::{Alert, AlertState};

use super::Dispatch;
use crate::notify::alerts::over;
use crate::notify::group::{Group, GroupId};
use crate::notify::lane::Lane;
use crate::notify::route::Policy;

impl Dispatch {
    /// Looks for a place for all that fires, when everything that was stored is taken in: the routes may be others than before. And what a group takes to fire, though it
    /// does not, is over: the transition that said so is lost.
    pub fn place(&mut self, now_ms: u64) {
        let firing: Vec<Alert> = self.alerts.firing().cloned().collect();
        for alert in &firing {
            for id in self.destinations(alert) {
                let Some(entry) = self.groups.get_mut(&id) else { continue };
                if !entry.group.fires(&alert.fingerprint) {
                    // It has everything that was stored now, and must not take it again.
                    entry.group.lacks(self.stream, self.alerts.sequence());
                    self.take(&id, alert, None, now_ms);
                }
            }
        }
        for (id, alert) in self.ended(now_ms) {
            let Some(entry) = self.groups.get_mut(&id) else { continue };
            entry.group.lacks(self.stream, self.alerts.sequence());
            self.take(&id, &alert, None, now_ms);
        }
        self.touched.extend(self.groups.keys().cloned());
    }

    /// The ends of what groups take to fire, and does not.
    fn ended(&self, now_ms: u64) -> Vec<(GroupId, Alert)> {
        let mut ended = Vec::new();
        for (id, entry) in &self.groups {
            for alert in entry.group.firing() {
                match self.alerts.get(&alert.fingerprint).map(|known| &known.alert) {
                    Some(known) if known.state == AlertState::Firing => {}
                    Some(known) if known.state == AlertState::Resolved => {
                        ended.push((id.clone(), known.clone()));
                    }
                    _ => ended.push((id.clone(), over(alert, now_ms))),
                }
            }
        }
        ended
    }

    /// What the route says that leads an alert of a group there; none when there is no such route any more.
    pub(super) fn leading_to(&self, id: &GroupId, group: &Group) -> Option<Arc<Policy>> {
        let members = group.members.values().filter_map(|change| group.changes.get(change));
        members
            .flat_map(|alert| {
                self.routes.matching(&alert.labels).into_iter().map(move |policy| (policy, alert))
            })
            .find_map(|(policy, alert)| {
                let key = policy.group_key(&policy.group_labels(&alert.labels));
                let leads = policy.receivers.contains(&group.receiver)
                    && *id == GroupId::of(&group.receiver, &key, group.part);
                leads.then(|| policy.clone())
            })
    }

    /// The groups that an alert that fires belongs to by the routes; made, where they are not there yet.
    pub(super) fn destinations(&mut self, alert: &Alert) -> Vec<GroupId> {
        let policies: Vec<Arc<Policy>> = self.routes.matching(&alert.labels).into_iter().cloned().collect();
        let mut found = Vec::new();
        for policy in &policies {
            for receiver in &policy.receivers {
                // One that is only kept informed, as an Alertmanager is, has no groups.
                if self.ways.contains_key(receiver) {
                    found.push(self.destination(policy, receiver, alert));
                }
            }
        }
        found
    }

    fn destination(&mut self, policy: &Policy, receiver: &str, alert: &Alert) -> GroupId {
        let labels = policy.group_labels(&alert.labels);
        let key = policy.group_key(&labels);
        let (id, part) = self.part(receiver, &key, &alert.fingerprint);
        if !self.groups.contains_key(&id) {
            let mut group = Group::new(receiver, key, part, labels, policy.timing, fresh_id());
            let integrations = self.ways.get(receiver).map_or(&[][..], |ways| &ways.integrations);
            group.lanes = integrations.iter().map(|name| ((*name).to_owned(), Lane::default())).collect();
            self.insert(id.clone(), group, true);
        }
        if let Some(entry) = self.groups.get_mut(&id) {
            entry.routed = true;
            entry.group.timing = policy.timing;
        }
        id
    }

    /// The part of a group that has an alert, else the first that has room.
    fn part(&self, receiver: &str, key: &str, fingerprint: &str) -> (GroupId, u32) {
        let of_alert = self.groups_of.get(fingerprint).into_iter().flatten();
        let parts = of_alert.filter_map(|id| Some((id, self.groups.get(id)?.group.part)));
        if let Some((id, part)) =
            parts.into_iter().find(|(id, part)| **id == GroupId::of(receiver, key, *part))
        {
            return (id.clone(), part);
        }
        let has_room = |id: &GroupId| self.groups.get(id).is_none_or(|entry| !entry.group.is_full());
        let mut parts = (0..u32::MAX).map(|part| (GroupId::of(receiver, key, part), part));
        parts.find(|(id, _)| has_room(id)).unwrap_or_else(|| (GroupId::of(receiver, key, u32::MAX), u32::MAX))
    }
}
