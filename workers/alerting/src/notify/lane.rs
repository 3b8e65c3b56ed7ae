//! One way to a receiver, for one group: what it has been told, what it is being told, and what it has yet to be told, in order.
//!
//! Changes wait in a log. When they are due, as many as fit are sealed into one notification. From then on it has a number and does not change, and nothing
//! else is sealed before it was delivered or given up: so a notification is the same in every try, and what is told later happened later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use keelson_schemas::alerting::{Alert, AlertState};
use serde::{Deserialize, Serialize};

use super::route::Timing;

/// The most alerts in a notification.
pub const MOST_ALERTS: usize = 100;
/// The most of them that are new: one place is left for an alert that fires on, so that the notification does not look like the end of all.
const MOST_NEWS: usize = MOST_ALERTS - 1;

/// How soon a repetition is looked at again that found everything suppressed.
const LOOK_AGAIN_MS: u64 = 5_000;

/// Alerts as they were when they changed, by the number of the change within the group.
pub type Changes = BTreeMap<u64, Alert>;

/// Which of a group's changes a receiver knows of, in one of its ways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    /// What it believes to fire: the change that told it so, by fingerprint.
    told: BTreeMap<String, u64>,
    /// What it has yet to be told, oldest first.
    log: VecDeque<News>,
    /// Changes up to this one are due, however many notifications they take.
    due_through: u64,
    /// What it is being told.
    pub sealed: Option<Sealed>,
    /// How many notifications were sealed.
    number: u64,
    /// Unix milliseconds at which the last one was sealed.
    sealed_at_ms: u64,
    /// Unix milliseconds at which one was last delivered.
    pub delivered_at_ms: Option<u64>,
    /// How often the sealed one was tried in vain.
    pub attempts: u32,
    /// Why in vain.
    pub error: Option<String>,
    /// Unix milliseconds before which it is not tried again. A new owner tries at once.
    #[serde(skip)]
    pub not_before_ms: u64,
}

/// A change that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// The change.
    pub change: u64,
    /// Unix milliseconds since when it waits.
    pub since_ms: u64,
}

/// A notification that is made and does not change any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sealed {
    /// Counts the lane's notifications, from 1.
    pub number: u64,
    /// Its alerts.
    pub changes: Vec<u64>,
    /// How many more fire that the receiver knows of.
    pub more: u64,
    /// Whether nothing in it is new.
    pub repeat: bool,
    /// Unix milliseconds since when the newest of it waits.
    pub since_ms: u64,
}

/// What a lane's decisions depend on beside itself.
pub struct Surroundings<'a> {
    /// All changes that the group remembers.
    pub changes: &'a Changes,
    /// How each of the group's alerts stands.
    pub members: &'a BTreeMap<String, u64>,
    /// How long things wait.
    pub timing: Timing,
    /// Whether the receiver is told of the end of an alert.
    pub send_resolved: bool,
    /// Whether a route leads here still; if not, nothing new begins.
    pub routed: bool,
    /// Whether an alert that fires may not be notified now.
    pub suppressed: &'a dyn Fn(&Alert) -> bool,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// What came of looking at a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pumped {
    /// Whether the lane has changed.
    pub changed: bool,
    /// Whether something fires that it is not told of because it is suppressed.
    pub holds: bool,
    /// Unix milliseconds at which to look again, if nothing happens before.
    pub again_at_ms: Option<u64>,
}

impl Lane {
    /// Takes up a change.
    pub fn push(&mut self, change: u64, now_ms: u64) {
        self.log.push_back(News { change, since_ms: now_ms });
    }

    /// Seals a notification if one is due and none is under way.
    pub fn pump(&mut self, around: &Surroundings<'_>) -> Pumped {
        let mut pumped = Pumped { changed: around.routed && self.recall(around), ..Pumped::default() };
        while self.sealed.is_none() {
            match self.due_at(around) {
                Some(due_at_ms) if due_at_ms <= around.now_ms => {
                    let looked_at_news = !self.log.is_empty();
                    let sealed = self.seal(around);
                    pumped.changed |= sealed || looked_at_news;
                    if !sealed && !looked_at_news {
                        // It is time to repeat, and all of it is suppressed.
                        pumped.again_at_ms = Some(around.now_ms.saturating_add(LOOK_AGAIN_MS));
                        break;
                    }
                }
                again_at_ms => {
                    pumped.again_at_ms = again_at_ms;
                    break;
                }
            }
        }
        if self.sealed.is_some() {
            pumped.again_at_ms = Some(self.not_before_ms).filter(|at_ms| *at_ms > around.now_ms);
        }
        pumped.holds = around.routed && self.untold(around).next().is_some();
        pumped
    }

    /// The sealed notification has arrived.
    pub fn delivered(&mut self, now_ms: u64) {
        self.delivered_at_ms = Some(now_ms);
        self.over();
    }

    /// The sealed notification has not arrived, and is tried again.
    pub fn failed(&mut self, reason: &str, not_before_ms: u64) {
        self.attempts = self.attempts.saturating_add(1);
        self.error = Some(reason.to_owned());
        self.not_before_ms = not_before_ms;
    }

    /// The sealed notification will not arrive.
    pub fn given_up(&mut self, reason: &str) {
        self.over();
        self.error = Some(reason.to_owned());
    }

    /// The sealed notification will not arrive, though it might another time: what it tells is told anew, before everything else and under another number.
    pub fn tell_anew(&mut self, reason: &str, changes: &Changes, now_ms: u64) {
        let mut again = self.sealed.take().map(|sealed| sealed.changes).unwrap_or_default();
        again.sort_unstable();
        self.due_through = again.last().copied().unwrap_or_default().max(self.due_through);
        for change in again.into_iter().rev() {
            self.log.push_front(News { change, since_ms: now_ms });
            if let Some(alert) = changes.get(&change).filter(|alert| alert.state != AlertState::Firing) {
                // It has not heard of the end.
                self.told.entry(alert.fingerprint.clone()).or_insert(change);
            }
        }
        self.given_up(reason);
    }

    /// The notifications that what waits would make up.
    #[must_use]
    pub fn to_be_sealed(&self) -> Vec<Sealed> {
        let waiting: Vec<News> = self.log.iter().copied().collect();
        let sealed = |(number, news): (u64, &[News])| Sealed {
            number,
            changes: news.iter().map(|news| news.change).collect(),
            more: 0,
            repeat: false,
            since_ms: news.last().map_or(0, |news| news.since_ms),
        };
        (self.number + 1..).zip(waiting.chunks(MOST_ALERTS)).map(sealed).collect()
    }

    fn over(&mut self) {
        self.sealed = None;
        self.attempts = 0;
        self.error = None;
        self.not_before_ms = 0;
    }

    /// Every change that is still needed.
    pub fn referenced(&self) -> impl Iterator<Item = u64> {
        let sealed = self.sealed.iter().flat_map(|sealed| sealed.changes.iter().copied());
        self.told.values().copied().chain(self.log.iter().map(|news| news.change)).chain(sealed)
    }

    /// How many notifications it will take to tell all, the sealed one included.
    #[must_use]
    pub fn waiting(&self, changes: &Changes) -> u64 {
        let (mut notifications, mut in_this) = (u64::from(self.sealed.is_some()), BTreeSet::new());
        for alert in self.log.iter().filter_map(|news| changes.get(&news.change)) {
            if in_this.is_empty() || in_this.len() == MOST_NEWS || !in_this.insert(&alert.fingerprint) {
                notifications += 1;
                in_this = [&alert.fingerprint].into();
            }
        }
        notifications
    }

    /// Keeps only the newest change of each alert in the log, and says how many went.
    pub fn squash(&mut self, changes: &Changes) -> usize {
        let before = self.log.len();
        let mut seen = BTreeSet::new();
        let mut newest: VecDeque<News> = VecDeque::new();
        for news in self.log.iter().rev() {
            if changes.get(&news.change).is_some_and(|alert| seen.insert(&alert.fingerprint)) {
                newest.push_front(*news);
            }
        }
        self.log = newest;
        before - self.log.len()
    }

    /// Takes up again what fires, was passed over while it was suppressed, and is so no more.
    fn recall(&mut self, around: &Surroundings<'_>) -> bool {
        let untold: Vec<u64> = self.untold(around).collect();
        let recalled = around.to_be_told(&untold);
        recalled.iter().for_each(|change| self.push(*change, around.now_ms));
        !recalled.is_empty()
    }

    /// What fires, and is neither told nor about to be.
    fn untold<'a>(&'a self, around: &'a Surroundings<'_>) -> impl Iterator<Item = u64> {
        let logged: BTreeSet<u64> = self.log.iter().map(|news| news.change).collect();
        around.members.iter().filter_map(move |(fingerprint, change)| {
            let known = self.told.contains_key(fingerprint) || logged.contains(change);
            (around.fires(*change) && !known).then_some(*change)
        })
    }

    /// Unix milliseconds at which the next notification is due.
    fn due_at(&self, around: &Surroundings<'_>) -> Option<u64> {
        let timing = around.timing;
        let Some(first) = self.log.front() else {
            let repeats = around.routed && !self.told.is_empty();
            return repeats.then(|| self.sealed_at_ms.saturating_add(timing.repeat_interval_ms));
        };
        let goes_on = first.change <= self.due_through;
        if goes_on || (!self.told.is_empty() && around.is_over()) {
            return Some(first.since_ms);
        }
        Some(match self.told.is_empty() {
            true => first.since_ms.saturating_add(timing.group_wait_ms),
            false => self.sealed_at_ms.saturating_add(timing.group_interval_ms),
        })
    }

    /// Seals what is due, up to the second change of one alert; false when nothing of it is to be told.
    fn seal(&mut self, around: &Surroundings<'_>) -> bool {
        let Some(last) = self.log.iter().map(|news| news.change).max() else {
            return self.seal_repeat(around);
        };
        self.due_through = self.due_through.max(last);
        let mut news = Vec::new();
        let mut seen = BTreeSet::new();
        let mut since_ms = 0;
        while let Some(next) = self.log.front().copied() {
            if news.len() == MOST_NEWS {
                break;
            }
            let Some(alert) = around.changes.get(&next.change) else {
                self.log.pop_front();
                continue;
            };
            if !seen.insert(alert.fingerprint.clone()) {
                break;
            }
            self.log.pop_front();
            if self.tell(next.change, alert, around) {
                news.push(next.change);
                since_ms = next.since_ms;
            }
        }
        if news.is_empty() {
            return false;
        }
        news.extend(self.context(&seen, MOST_ALERTS - news.len(), around));
        self.seal_these(news, false, since_ms, around);
        true
    }

    /// Whether a change is worth telling; the receiver is taken to know of it from now on.
    fn tell(&mut self, change: u64, alert: &Alert, around: &Surroundings<'_>) -> bool {
        match alert.state {
            AlertState::Firing if !around.routed || (around.suppressed)(alert) => false,
            AlertState::Firing => {
                self.told.insert(alert.fingerprint.clone(), change);
                true
            }
            // An incident that was opened is closed, silenced or not.
            _ => self.told.remove(&alert.fingerprint).is_some() && around.send_resolved,
        }
    }

    /// What else the receiver knows to fire. What has been suppressed since is left out, unless it is all that keeps the incident open.
    fn context(&self, news: &BTreeSet<String>, room: usize, around: &Surroundings<'_>) -> Vec<u64> {
        let one_is_new = news.iter().any(|fingerprint| self.told.contains_key(fingerprint));
        let others = self.told.iter().filter(|(fingerprint, _)| !news.contains(*fingerprint));
        let others = others.map(|(_, change)| *change).filter(|change| around.fires(*change));
        let others: Vec<u64> = others.collect();
        let mut shown = around.to_be_told(&others);
        if shown.is_empty() && !one_is_new {
            shown = others;
        }
        shown.sort_unstable();
        shown.truncate(room);
        shown
    }

    fn seal_repeat(&mut self, around: &Surroundings<'_>) -> bool {
        let told: Vec<u64> = self.told.values().copied().collect();
        let mut shown = around.to_be_told(&told);
        shown.sort_unstable();
        shown.truncate(MOST_ALERTS);
        let is_any = !shown.is_empty();
        if is_any {
            self.seal_these(shown, true, around.now_ms, around);
        }
        is_any
    }

    fn seal_these(&mut self, changes: Vec<u64>, repeat: bool, since_ms: u64, around: &Surroundings<'_>) {
        let listed = changes.iter().filter(|change| around.fires(**change)).count();
        let more = self.told.len().saturating_sub(listed) as u64;
        self.number += 1;
        self.sealed_at_ms = around.now_ms;
        self.sealed = Some(Sealed { number: self.number, changes, more, repeat, since_ms });
    }
}

impl Surroundings<'_> {
    fn fires(&self, change: u64) -> bool {
        self.changes.get(&change).is_some_and(|alert| alert.state == AlertState::Firing)
    }

    /// Those that are not suppressed.
    fn to_be_told(&self, changes: &[u64]) -> Vec<u64> {
        let is_free = |change: &&u64| self.changes.get(change).is_some_and(|alert| !(self.suppressed)(alert));
        changes.iter().filter(is_free).copied().collect()
    }

    /// Whether nothing in the group fires any more.
    fn is_over(&self) -> bool {
        !self.members.values().any(|change| self.fires(*change))
    }
}
