//! How much may be sent now, by what a provider's documentation says: token buckets, decided purely.

use std::time::{Duration, Instant};

use crate::flow::Now;

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Which one. Kinds may share a bucket; all that share one have the same rate.
    pub bucket: usize,
    /// How many tokens it holds.
    pub burst: u32,
    /// In what time one comes back.
    pub every: Duration,
    /// Whether every item of a call takes a token, or every call.
    pub each: bool,
}

/// How many buckets a provider has at most.
const BUCKETS: usize = 2;

/// What is left in the buckets of a provider.
#[derive(Debug, Default)]
pub struct Budget {
    /// When each bucket is full again; that tells how many tokens are missing.
    full_at: [Option<Instant>; BUCKETS],
}

impl Rate {
    fn tokens(&self, items: usize) -> u32 {
        let wanted = if self.each { u32::try_from(items).unwrap_or(u32::MAX) } else { 1 };
        // A call that takes more than there ever is goes when the bucket is full.
        wanted.min(self.burst)
    }
}

impl Budget {
    /// Goes on with what a former sender left: when each bucket is full again, Unix milliseconds, zero where it is. The clock of its machine may have been
    /// another: no bucket is emptier than empty.
    pub fn go_on(&mut self, full_at_ms: &[u64], rates: impl Iterator<Item = Rate>, now: Now) {
        for rate in rates {
            let missing = full_at_ms.get(rate.bucket).map_or(0, |at_ms| at_ms.saturating_sub(now.ms));
            let wait = Duration::from_millis(missing).min(rate.every * rate.burst);
            if let Some(full_at) = self.full_at.get_mut(rate.bucket).filter(|_| !wait.is_zero()) {
                *full_at = Some(now.at + wait);
            }
        }
    }

    /// What a successor needs to go on.
    #[must_use]
    pub fn full_at_ms(&self, now: Now) -> Vec<u64> {
        let missing = |at: Instant| at.saturating_duration_since(now.at).as_nanos().div_ceil(1_000_000);
        let at_ms = |at: Option<Instant>| match at.map_or(0, missing) {
            0 => 0,
            missing => now.ms.saturating_add(u64::try_from(missing).unwrap_or(u64::MAX)),
        };
        self.full_at.iter().copied().map(at_ms).collect()
    }

    /// When a call with so many items may be made, if not now.
    #[must_use]
    pub fn wait_until(&self, rate: &Rate, items: usize, now: Instant) -> Option<Instant> {
        let full_at = (*self.full_at.get(rate.bucket)?)?;
        let may_miss = rate.every * (rate.burst - rate.tokens(items));
        (now + may_miss < full_at).then(|| full_at - may_miss)
    }

    /// A call with so many items is made.
    pub fn take(&mut self, rate: &Rate, items: usize, now: Instant) {
        if let Some(full_at) = self.full_at.get_mut(rate.bucket) {
            *full_at = Some((*full_at).map_or(now, |at| at.max(now)) + rate.every * rate.tokens(items));
        }
    }

    /// How many tokens there are.
    #[must_use]
    pub fn left(&self, rate: &Rate, now: Instant) -> u64 {
        let missing = self
            .full_at
            .get(rate.bucket)
            .copied()
            .flatten()
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let missing = missing.as_nanos().div_ceil(rate.every.as_nanos().max(1));
        u64::from(rate.burst).saturating_sub(u64::try_from(missing).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { bucket: 1, burst: 25, every: Duration::from_secs(12), each: false };

    #[test]
    fn a_full_bucket_is_emptied_at_once_and_fills_slowly() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        for left in (0..25).rev() {
            assert_eq!(budget.wait_until(&RATE, 100, now), None);
            budget.take(&RATE, 100, now);
            assert_eq!(budget.left(&RATE, now), left);
        }
        assert_eq!(budget.wait_until(&RATE, 1, now), Some(now + RATE.every));
        let each = Rate { each: true, ..RATE };
        assert_eq!(budget.wait_until(&each, 10, now), Some(now + 10 * RATE.every));
        assert_eq!(budget.wait_until(&each, 1_000, now), Some(now + 25 * RATE.every), "when it is full");
        assert_eq!(budget.wait_until(&Rate { bucket: 0, ..RATE }, 1, now), None, "another bucket");
    }

    #[test]
    fn what_a_former_sender_took_is_missing() {
        let now = Now { at: Instant::now(), ms: 1_000_000 };
        let later = Now { at: now.at + Duration::from_secs(60), ms: now.ms + 60_000 };
        let (mut former, mut next) = (Budget::default(), Budget::default());
        assert_eq!(former.full_at_ms(now), [0, 0]);
        (0..25).for_each(|_| former.take(&RATE, 1, now.at));
        next.go_on(&former.full_at_ms(now), [RATE].into_iter(), later);
        assert_eq!((former.left(&RATE, later.at), next.left(&RATE, later.at)), (5, 5));
        next.go_on(&[0, u64::MAX], [RATE].into_iter(), now);
        assert_eq!(next.wait_until(&RATE, 1, now.at), Some(now.at + RATE.every), "empty, not more than that");
        let (mut fresh, full) = (Budget::default(), former.full_at_ms(now));
        fresh.go_on(&full, [RATE].into_iter(), Now { at: now.at, ms: now.ms + 300_000 });
        assert_eq!(fresh.full_at_ms(now), [0, 0], "it is full again");
    }

    proptest! {
        #[test]
        fn no_window_sees_more_than_the_bucket_and_what_came_back(steps in proptest::collection::vec((1..30_usize, 0..40_u64), 1..60)) {
            let each = Rate { each: true, ..RATE };
            let (mut budget, mut now) = (Budget::default(), Instant::now());
            let mut taken: Vec<(Instant, u32)> = Vec::new();
            for (items, wait) in steps {
                now = budget.wait_until(&each, items, now).unwrap_or(now) + Duration::from_secs(wait);
                prop_assert_eq!(budget.wait_until(&each, items, now), None);
                budget.take(&each, items, now);
                taken.push((now, each.tokens(items)));
                for (first, (from, _)) in taken.iter().enumerate() {
                    let sum: u32 = taken[first..].iter().map(|(_, tokens)| tokens).sum();
                    prop_assert!(u128::from(sum) <= u128::from(each.burst) + (now - *from).as_millis() / each.every.as_millis());
                }
            }
        }
    }
}
