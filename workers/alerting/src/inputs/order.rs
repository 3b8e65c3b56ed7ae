//! Slices are taken once each and without a gap: each says where it begins and ends.

use std::collections::HashMap;

use keelson_schemas::slice::Slice;
use tracing::error;

/// How far the slices of every partition were taken.
#[derive(Debug, Default)]
pub(super) struct Order(HashMap<u8, End>);

#[derive(Debug)]
struct End {
    stream: u64,
    through: u64,
}

impl Order {
    /// Whether a slice is new. One that does not begin where the last one ended is told of: samples are missing.
    pub fn take(&mut self, slice: &Slice) -> bool {
        let next = End { stream: slice.stream, through: slice.through };
        let Some(last) = self.0.get_mut(&slice.partition) else {
            self.0.insert(slice.partition, next);
            return true;
        };
        let goes_on = slice.stream == last.stream;
        if slice.stream < last.stream || (goes_on && slice.through <= last.through) {
            return false;
        }
        if goes_on && slice.after > last.through {
            error!(
                partition = slice.partition,
                after = last.through,
                until = slice.after,
                "slices are missing; the rules do not see what they counted"
            );
        }
        *last = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(partition: u8, stream: u64, after: u64, through: u64) -> Slice {
        Slice { partition, stream, after, through, ..Slice::default() }
    }

    #[test]
    fn older_ranges_are_passed_over() {
        let mut order = Order::default();
        for (slice, is_new) in [
            (slice(0, 1, 40, 50), true),
            (slice(0, 1, 40, 50), false),
            (slice(0, 1, 30, 40), false),
            (slice(1, 1, 0, 10), true),
            (slice(0, 1, 50, 60), true),
            (slice(0, 1, 70, 80), true),
            (slice(0, 2, 0, 5), true),
            (slice(0, 1, 80, 90), false),
        ] {
            assert_eq!(order.take(&slice), is_new, "{slice:?}");
        }
    }
}
