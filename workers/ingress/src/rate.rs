//! How many requests a principal may make. One bucket for each token and one for all without, so their number is fixed at the start.

use std::collections::HashMap;
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::problem::{Kind, Problem};

type Bucket<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The buckets.
#[derive(Debug)]
pub struct Rates<C: Clock = DefaultClock> {
    buckets: HashMap<String, Bucket<C>>,
    clock: C,
}

impl Rates {
    /// A bucket of `per_second` requests for each principal, by the machine's clock.
    #[must_use]
    pub fn new<'a>(principals: impl Iterator<Item = &'a str>, per_second: u32) -> Self {
        Self::with_clock(principals, per_second, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Rates<C> {
    fn with_clock<'a>(principals: impl Iterator<Item = &'a str>, per_second: u32, clock: C) -> Self {
        let quota = Quota::per_second(NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN));
        let bucket = |name: &str| (name.to_owned(), RateLimiter::direct_with_clock(quota, clock.clone()));
        Self { buckets: principals.map(bucket).collect(), clock }
    }

    /// Takes one request out of the principal's bucket.
    ///
    /// # Errors
    /// 429 with the time until there is one again.
    pub fn take(&self, principal: &str) -> Result<(), Problem> {
        let Some(Err(empty)) = self.buckets.get(principal).map(RateLimiter::check) else {
            return Ok(());
        };
        let detail =
            format!("{principal:?} makes more requests than [ingress] max_requests_per_second allows");
        Err(Problem::new(Kind::RateLimited, detail).retry_after(empty.wait_time_from(self.clock.now())))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn each_principal_has_a_bucket_that_fills_again() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::with_clock(["a", "b"].into_iter(), 2, clock.clone());
        assert!(rates.take("a").is_ok() && rates.take("a").is_ok());
        assert_eq!(rates.take("a").map_err(|problem| problem.status().as_u16()), Err(429));
        assert!(rates.take("b").is_ok(), "the other's bucket is full");
        clock.advance(Duration::from_millis(500));
        assert!(rates.take("a").is_ok());
        assert!(rates.take("a").is_err());
    }
}
