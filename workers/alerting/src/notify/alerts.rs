//! The alerts, folded from their transitions: what fires, what resolved of late, and what goes up and down.

use std::collections::BTreeMap;

use keelson_schemas::alerting::{Alert, AlertState, Transition};
use serde::{Deserialize, Serialize};

use super::config::Flap;
use super::size;

/// How long an alert that resolved can still be seen.
pub const SEEN_MS: u64 = 15 * 60 * 1000;
/// About how large a piece of a checkpoint becomes, well below the bound of a chunk.
const A_CHUNK_BYTES: usize = 256 * 1024;
/// What a time takes in it.
const A_TIME_BYTES: usize = 9;

/// Every alert that is pending, fires, or resolved of late.
#[derive(Clone, Debug, Default)]
pub struct Alerts {
    known: BTreeMap<String, Known>,
    sequence: u64,
}

/// An alert, and how it came to stand as it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// As it is.
    pub alert: Alert,
    /// Unix milliseconds of its last transition.
    pub at_ms: u64,
    /// Unix milliseconds at which it last fired or resolved.
    moved_at_ms: u64,
    /// When it fired of late, Unix milliseconds; at most [`Flap::fired`] times.
    fired_at_ms: Vec<u64>,
    /// Whether it began to flap and has not been steady since.
    flaps: bool,
}

impl Alerts {
    /// Those of a checkpoint that was made at a sequence.
    #[must_use]
    pub fn restored(known: impl IntoIterator<Item = Known>, sequence: u64) -> Self {
        let known = known.into_iter().map(|known| (known.alert.fingerprint.clone(), known)).collect();
        Self { known, sequence }
    }

    /// The pieces of a checkpoint.
    pub fn chunks(&self) -> Vec<Vec<&Known>> {
        let mut chunks: Vec<Vec<&Known>> = Vec::new();
        let mut room = 0;
        for known in self.known.values() {
            let bytes = size::bytes(&known.alert) + known.fired_at_ms.len() * A_TIME_BYTES;
            match chunks.last_mut() {
                Some(chunk) if bytes <= room => chunk.push(known),
                _ => {
                    chunks.push(vec![known]);
                    room = A_CHUNK_BYTES;
                }
            }
            room = room.saturating_sub(bytes);
        }
        chunks
    }

    /// The sequence of the last transition in it.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Takes in the transition at a sequence; false when it has it.
    pub fn apply(&mut self, sequence: u64, transition: &Transition, flap: &Flap) -> bool {
        if sequence <= self.sequence {
            return false;
        }
        self.sequence = sequence;
        self.note(transition, flap);
        true
    }

    /// Takes in a transition that has no sequence.
    pub fn note(&mut self, transition: &Transition, flap: &Flap) {
        let fingerprint = &transition.alert.fingerprint;
        match self.known.get_mut(fingerprint) {
            _ if transition.alert.state == AlertState::Inactive => drop(self.known.remove(fingerprint)),
            Some(known) => known.apply(transition, flap),
            None => drop(self.known.insert(fingerprint.clone(), Known::new(transition))),
        }
    }

    /// The transitions that must have been lost, if exactly these alerts are pending or fire, by their fingerprints.
    #[must_use]
    pub fn lost(&self, live: &BTreeMap<String, Alert>, now_ms: u64) -> Vec<Transition> {
        let state = |alert: &Alert| self.get(&alert.fingerprint).map(|known| known.alert.state);
        let begun = live.values().filter(|alert| state(alert) != Some(alert.state)).cloned();
        let known = self.known.values().map(|known| &known.alert);
        let live_before =
            known.filter(|alert| matches!(alert.state, AlertState::Pending | AlertState::Firing));
        let ended = live_before.filter(|alert| !live.contains_key(&alert.fingerprint));
        let transition = |alert: Alert| Transition {
            from: state(&alert).unwrap_or(AlertState::Inactive),
            at_ms: now_ms,
            epoch: 0,
            slices_through: 0,
            alert,
        };
        begun.chain(ended.map(|alert| over(alert, now_ms))).map(transition).collect()
    }

    /// Takes note that there is no transition at a sequence.
    pub fn pass_over(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    /// Drops what resolved long ago and need not be remembered for its flapping.
    pub fn forget(&mut self, now_ms: u64, flap: &Flap) {
        let kept_ms = SEEN_MS.max(flap.within.as_ms()).max(flap.steady.as_ms());
        self.known.retain(|_, known| {
            known.alert.state != AlertState::Resolved || known.at_ms.saturating_add(kept_ms) > now_ms
        });
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, fingerprint: &str) -> Option<&Known> {
        self.known.get(fingerprint)
    }

    /// All of them that can be seen at a Unix millisecond.
    pub fn seen(&self, now_ms: u64) -> impl Iterator<Item = &Known> {
        self.known.values().filter(move |known| {
            known.alert.state != AlertState::Resolved || known.at_ms.saturating_add(SEEN_MS) > now_ms
        })
    }

    /// Those that fire.
    pub fn firing(&self) -> impl Iterator<Item = &Alert> {
        self.known.values().map(|known| &known.alert).filter(|alert| alert.state == AlertState::Firing)
    }

    /// Whether an alert flaps at a Unix millisecond.
    #[must_use]
    pub fn flaps(&self, fingerprint: &str, now_ms: u64, flap: &Flap) -> bool {
        self.get(fingerprint).is_some_and(|known| known.flaps_at(now_ms, flap))
    }
}

/// An alert that was pending or fired, over.
pub fn over(alert: &Alert, now_ms: u64) -> Alert {
    let has_fired = alert.state == AlertState::Firing;
    let state = if has_fired { AlertState::Resolved } else { AlertState::Inactive };
    Alert { state, value: None, ends_at_ms: has_fired.then_some(now_ms), ..alert.clone() }
}

impl Known {
    fn new(transition: &Transition) -> Self {
        let fired = transition.alert.state == AlertState::Firing;
        Self {
            alert: transition.alert.clone(),
            at_ms: transition.at_ms,
            moved_at_ms: transition.at_ms,
            fired_at_ms: fired.then_some(transition.at_ms).into_iter().collect(),
            flaps: false,
        }
    }

    fn apply(&mut self, transition: &Transition, flap: &Flap) {
        let at_ms = transition.at_ms;
        self.alert = transition.alert.clone();
        self.at_ms = at_ms;
        if transition.alert.state == AlertState::Pending {
            return;
        }
        self.flaps = self.flaps_at(at_ms, flap);
        self.moved_at_ms = at_ms;
        if transition.alert.state == AlertState::Firing {
            self.fired(at_ms, flap);
        }
    }

    fn fired(&mut self, at_ms: u64, flap: &Flap) {
        self.fired_at_ms.retain(|fired_at| fired_at.saturating_add(flap.within.as_ms()) > at_ms);
        self.fired_at_ms.push(at_ms);
        let most = flap.fired as usize;
        let too_many = self.fired_at_ms.len().saturating_sub(most);
        self.fired_at_ms.drain(..too_many);
        self.flaps |= most > 0 && self.fired_at_ms.len() == most;
    }

    fn flaps_at(&self, now_ms: u64, flap: &Flap) -> bool {
        self.flaps && flap.fired > 0 && now_ms < self.moved_at_ms.saturating_add(flap.steady.as_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::config::Span;
    use crate::notify::testing::transition;

    const FLAP: Flap = Flap { fired: 3, within: Span::seconds(60), steady: Span::seconds(20) };

    /// Whether it flaps right after each of these transitions, (second, fires).
    fn flapping(moves: &[(u64, bool)]) -> Vec<bool> {
        let mut alerts = Alerts::default();
        let after = |(sequence, (second, fires)): (usize, &(u64, bool))| {
            let transition = transition("alertname=A", *fires, second * 1000);
            alerts.apply(sequence as u64 + 1, &transition, &FLAP);
            alerts.flaps(&transition.alert.fingerprint, second * 1000, &FLAP)
        };
        moves.iter().enumerate().map(after).collect()
    }

    #[test]
    fn an_alert_flaps_from_its_third_firing_until_it_is_steady() {
        let moves = [(0, true), (5, false), (10, true), (15, false), (20, true), (39, false), (58, true)];
        assert_eq!(flapping(&moves), [false, false, false, false, true, true, true]);
        // Two in a minute are not too many; nor is the third when it comes a minute after the first.
        assert_eq!(flapping(&[(0, true), (5, false), (10, true), (15, false), (60, true)]), [false; 5]);
        // Steady for twenty seconds: over, though it fired three times within the minute before.
        let moves = [(0, true), (1, false), (2, true), (3, false), (4, true), (24, false), (45, false)];
        assert_eq!(flapping(&moves), [false, false, false, false, true, false, false]);
    }

    #[test]
    fn a_transition_counts_once_and_none_flaps_where_none_may() {
        let mut alerts = Alerts::default();
        let off = Flap { fired: 0, ..FLAP };
        for sequence in 1..10 {
            let fired = transition("alertname=A", true, 1000 + sequence);
            assert!(alerts.apply(sequence, &fired, &off));
            assert!(!alerts.apply(sequence, &fired, &off));
            assert!(!alerts.flaps(&fired.alert.fingerprint, 1000 + sequence, &off));
        }
    }

    #[test]
    fn a_checkpoint_has_pieces_of_a_bounded_size_that_hold_all() {
        let mut alerts = Alerts::default();
        for sequence in 1..=2_000 {
            let mut fired = transition(&format!("alertname=A instance={sequence}"), true, 1000);
            fired.alert.annotations.insert("summary".into(), "x".repeat(500));
            alerts.apply(sequence, &fired, &FLAP);
        }
        let chunks = alerts.chunks();
        let sizes: Vec<usize> =
            chunks.iter().map(|chunk| keelson_schemas::codec::encode(chunk).unwrap().len()).collect();
        assert!(sizes.len() > 4 && sizes.iter().all(|size| *size < 512 * 1024), "{sizes:?}");
        let known: Vec<Known> = chunks.into_iter().flatten().cloned().collect();
        assert_eq!(Alerts::restored(known, 2_000).known, alerts.known);
    }

    #[test]
    fn what_resolved_is_seen_for_a_while_and_forgotten_in_the_end() {
        let mut alerts = Alerts::default();
        alerts.apply(1, &transition("alertname=A", true, 1000), &FLAP);
        alerts.apply(2, &transition("alertname=A", false, 2000), &FLAP);
        assert_eq!(alerts.seen(2000 + SEEN_MS - 1).count(), 1);
        assert_eq!(alerts.seen(2000 + SEEN_MS).count(), 0);
        alerts.forget(2000 + SEEN_MS, &FLAP);
        assert!(alerts.chunks().is_empty());
    }
}
