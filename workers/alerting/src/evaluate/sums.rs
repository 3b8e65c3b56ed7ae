//! Running sums. Whole numbers only, so that what is taken out again leaves no trace, and a value is at its threshold when it should be.

use keelson_schemas::slice::Cell;

use super::window::Amount;
use crate::signal::Measure;

/// Billionths: what sums of durations (in seconds) and of readings are kept in.
const BILLION: i128 = 1_000_000_000;
/// No reading counts for more than this, so that no sum of them can overflow.
const LARGEST: f64 = 1e18;

/// What was counted of samples or readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// All of them.
    pub count: u64,
    /// Those that failed or were slow.
    pub marked: u64,
    /// Those whose duration is known.
    pub timed: u64,
    /// The sum of durations or readings, in billionths.
    pub sum: i128,
}

impl Sums {
    /// What a cell holds, `marked` of whose samples are marked.
    pub fn of_cell(cell: &Cell, marked: u64) -> Self {
        let sum = (cell.latency.sum_us() as i128).saturating_mul(1_000);
        Self { count: cell.count, marked, timed: cell.latency.count(), sum }
    }

    /// One reading.
    pub fn of_reading(value: f64) -> Self {
        let value = value.clamp(-LARGEST, LARGEST);
        Self { count: 1, marked: 0, timed: 1, sum: (value * BILLION as f64).round() as i128 }
    }

    /// The value that they come to in a window of `window_s` seconds; none if they tell nothing. That there were none is something only if it `is_known`.
    pub fn value(&self, measure: Measure, window_s: u64, is_known: bool) -> Option<f64> {
        let told = |value: f64| (is_known || self.count > 0).then_some(value);
        match measure {
            Measure::Count => told(self.count as f64),
            Measure::Marked => told(self.marked as f64),
            Measure::Rate => told(self.count as f64 / window_s as f64),
            Measure::Ratio => (self.count > 0).then(|| self.marked as f64 / self.count as f64),
            Measure::Mean => (self.timed > 0).then(|| quotient(self.sum, i128::from(self.timed) * BILLION)),
            Measure::Sum => told(quotient(self.sum, BILLION)),
            Measure::Quantile(_) | Measure::Last => None,
        }
    }

    /// How many samples the value rests on.
    pub fn samples(&self, measure: Measure) -> u64 {
        if measure == Measure::Mean { self.timed } else { self.count }
    }
}

/// A quotient that is exact where it is whole, however large the numbers.
fn quotient(sum: i128, divisor: i128) -> f64 {
    (sum / divisor) as f64 + (sum % divisor) as f64 / divisor as f64
}

impl Amount for Sums {
    const BYTES: usize = 100;

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.marked += other.marked;
        self.timed += other.timed;
        self.sum += other.sum;
    }

    fn take_out<'a>(&mut self, other: &Self, _rest: impl Iterator<Item = &'a Self>) {
        self.count -= other.count;
        self.marked -= other.marked;
        self.timed -= other.timed;
        self.sum -= other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_of_sums() {
        let sums = Sums { count: 40, marked: 2, timed: 4, sum: 8 * BILLION };
        for (measure, expected) in [
            (Measure::Count, 40.0),
            (Measure::Marked, 2.0),
            (Measure::Rate, 4.0),
            (Measure::Ratio, 0.05),
            (Measure::Mean, 2.0),
            (Measure::Sum, 8.0),
        ] {
            assert_eq!(sums.value(measure, 10, false), Some(expected), "{measure:?}");
        }
    }

    #[test]
    fn nothing_is_zero_only_where_it_is_known() {
        for (measure, known) in [
            (Measure::Count, Some(0.0)),
            (Measure::Marked, Some(0.0)),
            (Measure::Rate, Some(0.0)),
            (Measure::Sum, Some(0.0)),
            (Measure::Ratio, None),
            (Measure::Mean, None),
        ] {
            assert_eq!(Sums::default().value(measure, 10, true), known, "{measure:?}");
            assert_eq!(Sums::default().value(measure, 10, false), None, "{measure:?}");
        }
    }

    #[test]
    fn a_mean_of_equal_values_is_that_value_however_many_there_are() {
        let mut sums = Sums::default();
        for n in 1..1_000 {
            sums.add(&Sums::of_reading(0.9));
            assert_eq!(sums.value(Measure::Mean, 60, false), Some(0.9), "{n}");
        }
        let mut sums = Sums::default();
        (0..1_000).for_each(|_| sums.add(&Sums::of_reading(f64::MAX)));
        assert_eq!(sums.value(Measure::Mean, 60, false), Some(LARGEST));
        let many = 77_777_777_777;
        let sums = Sums { count: many, marked: 0, timed: many, sum: i128::from(many) * 2 * BILLION };
        assert_eq!(sums.value(Measure::Mean, 60, false), Some(2.0));
    }
}
