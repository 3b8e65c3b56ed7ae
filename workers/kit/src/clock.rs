//! The time, as a value that is handed in. Production code asks a [`Clock`] instead of the operating system, so that
//! a test sets the time and never sleeps through it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// Wall time for what is written down, monotonic time for what is measured. Cheap to clone; clones share one time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    manual: Option<Arc<Manual>>,
}

#[derive(Debug)]
struct Manual {
    time: Mutex<Time>,
    moved: watch::Sender<()>,
}

#[derive(Clone, Copy, Debug)]
struct Time {
    wall_ms: u64,
    monotonic: Instant,
}

impl Clock {
    /// The clock of this machine.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands still at `wall_ms` until [`Clock::advance`] or [`Clock::set_wall_ms`] moves it.
    pub fn manual(wall_ms: u64) -> Self {
        let time = Mutex::new(Time { wall_ms, monotonic: Instant::now() });
        Self { manual: Some(Arc::new(Manual { time, moved: watch::Sender::new(()) })) }
    }

    /// Unix milliseconds. It may jump, and it may differ between machines: never measure a duration with it.
    pub fn now_ms(&self) -> u64 {
        match &self.manual {
            Some(manual) => manual.time().wall_ms,
            None => unix_ms(SystemTime::now()),
        }
    }

    /// The monotonic clock of this machine. It goes on while a process is stopped (SIGSTOP); it may stand still
    /// while the whole machine is suspended.
    pub fn now(&self) -> Instant {
        match &self.manual {
            Some(manual) => manual.time().monotonic,
            None => Instant::now(),
        }
    }

    /// Waits until [`Clock::now`] reaches `deadline`.
    pub async fn sleep_until(&self, deadline: Instant) {
        match &self.manual {
            Some(manual) => manual.sleep_until(deadline).await,
            None => tokio::time::sleep_until(deadline.into()).await,
        }
    }

    /// Waits for `duration` of this clock's monotonic time.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    /// Moves both times of a manual clock forward. The clock of the machine is not moved.
    pub fn advance(&self, by: Duration) {
        self.change(|time| {
            time.wall_ms = time.wall_ms.saturating_add(whole_ms(by));
            time.monotonic += by;
        });
    }

    /// Makes the wall time of a manual clock jump, as an administrator or NTP does; monotonic time stays.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.change(|time| time.wall_ms = wall_ms);
    }

    fn change(&self, change: impl FnOnce(&mut Time)) {
        if let Some(manual) = &self.manual {
            change(&mut manual.time());
            manual.moved.send_replace(());
        }
    }
}

impl Manual {
    fn time(&self) -> MutexGuard<'_, Time> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn sleep_until(&self, deadline: Instant) {
        let mut moved = self.moved.subscribe();
        while self.time().monotonic < deadline {
            if moved.changed().await.is_err() {
                return;
            }
        }
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map(whole_ms).unwrap_or(0)
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_on_a_manual_clock_wakes_when_the_time_is_moved_there() {
        let clock = Clock::manual(1_000);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(60)).await }
        });
        clock.advance(Duration::from_secs(59));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(61));
        assert!(sleeper.await.is_ok());
        assert_eq!(clock.now_ms(), 121_000);
    }

    #[test]
    fn a_jump_of_the_wall_clock_leaves_monotonic_time_alone() {
        let clock = Clock::manual(1_000);
        let before = clock.now();
        clock.set_wall_ms(5);
        assert_eq!((clock.now_ms(), clock.now()), (5, before));
    }
}
