//! When checks are due: spread over their interval by chance, so that they neither begin together nor drift together.

use std::time::{Duration, Instant};

/// How far the time between two checks may differ from the interval, as a share of it.
pub const JITTER: f64 = 0.1;

/// When the first check is due. `chance` is from 0 to 1.
#[must_use]
pub fn first(now: Instant, interval: Duration, chance: f64) -> Instant {
    now + interval.mul_f64(chance.clamp(0.0, 1.0))
}

/// When the check after one that was due at `due` is. A checker that is late does not catch up on what it missed.
#[must_use]
pub fn next(due: Instant, now: Instant, interval: Duration, chance: f64) -> Instant {
    let wait = interval.mul_f64(1.0 + JITTER * (2.0 * chance.clamp(0.0, 1.0) - 1.0));
    let next = due + wait;
    if next <= now { first(now, interval, chance) } else { next }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn five_hundred_checks_never_come_together() {
        const INTERVAL: Duration = Duration::from_secs(5);
        let start = Instant::now();
        for seed in 0..20 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut bins = vec![0_u32; 600];
            for _ in 0..500 {
                let mut due = first(start, INTERVAL, rng.random());
                while let Some(bin) = bins.get_mut((due - start).as_secs() as usize) {
                    *bin += 1;
                    due = next(due, due, INTERVAL, rng.random());
                }
            }
            assert!(bins.iter().all(|bin| *bin <= 200), "seed {seed}: {:?}", bins.iter().max());
            let all: u32 = bins.iter().sum();
            assert!((59_000..61_000).contains(&all), "seed {seed}: {all}");
        }
    }

    #[test]
    fn what_was_missed_is_not_caught_up_on() {
        let (due, interval) = (Instant::now(), Duration::from_secs(5));
        let now = due + Duration::from_secs(60);
        assert_eq!(next(due, now, interval, 0.5), now + interval / 2);
        assert_eq!(next(due, due, interval, 0.5), due + interval);
        assert_eq!(next(due, due, interval, 0.0), due + Duration::from_millis(4_500));
    }
}
