//! Latency as an exponential histogram of schema 5: 32 buckets an octave, at most 1.1 % error.
//!
//! Bucket `i` holds the durations in `(2^((i-1)/32), 2^(i/32)]` **seconds**, which is the scheme of Prometheus native
//! histograms (schema 5) and of OpenTelemetry exponential histograms (scale 5, whose index is `i - 1`). Durations arrive as whole
//! microseconds, so the boundaries are kept as integers too: membership is exact, and no float is touched when counting.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Prometheus' name for the resolution: `2^(2^-5)` between bounds.
pub const SCHEMA: i32 = 5;
/// Buckets an octave, `2^SCHEMA`.
pub const BUCKETS_PER_OCTAVE: i32 = 32;
/// The largest relative error of a quantile: `(γ - 1) / (γ + 1)` for the growth factor `γ = 2^(1/32)`, because an estimate is
/// the value with equal relative distance to both bounds (Masson, Rim, Lee: "DDSketch", VLDB 2019, section 2.1).
pub const RELATIVE_ERROR: f64 = 0.010_830;
/// The longest duration that is counted, 24 hours; the ingress refuses a longer one.
pub const MAX_DURATION_US: u64 = 24 * 60 * 60 * 1_000_000;

/// The bucket of 1 µs, `ceil(32 * log2(1e-6))`: no duration above zero lies below it.
pub const FIRST_BUCKET: i32 = -637;
/// The bucket of [`MAX_DURATION_US`].
pub const LAST_BUCKET: i32 = 525;
/// Octaves of [`MAX_DURATION_US`], in microseconds.
const OCTAVES: usize = MAX_DURATION_US.ilog2() as usize + 1;
const BUCKETS: usize = (LAST_BUCKET - FIRST_BUCKET + 1) as usize;

/// The largest whole microsecond of every bucket, from [`FIRST_BUCKET`].
static UPPER_US: LazyLock<[u64; BUCKETS]> = LazyLock::new(|| {
    std::array::from_fn(|slot| {
        let bucket = FIRST_BUCKET + slot as i32;
        (upper_bound_seconds(bucket) * 1e6).floor() as u64
    })
});

/// For each octave and top five mantissa bits of a duration, the lowest bucket that it can lie in (as a slot of [`UPPER_US`]).
static FIRST_SLOT: LazyLock<[u16; OCTAVES * 32]> = LazyLock::new(|| {
    let upper = &*UPPER_US;
    std::array::from_fn(|cell| {
        let (octave, top) = (cell / 32, (cell % 32) as u64);
        let lowest = ((32 + top) << octave) >> 5;
        upper.partition_point(|&bound| bound < lowest.max(1)) as u16
    })
});

/// The upper bound of a bucket in seconds, `2^(bucket/32)`; exact at whole octaves.
#[must_use]
pub fn upper_bound_seconds(bucket: i32) -> f64 {
    let octave = bucket.div_euclid(BUCKETS_PER_OCTAVE);
    let step = bucket.rem_euclid(BUCKETS_PER_OCTAVE);
    let fraction = if step == 0 { 1.0 } else { (f64::from(step) / f64::from(BUCKETS_PER_OCTAVE)).exp2() };
    fraction * f64::from(octave).exp2()
}

/// The bucket of a duration above zero; durations above [`MAX_DURATION_US`] count in the last one.
#[must_use]
pub fn bucket_of(duration_us: u64) -> i32 {
    FIRST_BUCKET + slot_of(duration_us) as i32
}

#[inline]
fn slot_of(duration_us: u64) -> usize {
    let duration_us = duration_us.clamp(1, MAX_DURATION_US);
    let octave = duration_us.ilog2();
    let top = ((duration_us << 5) >> octave) as usize & 31;
    let mut slot = usize::from(FIRST_SLOT[(octave as usize) * 32 + top]);
    let upper = &*UPPER_US;
    while upper[slot] < duration_us {
        slot += 1;
    }
    slot
}

/// Counts of durations by bucket, with exact count, sum, minimum and maximum.
///
/// In memory the buckets from the lowest to the highest in use are dense; on the wire only those in use are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Wire", into = "Wire")]
#[schemars(with = "Wire")]
pub struct Histogram {
    zeros: u64,
    count: u64,
    sum_us: u128,
    min_us: u64,
    max_us: u64,
    first_slot: u16,
    counts: Vec<u64>,
}

impl Histogram {
    /// Counts one duration in microseconds.
    #[inline]
    pub fn record(&mut self, duration_us: u64) {
        self.min_us = if self.count == 0 { duration_us } else { self.min_us.min(duration_us) };
        self.max_us = self.max_us.max(duration_us);
        self.count += 1;
        self.sum_us += u128::from(duration_us);
        if duration_us == 0 {
            self.zeros += 1;
        } else {
            *self.slot(slot_of(duration_us)) += 1;
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.min_us = if self.count == 0 { other.min_us } else { self.min_us.min(other.min_us) };
        self.max_us = self.max_us.max(other.max_us);
        self.count += other.count;
        self.sum_us += other.sum_us;
        self.zeros += other.zeros;
        if let Some(last) = other.counts.len().checked_sub(1) {
            let first = usize::from(other.first_slot);
            self.reserve(first, first + last);
            let start = first - usize::from(self.first_slot);
            for (mine, theirs) in self.counts[start..].iter_mut().zip(&other.counts) {
                *mine += theirs;
            }
        }
    }

    /// Takes out all of `other`, which was merged before. `rest` is everything else that was: the shortest and the longest are among it.
    pub fn unmerge<'a>(&mut self, other: &Self, rest: impl Iterator<Item = &'a Self>) {
        if other.count == self.count {
            *self = Self::default();
            return;
        }
        self.count -= other.count;
        self.sum_us -= other.sum_us;
        self.zeros -= other.zeros;
        let start = usize::from(other.first_slot).saturating_sub(usize::from(self.first_slot));
        for (mine, theirs) in self.counts.iter_mut().skip(start).zip(&other.counts) {
            *mine -= theirs;
        }
        let extremes = rest.filter(|rest| rest.count > 0).map(|rest| (rest.min_us, rest.max_us));
        let extremes = extremes.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        (self.min_us, self.max_us) = extremes.unwrap_or((self.min_us, self.max_us));
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many of them were zero.
    #[must_use]
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Their sum in microseconds, exact.
    #[must_use]
    pub fn sum_us(&self) -> u128 {
        self.sum_us
    }

    /// Their sum in seconds, as near as a double comes.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// The shortest, in microseconds; `None` when nothing was counted.
    #[must_use]
    pub fn min_us(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min_us)
    }

    /// The longest, in microseconds; `None` when nothing was counted.
    #[must_use]
    pub fn max_us(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max_us)
    }

    /// Mean in seconds; `None` when nothing was counted.
    #[must_use]
    pub fn mean_seconds(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_seconds() / self.count as f64)
    }

    /// The buckets in use, ascending, each with its own (not cumulative) count. Zeros are in none of them.
    pub fn buckets(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        let first = FIRST_BUCKET + i32::from(self.first_slot);
        self.counts.iter().enumerate().filter(|(_, n)| **n > 0).map(move |(i, n)| (first + i as i32, *n))
    }

    /// The value below which the share `q` (0 to 1) of the durations lies, in seconds, within [`RELATIVE_ERROR`]; `None` when empty.
    ///
    /// The rank is `ceil(q * count)` (the nearest-rank definition), so that a quantile is always near a value that occurred.
    #[must_use]
    pub fn quantile_seconds(&self, q: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).clamp(1, self.count);
        let mut below = self.zeros;
        if rank <= below {
            return Some(0.0);
        }
        for (bucket, count) in self.buckets() {
            below += count;
            if rank <= below {
                return Some(self.within_extremes(centre_seconds(bucket)));
            }
        }
        self.max_us().map(|us| us as f64 / 1e6)
    }

    /// Whether the parts agree: the buckets and zeros hold `count` durations. A histogram off the bus is checked before it is used.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let held = self.counts.iter().try_fold(self.zeros, |sum, n| sum.checked_add(*n));
        held == Some(self.count) && self.min_us <= self.max_us
    }

    fn within_extremes(&self, seconds: f64) -> f64 {
        seconds.clamp(self.min_us as f64 / 1e6, self.max_us as f64 / 1e6)
    }

    #[inline]
    fn slot(&mut self, slot: usize) -> &mut u64 {
        let first = usize::from(self.first_slot);
        if slot < first || slot >= first + self.counts.len() {
            self.reserve(slot, slot);
        }
        let first = usize::from(self.first_slot);
        &mut self.counts[slot - first]
    }

    /// Widens the dense range to hold the slots `first..=last`.
    fn reserve(&mut self, first: usize, last: usize) {
        if self.counts.is_empty() {
            self.first_slot = first as u16;
        }
        let have = usize::from(self.first_slot);
        if first < have {
            self.counts.splice(0..0, std::iter::repeat_n(0, have - first));
            self.first_slot = first as u16;
        }
        let needed = last + 1 - usize::from(self.first_slot);
        if needed > self.counts.len() {
            self.counts.resize(needed, 0);
        }
    }
}

/// The value with the same relative distance to both bounds of a bucket.
fn centre_seconds(bucket: i32) -> f64 {
    let (low, high) = (upper_bound_seconds(bucket - 1), upper_bound_seconds(bucket));
    2.0 * low * high / (low + high)
}

/// A histogram on the wire: only buckets in use, each as its distance from the one before, and its count.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
struct Wire {
    #[serde(default, skip_serializing_if = "is_zero")]
    zeros: u64,
    sum_us: u64,
    /// The sum's upper 64 bits: a busy platform passes 2^64 µs in months.
    #[serde(default, skip_serializing_if = "is_zero")]
    sum_us_high: u64,
    min_us: u64,
    max_us: u64,
    /// The first bucket's index, then the distance of each next one.
    bucket: Vec<i32>,
    n: Vec<u64>,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl From<Histogram> for Wire {
    fn from(histogram: Histogram) -> Self {
        let mut before = 0;
        let (bucket, n) = histogram
            .buckets()
            .map(|(bucket, n)| (bucket - std::mem::replace(&mut before, bucket), n))
            .unzip();
        Self {
            zeros: histogram.zeros,
            sum_us: histogram.sum_us as u64,
            sum_us_high: (histogram.sum_us >> 64) as u64,
            min_us: histogram.min_us,
            max_us: histogram.max_us,
            bucket,
            n,
        }
    }
}

impl From<Wire> for Histogram {
    /// Buckets out of range are left out, which [`Histogram::is_consistent`] does not hide: the count is theirs too.
    fn from(wire: Wire) -> Self {
        let total = wire.n.iter().fold(wire.zeros, |sum, n| sum.saturating_add(*n));
        let mut histogram = Self {
            zeros: wire.zeros,
            count: total,
            sum_us: (u128::from(wire.sum_us_high) << 64) | u128::from(wire.sum_us),
            min_us: wire.min_us,
            max_us: wire.max_us,
            first_slot: 0,
            counts: Vec::new(),
        };
        let mut bucket = 0_i32;
        for (distance, n) in wire.bucket.iter().zip(&wire.n) {
            bucket = bucket.saturating_add(*distance);
            if (FIRST_BUCKET..=LAST_BUCKET).contains(&bucket) {
                let slot = histogram.slot((bucket - FIRST_BUCKET) as usize);
                *slot = slot.saturating_add(*n);
            }
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lies_within_its_buckets_bounds() {
        let powers = (0..37).flat_map(|p| [(1_u64 << p) - 1, 1 << p, (1 << p) + 1]);
        let seconds = (0..17).flat_map(|p| [999_999, 1_000_000, 1_000_001].map(|us: u64| us << p));
        for us in powers.chain(seconds).chain(1..5_000).filter(|us| (1..=MAX_DURATION_US).contains(us)) {
            let bucket = bucket_of(us);
            let seconds = us as f64 / 1e6;
            assert!(upper_bound_seconds(bucket - 1) < seconds, "{us} µs is not above bucket {bucket}");
            assert!(seconds <= upper_bound_seconds(bucket), "{us} µs is above bucket {bucket}");
        }
        assert_eq!((bucket_of(1), bucket_of(MAX_DURATION_US)), (FIRST_BUCKET, LAST_BUCKET));
        assert_eq!(bucket_of(1_000_000), 0, "one second closes bucket 0");
        assert_eq!(bucket_of(u64::MAX), LAST_BUCKET);
    }

    #[test]
    fn bounds_at_whole_octaves_are_exact_powers_of_two() {
        for octave in -20..=17 {
            assert_eq!(upper_bound_seconds(octave * BUCKETS_PER_OCTAVE), 2_f64.powi(octave));
        }
    }

    #[test]
    fn merging_is_the_same_as_counting_together() {
        let values = [0, 1, 7, 7, 1_000, 12_345, 1_000_000, MAX_DURATION_US, 0, 3];
        let (mut left, mut right, mut both) = <(Histogram, Histogram, Histogram)>::default();
        for (i, us) in values.into_iter().enumerate() {
            if i % 2 == 0 {
                left.record(us)
            } else {
                right.record(us)
            }
            both.record(us);
        }
        left.merge(&right);
        left.merge(&Histogram::default());
        assert_eq!(left, both);
        assert!(both.is_consistent());
        assert_eq!(
            (both.count(), both.zeros(), both.min_us(), both.max_us()),
            (10, 2, Some(0), Some(MAX_DURATION_US))
        );
    }

    #[test]
    fn what_is_taken_out_leaves_the_rest() {
        let of = |durations: &[u64]| {
            let mut histogram = Histogram::default();
            durations.iter().for_each(|us| histogram.record(*us));
            histogram
        };
        let parts = [of(&[0, 1, 1, MAX_DURATION_US]), of(&[]), of(&[7, 12_345]), of(&[0, 90, 12_345])];
        let mut all = Histogram::default();
        parts.iter().for_each(|part| all.merge(part));
        for at in 0..parts.len() {
            all.unmerge(&parts[at], parts[at + 1..].iter());
            let mut rest = Histogram::default();
            parts[at + 1..].iter().for_each(|part| rest.merge(part));
            assert_eq!(Wire::from(all.clone()).bucket, Wire::from(rest.clone()).bucket);
            assert_eq!((all.count(), all.zeros(), all.sum_us()), (rest.count(), rest.zeros(), rest.sum_us()));
            assert_eq!((all.min_us(), all.max_us()), (rest.min_us(), rest.max_us()));
            assert!(all.is_consistent());
        }
        assert_eq!(all, Histogram::default());
    }

    #[test]
    fn the_wire_form_brings_everything_back() {
        let mut histogram = Histogram::default();
        for us in [0, 5, 5, 900, 1_000_000, 77_000_000] {
            histogram.record(us);
        }
        let bytes = rmp_serde::to_vec_named(&histogram).expect("encodes");
        let back: Histogram = rmp_serde::from_slice(&bytes).expect("decodes");
        assert_eq!(back, histogram);
    }

    #[test]
    fn a_bucket_out_of_range_is_found_out() {
        let wire = Wire { bucket: vec![10_000], n: vec![3], max_us: 1, ..Wire::default() };
        assert!(!Histogram::from(wire).is_consistent());
        let overflow = Wire { bucket: vec![0, 1], n: vec![u64::MAX, u64::MAX], max_us: 1, ..Wire::default() };
        assert!(!Histogram::from(overflow).is_consistent());
    }

    #[test]
    fn quantiles_of_little_are_what_occurred() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_seconds(0.5), None);
        histogram.record(0);
        assert_eq!(histogram.quantile_seconds(0.99), Some(0.0));
        histogram.record(12_500);
        let highest = histogram.quantile_seconds(1.0).expect("not empty");
        assert!((highest / 0.0125 - 1.0).abs() <= RELATIVE_ERROR, "{highest}");
    }
}
