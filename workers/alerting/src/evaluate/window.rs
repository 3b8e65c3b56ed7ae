//! What happened within a span of event time that moves on.

use std::collections::BTreeMap;

use keelson_schemas::histogram::Histogram;

/// The parts in which a window moves on. One of up to five minutes moves on by the second, a longer one in steps of a 300th of it, so that what is kept is bounded.
const STEPS: u64 = 300;

/// What can be added up.
pub(super) trait Amount: Default {
    /// About how many bytes one takes.
    const BYTES: usize;
    /// Adds all of `other`.
    fn add(&mut self, other: &Self);
    /// Takes out what was added; `rest` is what else was.
    fn take_out<'a>(&mut self, other: &Self, rest: impl Iterator<Item = &'a Self>)
    where
        Self: 'a;
}

/// Amounts by the time at which they happened, and the total of those within `(end - span, end]`. What is ahead of the end waits until the end gets there.
#[derive(Debug)]
pub(super) struct Window<A> {
    step_s: u64,
    /// In steps, as are `end` and the keys of `steps`.
    span: u64,
    end: u64,
    steps: BTreeMap<u64, A>,
    /// Of the steps up to `end`.
    total: A,
}

impl<A: Amount> Window<A> {
    pub fn new(span_s: u64) -> Self {
        let step_s = span_s.div_ceil(STEPS).max(1);
        let span = span_s.div_ceil(step_s);
        Self { step_s, span, end: 0, steps: BTreeMap::new(), total: A::default() }
    }

    /// Adds what happened in a second. What lies before the window is passed over.
    pub fn add(&mut self, second: u64, amount: &A) {
        let step = second / self.step_s;
        if step + self.span <= self.end {
            return;
        }
        self.steps.entry(step).or_default().add(amount);
        if step <= self.end {
            self.total.add(amount);
        }
    }

    /// Moves on, so that the window ends with this second.
    pub fn advance(&mut self, second: u64) {
        let end = second / self.step_s;
        if end <= self.end {
            return;
        }
        for amount in self.steps.range(self.end + 1..=end).map(|(_, amount)| amount) {
            self.total.add(amount);
        }
        self.end = end;
        while let Some(first) = self.steps.first_entry().filter(|first| first.key() + self.span <= end) {
            let left = first.remove();
            self.total.take_out(&left, self.steps.range(..=end).map(|(_, amount)| amount));
        }
    }

    /// About how many bytes one of so many seconds takes when all of it is full.
    pub fn most_bytes(span_s: u64) -> usize {
        let steps = Self::new(span_s).span;
        usize::try_from(steps).unwrap_or(usize::MAX).saturating_mul(A::BYTES)
    }

    /// All that happened within the window.
    pub fn total(&self) -> &A {
        &self.total
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The next end, as a second, with which the total is another: something comes into the window, or leaves it.
    pub fn next_s(&self) -> Next {
        let comes = self.steps.range(self.end + 1..).next().map(|(step, _)| *step);
        let leaves = self.steps.first_key_value().map(|(step, _)| *step).filter(|step| *step <= self.end);
        Next {
            comes_s: comes.map(|step| step * self.step_s),
            leaves_s: leaves.map(|step| (step + self.span) * self.step_s),
        }
    }

    /// About how many bytes are kept.
    pub fn bytes(&self) -> usize {
        self.steps.len() * A::BYTES
    }
}

/// The ends, as seconds, with which a window holds something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Next {
    /// Something comes into it.
    pub comes_s: Option<u64>,
    /// Something leaves it.
    pub leaves_s: Option<u64>,
}

impl Amount for Histogram {
    const BYTES: usize = 1_000;

    fn add(&mut self, other: &Self) {
        self.merge(other);
    }

    fn take_out<'a>(&mut self, other: &Self, rest: impl Iterator<Item = &'a Self>) {
        self.unmerge(other, rest);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sums::Sums;
    use super::*;

    fn count(window: &Window<Sums>) -> u64 {
        window.total().count
    }

    #[test]
    fn a_window_holds_what_is_after_its_begin_and_up_to_its_end() {
        for (span_s, ago, expected) in [
            (60, 0, 1),
            (60, 59, 1),
            (60, 60, 0),
            (1, 0, 1),
            (1, 1, 0),
            // In steps of 12 s: 3600 s before second 6_011 lies in the step that just went.
            (3_600, 3_599, 1),
            (3_600, 3_600, 0),
        ] {
            let mut window = Window::<Sums>::new(span_s);
            window.add(6_011 - ago, &Sums { count: 1, ..Sums::default() });
            window.advance(6_011);
            assert_eq!(count(&window), expected, "{span_s} s, {ago} s ago");
        }
    }

    #[test]
    fn what_is_late_counts_and_what_is_ahead_waits() {
        let one = Sums { count: 1, ..Sums::default() };
        let mut window = Window::<Sums>::new(60);
        window.advance(1_000);
        window.add(941, &one);
        window.add(940, &one);
        window.add(1_005, &one);
        let next = |comes_s, leaves_s| Next { comes_s, leaves_s };
        assert_eq!((count(&window), window.next_s()), (1, next(Some(1_005), Some(1_001))));
        window.advance(1_001);
        assert_eq!((count(&window), window.next_s()), (0, next(Some(1_005), None)));
        window.advance(1_000);
        window.advance(1_005);
        window.add(1_005, &one);
        assert_eq!(count(&window), 2);
        window.advance(2_000);
        assert_eq!((count(&window), window.next_s()), (0, next(None, None)));
        assert!(window.is_empty());
    }

    #[test]
    fn durations_that_left_the_window_are_in_no_quantile() {
        let histogram = |us| {
            let mut histogram = Histogram::default();
            histogram.record(us);
            histogram
        };
        let mut window = Window::<Histogram>::new(10);
        window.add(1, &histogram(9_000_000));
        window.add(5, &histogram(1_000));
        window.advance(10);
        assert_eq!(window.total().max_us(), Some(9_000_000));
        window.advance(11);
        window.add(9, &histogram(2_000));
        assert_eq!((window.total().count(), window.total().max_us()), (2, Some(2_000)));
        window.advance(100);
        assert_eq!(window.total(), &Histogram::default());
    }
}
