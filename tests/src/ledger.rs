//! What was sent and accepted, counted by the sender: the truth that everything else is compared with.

use std::collections::BTreeMap;

/// The powers of two of the classic buckets' bounds: 2^-12 s to 2^5 s.
pub const CLASSIC_OCTAVES: std::ops::RangeInclusive<i32> = -12..=5;

/// What the requests of one series have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// `service_name`.
    pub service: String,
    /// `http_request_method`.
    pub method: String,
    /// `http_route`.
    pub route: String,
    /// `http_response_status_code`.
    pub status: u16,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Unix milliseconds.
    pub ts: u64,
    /// Its series.
    pub series: Series,
    /// How long it took, where known.
    pub duration_us: Option<u64>,
}

/// What was counted of one series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests, with and without a duration.
    pub requests: u64,
    /// Those with a duration.
    pub timed: u64,
    /// Their sum.
    pub sum_us: u128,
    /// How many took at most 2^octave seconds, for each of [`CLASSIC_OCTAVES`]; `None` where the source has no such buckets.
    pub classic: Option<Vec<u64>>,
}

/// Counts of every series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger(pub BTreeMap<Series, Count>);

impl Ledger {
    /// Counts samples.
    pub fn add<'a>(&mut self, samples: impl IntoIterator<Item = &'a Sample>) {
        for sample in samples {
            let count = self.0.entry(sample.series.clone()).or_default();
            count.requests += 1;
            let classic = count.classic.get_or_insert_with(|| vec![0; CLASSIC_OCTAVES.count()]);
            let Some(us) = sample.duration_us else { continue };
            count.timed += 1;
            count.sum_us += u128::from(us);
            for (below, octave) in classic.iter_mut().zip(CLASSIC_OCTAVES) {
                *below += u64::from(is_within(us, octave));
            }
        }
    }

    /// Requests of all series.
    pub fn requests(&self) -> u64 {
        self.0.values().map(|count| count.requests).sum()
    }

    /// The same without classic buckets, to be compared with sources that have none.
    #[must_use]
    pub fn without_classic(&self) -> Self {
        let plain = |count: &Count| Count { classic: None, ..count.clone() };
        Self(self.0.iter().map(|(series, count)| (series.clone(), plain(count))).collect())
    }

    /// Where two ledgers differ, at most ten lines; empty when they are equal.
    pub fn differences(&self, seen: &Self) -> Vec<String> {
        let keys = self.0.keys().chain(seen.0.keys().filter(|series| !self.0.contains_key(series)));
        let differing = keys.filter(|series| self.0.get(series) != seen.0.get(series));
        let describe = |series: &Series| {
            format!("{series:?}: sent {:?}, seen {:?}", self.0.get(series), seen.0.get(series))
        };
        differing.take(10).map(describe).collect()
    }
}

/// Whether a duration is at most 2^octave seconds, in whole numbers.
fn is_within(us: u64, octave: i32) -> bool {
    let second = 1_000_000_u128;
    if octave >= 0 { u128::from(us) <= second << octave } else { u128::from(us) << -octave <= second }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_their_bucket() {
        let cases = [(1_000_000, 0, true), (1_000_001, 0, false), (500_000, -1, true), (500_001, -1, false)];
        for (us, octave, within) in cases {
            assert_eq!(is_within(us, octave), within, "{us} µs, 2^{octave} s");
        }
        assert!(is_within(244, -12) && !is_within(245, -12));
    }

    #[test]
    fn a_missing_and_an_additional_series_are_both_differences() {
        let sample = |route: &str| Sample {
            ts: 0,
            series: Series { service: "s".into(), method: "GET".into(), route: route.into(), status: 200 },
            duration_us: None,
        };
        let (mut sent, mut seen) = (Ledger::default(), Ledger::default());
        sent.add(&[sample("/a"), sample("/b")]);
        seen.add(&[sample("/b"), sample("/c")]);
        assert_eq!(sent.differences(&seen).len(), 2);
        assert!(sent.differences(&sent).is_empty());
    }
}
