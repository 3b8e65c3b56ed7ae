//! Waiting between attempts. The one user of the `backoff` crate: it is no longer maintained, and whatever takes its place is
//! put in here.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// A wait grows by this much from one attempt to the next.
const MULTIPLIER: f64 = 2.0;
/// A wait is this much shorter or longer by chance, so that what failed together does not come back together.
const JITTER: f64 = 0.3;
/// After as many doublings every schedule has reached its longest wait.
const MOST_DOUBLINGS: u32 = 40;

/// Waits that double from `first` to `longest`, jittered by 30 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait, before jitter.
    pub longest: Duration,
}

impl Schedule {
    /// For things on this machine and on the bus.
    pub const NEAR: Self = Self { first: Duration::from_millis(50), longest: Duration::from_secs(2) };
    /// For outside systems.
    pub const FAR: Self = Self { first: Duration::from_secs(1), longest: Duration::from_secs(300) };

    fn starting_at(self, interval: Duration) -> ExponentialBackoff {
        ExponentialBackoff {
            current_interval: interval.min(self.longest),
            initial_interval: self.first,
            randomization_factor: JITTER,
            multiplier: MULTIPLIER,
            max_interval: self.longest,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        }
    }
}

/// The waits of one run of failures.
#[derive(Debug)]
pub struct Backoff {
    inner: ExponentialBackoff,
    longest: Duration,
}

impl Backoff {
    /// A run that has not failed yet.
    pub fn new(schedule: Schedule) -> Self {
        Self { inner: schedule.starting_at(schedule.first), longest: schedule.longest }
    }

    /// How long to wait after one more failure.
    pub fn next_wait(&mut self) -> Duration {
        self.inner.next_backoff().unwrap_or(self.longest)
    }

    /// After a success: the next failure is a first one.
    pub fn reset(&mut self) {
        self.inner.reset();
    }
}

/// How long to wait after failure number `attempt`, counted from 1, when the count is kept elsewhere than in memory.
pub fn wait_for_attempt(schedule: Schedule, attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(MOST_DOUBLINGS);
    let interval = schedule.first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX));
    schedule.starting_at(interval).next_backoff().unwrap_or(schedule.longest)
}

/// Runs `attempt` until it succeeds, fails for good, or `within` is over; then the last error is returned.
pub async fn retry<T, E, Fut>(
    schedule: Schedule,
    within: Duration,
    may_pass: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Fut,
) -> Result<T, E>
where
    Fut: Future<Output = Result<T, E>>,
{
    let deadline = tokio::time::Instant::now() + within;
    let mut waits = Backoff::new(schedule);
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let wait = waits.next_wait();
        if !may_pass(&error) || tokio::time::Instant::now() + wait > deadline {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule =
        Schedule { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

    #[test]
    fn waits_double_up_to_the_longest_within_the_jitter() {
        let cases =
            [(0, 100), (1, 100), (2, 200), (3, 400), (5, 1600), (6, 2000), (99, 2000), (u32::MAX, 2000)];
        for (attempt, about_ms) in cases {
            let wait = wait_for_attempt(SCHEDULE, attempt).as_millis();
            assert!(
                (about_ms * 69 / 100..=about_ms * 131 / 100).contains(&wait),
                "attempt {attempt}: {wait} ms"
            );
        }
    }

    #[test]
    fn a_run_of_failures_has_the_same_waits() {
        let mut waits = Backoff::new(SCHEDULE);
        let total: Duration = (0..20).map(|_| waits.next_wait()).sum();
        assert!(total > Duration::from_secs(20) && total < Duration::from_secs(50), "{total:?}");
        waits.reset();
        assert!(waits.next_wait() <= Duration::from_millis(131));
    }

    #[tokio::test(start_paused = true)]
    async fn retry_gives_up_for_good_errors_at_once_and_for_passing_ones_in_time() {
        for (may_pass, most) in [(false, 1), (true, 100)] {
            let tries = std::sync::atomic::AtomicU32::new(0);
            let result: Result<(), &str> = retry(
                SCHEDULE,
                Duration::from_secs(10),
                |_| may_pass,
                || async {
                    tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    Err("no")
                },
            )
            .await;
            let tries = tries.into_inner();
            assert_eq!(result, Err("no"));
            assert!(tries <= most && (tries > 1) == may_pass, "{tries}");
        }
    }
}
