//! A group: alerts that are notified together to a receiver. One key of the bucket `alerts`, changed by compare-and-set.

use std::collections::{BTreeMap, BTreeSet};

use keelson_schemas::alerting::{Alert, AlertState, Delivery, Labels, Notify};
use keelson_schemas::id;
use serde::{Deserialize, Serialize};

use super::lane::{Changes, Lane, Sealed};
use super::route::Timing;
use super::size::bytes;

/// A group with more alerts, or larger ones, takes no others: they make up a group of their own. With what each lane needs besides, its record stays
/// below the bucket's 1 MiB.
const MOST_MEMBERS: usize = 250;
/// See [`MOST_MEMBERS`].
const ROOM_BYTES: usize = 128 * 1024;
/// A record that is larger lets go of changes that were overtaken while they waited.
const SQUASH_BYTES: usize = 512 * 1024;

/// Names a group among all: its receiver, its key, and which part of it, if it does not fit into one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub String);

impl GroupId {
    /// The part `part`, from 0, of a receiver's group.
    #[must_use]
    pub fn of(receiver: &str, key: &str, part: u32) -> Self {
        Self(id::derive("alert-group", &[receiver, key, &part.to_string()]))
    }
}

/// What is kept of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The receiver's name.
    pub receiver: String,
    /// What its alerts have in common by the route.
    pub labels: Labels,
    /// Identifies it to the receiver, as Alertmanager writes it.
    pub key: String,
    /// Which part, from 0.
    pub part: u32,
    /// Tells this life of the group from others before and after it, so that no two notifications ever have one key.
    pub born: String,
    /// How long things wait.
    pub timing: Timing,
    /// Which making of the stream of events `through` counts in.
    pub stream: u64,
    /// Transitions up to this sequence are in it.
    pub through: u64,
    /// The last number given to a change.
    last_change: u64,
    /// Every change that is still needed.
    pub changes: Changes,
    /// The trace that led to a change, if it is traced.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    traces: BTreeMap<u64, String>,
    /// The last change of each alert.
    pub members: BTreeMap<String, u64>,
    /// The receiver's ways.
    pub lanes: BTreeMap<String, Lane>,
}

impl Group {
    /// A group without alerts.
    #[must_use]
    pub fn new(receiver: &str, key: String, part: u32, labels: Labels, timing: Timing, born: String) -> Self {
        Self {
            receiver: receiver.to_owned(),
            labels,
            key: if part == 0 { key } else { format!("{key}#{}", part + 1) },
            part,
            born,
            timing,
            stream: 0,
            through: 0,
            last_change: 0,
            changes: Changes::new(),
            traces: BTreeMap::new(),
            members: BTreeMap::new(),
            lanes: BTreeMap::new(),
        }
    }

    /// Whether it lacks the transition at a sequence; from now on it is taken to have it.
    pub fn lacks(&mut self, stream: u64, sequence: u64) -> bool {
        let lacks = self.stream != stream || self.through < sequence;
        if lacks {
            (self.stream, self.through) = (stream, sequence);
        }
        lacks
    }

    /// Takes up an alert that changed. The end of one that is no member is no news.
    pub fn take(&mut self, alert: &Alert, trace: Option<&str>, now_ms: u64) {
        let is_end = alert.state != AlertState::Firing;
        if is_end && !self.members.contains_key(&alert.fingerprint) {
            return;
        }
        self.last_change += 1;
        self.changes.insert(self.last_change, alert.clone());
        self.traces.extend(trace.map(|trace| (self.last_change, trace.to_owned())));
        self.members.insert(alert.fingerprint.clone(), self.last_change);
        self.lanes.values_mut().for_each(|lane| lane.push(self.last_change, now_ms));
    }

    /// Whether an alert fires, as far as it was taken up here.
    #[must_use]
    pub fn fires(&self, fingerprint: &str) -> bool {
        let change = self.members.get(fingerprint).and_then(|change| self.changes.get(change));
        change.is_some_and(|alert| alert.state == AlertState::Firing)
    }

    /// Lets go of the receiver's ways that are not among these, and gives the notifications that waited for them.
    pub fn keep_ways(&mut self, id: &GroupId, integrations: &[&str]) -> Vec<Notify> {
        let gone = self.lanes.keys().filter(|lane| !integrations.contains(&lane.as_str()));
        let gone: Vec<String> = gone.cloned().collect();
        let mut let_go = Vec::new();
        for integration in gone {
            let_go.extend(self.notification(id, &integration));
            let news = self.lanes.remove(&integration).map(|lane| lane.to_be_sealed()).unwrap_or_default();
            let_go.extend(news.iter().map(|sealed| self.notify(id, &integration, sealed)));
        }
        let_go
    }

    /// The alerts that fire, as far as they were taken up here.
    pub fn firing(&self) -> impl Iterator<Item = &Alert> {
        let members = self.members.values().filter_map(|change| self.changes.get(change));
        members.filter(|alert| alert.state == AlertState::Firing)
    }

    /// Whether it takes no more members.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.members.len() >= MOST_MEMBERS || self.bytes() >= ROOM_BYTES
    }

    /// Whether nothing in it fires, and nothing waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.members.is_empty()
    }

    /// Forgets what is needed no more: changes that nothing refers to, and alerts whose end was told; of these it gives the fingerprints.
    pub fn sweep(&mut self) -> Vec<String> {
        let mut needed: BTreeSet<u64> = self.lanes.values().flat_map(Lane::referenced).collect();
        let about: BTreeSet<&str> =
            needed.iter().filter_map(|change| Some(self.changes.get(change)?.fingerprint.as_str())).collect();
        let fires = |change| self.changes.get(change).is_some_and(|alert| alert.state == AlertState::Firing);
        let over = self
            .members
            .iter()
            .filter(|(member, change)| !fires(*change) && !about.contains(member.as_str()));
        let over: Vec<String> = over.map(|(member, _)| member.clone()).collect();
        self.members.retain(|member, _| !over.contains(member));
        needed.extend(self.members.values());
        self.changes.retain(|change, _| needed.contains(change));
        self.traces.retain(|change, _| needed.contains(change));
        over
    }

    /// Keeps the record within its bound: says how many changes were let go that had been overtaken while they waited.
    pub fn squash(&mut self) -> usize {
        if self.bytes() < SQUASH_BYTES {
            return 0;
        }
        let changes = &self.changes;
        self.lanes.values_mut().map(|lane| lane.squash(changes)).sum()
    }

    /// The sealed notification of a lane.
    #[must_use]
    pub fn notification(&self, id: &GroupId, integration: &str) -> Option<Notify> {
        let sealed = self.lanes.get(integration)?.sealed.as_ref()?;
        Some(self.notify(id, integration, sealed))
    }

    fn notify(&self, id: &GroupId, integration: &str, sealed: &Sealed) -> Notify {
        let key = id::derive("notification", &[&id.0, &self.born, integration, &sealed.number.to_string()]);
        Notify {
            key,
            receiver: self.receiver.clone(),
            integration: integration.to_owned(),
            group_labels: self.labels.clone(),
            group_key: self.key.clone(),
            alerts: sealed.changes.iter().filter_map(|change| self.changes.get(change)).cloned().collect(),
            more: sealed.more,
            repeat: sealed.repeat,
        }
    }

    /// The trace that led to the sealed notification of a lane: that of the first of its news.
    #[must_use]
    pub fn trace(&self, integration: &str) -> Option<&String> {
        let sealed = self.lanes.get(integration)?.sealed.as_ref().filter(|sealed| !sealed.repeat)?;
        self.traces.get(sealed.changes.first()?)
    }

    /// How each of the receiver's ways fares.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        let delivery = |(integration, lane): (&String, &Lane)| Delivery {
            integration: integration.clone(),
            delivered_at_ms: lane.delivered_at_ms,
            waiting: lane.waiting(&self.changes),
            attempts: lane.attempts,
            error: lane.error.clone(),
        };
        self.lanes.iter().map(delivery).collect()
    }

    /// About how large the record is.
    fn bytes(&self) -> usize {
        self.changes.values().map(bytes).sum()
    }
}
