//! The newest reading of each thing that a group holds.

use std::collections::BTreeMap;

use keelson_schemas::alerting::Labels;
use rustc_hash::FxHashMap;

use super::window::Next;
use crate::rules::Side;

/// Things whose readings one group keeps; those of further ones are passed over.
const MAX_THINGS: usize = 1_000;

/// Readings by what they are about and by their second. Of those up to the end only the newest is kept; what is ahead waits.
#[derive(Debug, Default)]
pub(super) struct Lasts {
    span_s: u64,
    end_s: u64,
    things: FxHashMap<Labels, BTreeMap<u64, f64>>,
}

impl Lasts {
    pub fn new(span_s: u64) -> Self {
        Self { span_s, ..Self::default() }
    }

    pub fn add(&mut self, second: u64, about: &Labels, value: f64) {
        let is_past = second + self.span_s <= self.end_s;
        let has_room = self.things.len() < MAX_THINGS || self.things.contains_key(about);
        if !is_past && has_room {
            self.things.entry(about.clone()).or_default().insert(second, value);
        }
    }

    /// Moves on, so that the window ends with this second.
    pub fn advance(&mut self, second: u64) {
        self.end_s = self.end_s.max(second);
        let (begin_s, end_s) = ((self.end_s + 1).saturating_sub(self.span_s), self.end_s);
        for readings in self.things.values_mut() {
            let newest = readings.range(..=end_s).next_back().map_or(begin_s, |(second, _)| *second);
            *readings = readings.split_off(&newest.max(begin_s));
        }
        self.things.retain(|_, readings| !readings.is_empty());
    }

    /// The worst of the newest readings; none without one.
    pub fn worst(&self, side: Side) -> Option<f64> {
        let newest = self.things.values().filter_map(|readings| readings.range(..=self.end_s).next_back());
        newest.map(|(_, value)| *value).reduce(|one, other| side.worse(one, other))
    }

    /// Things that have a reading which counts.
    pub fn len(&self) -> u64 {
        self.things.values().filter(|readings| readings.range(..=self.end_s).next().is_some()).count() as u64
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.things.is_empty()
    }

    /// The next end with which something else counts.
    pub fn next_s(&self) -> Next {
        let comes = self.things.values().filter_map(|readings| readings.range(self.end_s + 1..).next());
        let counted = self.things.values().filter_map(|readings| readings.range(..=self.end_s).next_back());
        Next {
            comes_s: comes.map(|(second, _)| *second).min(),
            leaves_s: counted.map(|(second, _)| second + self.span_s).min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(name: &str) -> Labels {
        [("stream".to_owned(), name.to_owned())].into()
    }

    #[test]
    fn the_worst_of_the_newest_counts_while_it_is_within_the_window() {
        let mut lasts = Lasts::new(300);
        lasts.add(1_000, &about("a"), 5.0);
        lasts.add(1_010, &about("a"), 3.0);
        lasts.add(1_005, &about("b"), 4.0);
        lasts.add(1_020, &about("b"), 9.0);
        for (second, above, below, len) in [
            (999, None, None, 0),
            (1_000, Some(5.0), Some(5.0), 1),
            (1_010, Some(4.0), Some(3.0), 2),
            (1_020, Some(9.0), Some(3.0), 2),
            (1_309, Some(9.0), Some(3.0), 2),
            (1_310, Some(9.0), Some(9.0), 1),
            (1_320, None, None, 0),
        ] {
            lasts.advance(second);
            let told = (lasts.worst(Side::Above), lasts.worst(Side::Below), lasts.len());
            assert_eq!(told, (above, below, len), "{second}");
        }
        assert!(lasts.is_empty());
        lasts.add(1_020, &about("a"), 1.0);
        assert!(lasts.is_empty(), "what comes too late is passed over");
    }

    #[test]
    fn it_is_known_when_something_else_counts() {
        let mut lasts = Lasts::new(300);
        assert_eq!(lasts.next_s(), Next::default());
        [1_000, 1_010].into_iter().for_each(|second| lasts.add(second, &about("a"), 5.0));
        assert_eq!(lasts.next_s(), Next { comes_s: Some(1_000), leaves_s: None });
        lasts.advance(1_000);
        assert_eq!(lasts.next_s(), Next { comes_s: Some(1_010), leaves_s: Some(1_300) });
        lasts.advance(1_010);
        assert_eq!(lasts.next_s(), Next { comes_s: None, leaves_s: Some(1_310) });
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut lasts = Lasts::new(300);
        (0..2_000).for_each(|n| lasts.add(1_000 + n % 2, &about(&n.to_string()), 1.0));
        lasts.advance(1_001);
        assert_eq!(lasts.len(), MAX_THINGS as u64);
    }
}
