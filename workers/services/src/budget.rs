//! How many calls may be tried again: a share of all, so that a service that fails is not called all the more.

/// Calls that may be tried again although few were made lately.
const RESERVE: f64 = 20.0;

/// What is left for retries. Every call adds a share of one, every retry takes one.
#[derive(Debug, Clone)]
pub struct Budget {
    share: f64,
    left: f64,
}

impl Budget {
    /// `share` of all calls may be tried again, and a few at any time.
    #[must_use]
    pub const fn of(share: f64) -> Self {
        Self { share, left: if share > 0.0 { RESERVE } else { 0.0 } }
    }

    /// A call is made.
    pub fn called(&mut self) {
        if self.share > 0.0 {
            self.left = (self.left + self.share).min(RESERVE);
        }
    }

    /// Whether one may be tried again; if so, that is taken.
    pub fn retry(&mut self) -> bool {
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fifth_of_all_calls() {
        let mut budget = Budget::of(0.2);
        let retries = (0..10_000).filter(|_| {
            budget.called();
            budget.retry()
        });
        let retries = retries.count();
        assert!((2_000..=2_020).contains(&retries), "{retries}");
    }

    #[test]
    fn a_few_are_free_and_none_without_a_share() {
        let mut budget = Budget::of(0.2);
        assert_eq!((0..100).filter(|_| budget.retry()).count(), 20);
        let mut none = Budget::of(0.0);
        none.called();
        assert!(!none.retry());
    }
}
