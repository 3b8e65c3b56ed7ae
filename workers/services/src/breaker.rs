//! A circuit breaker, decided purely: who may call, and what follows from how calls end. The time is handed in.
//!
//! While it is open it lets nobody through. When its time is over it does not open by itself: one replica of the fleet claims the probes
//! ([`Breaker::half_open`]), so that all replicas together let no more through than may be; at the others it stays shut ([`Breaker::leave_to`]).

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
mod window;

use std::time::{Duration, Instant};

use keelson_schemas::services::{BreakerState, Force};

use self::window::Window;

/// How long the probes of another replica are waited for before this one tries, since that one may be gone: longer than any call takes, or there would be more
/// probes than may be.
const ELSEWHERE_AT_MOST: Duration = Duration::from_secs(30);
/// When whoever is turned away because probes are under way may ask again.
const PROBES_TAKE: Duration = Duration::from_secs(1);

/// When a breaker opens, and how it recovers.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it is open.
    pub open_for: Duration,
    /// Calls that are let through while it is half-open, in all.
    pub probes: u32,
    /// Successes among them that close it.
    pub successes: u32,
    /// The share of failures in the window that opens it; none never does.
    pub failure_rate: Option<f64>,
    /// The share of slow calls in the window that opens it; none never does.
    pub slow_rate: Option<f64>,
    /// What is slow.
    pub slow_after: Duration,
    /// How many calls the window holds.
    pub window: usize,
    /// How many it must hold before a share counts.
    pub least_calls: usize,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Whether it failed.
    pub failed: bool,
    /// How long it took.
    pub took: Duration,
}

/// The right to make one call. What it was given for may be over when the call ends, and then that changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    period: u64,
}

/// Nobody may call now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shut {
    /// When it may be worth asking again.
    pub retry_after: Duration,
}

/// A breaker.
#[derive(Debug)]
pub struct Breaker {
    policy: Policy,
    state: State,
    /// Counts the states that it was in, so that a call which began in a former one is told from those of this.
    period: u64,
    failures: u32,
    window: Window,
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen {
        admitted: u32,
        succeeded: u32,
    },
    /// Another replica has the probes.
    Elsewhere {
        until: Instant,
    },
    Forced(Force),
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let window = Window::of(policy.window);
        Self { policy, state: State::Closed, period: 0, failures: 0, window, reason: None }
    }

    /// Whether a call may be made now. Takes well under a microsecond, and does nothing but count.
    ///
    /// # Errors
    /// When it may not.
    #[inline]
    pub fn admit(&mut self, now: Instant) -> Result<Ticket, Shut> {
        match &mut self.state {
            State::Closed | State::Forced(Force::Closed) => {}
            State::HalfOpen { admitted, .. } if *admitted < self.policy.probes => *admitted += 1,
            _ => return Err(self.shut(now)),
        }
        Ok(Ticket { period: self.period })
    }

    /// What [`Breaker::admit`] would say, without taking anything.
    ///
    /// # Errors
    /// When no call may be made now.
    pub fn would_admit(&self, now: Instant) -> Result<(), Shut> {
        match self.state {
            State::Closed | State::Forced(Force::Closed) => Ok(()),
            State::HalfOpen { admitted, .. } if admitted < self.policy.probes => Ok(()),
            _ => Err(self.shut(now)),
        }
    }

    /// A call has ended; whether the breaker is in another state now.
    pub fn ended(&mut self, ticket: Ticket, call: Ended, now: Instant) -> bool {
        if ticket.period != self.period {
            return false;
        }
        match self.state {
            State::Closed => self.counted(call, now),
            State::HalfOpen { .. } if call.failed => {
                self.open("a probe failed".to_owned(), now);
                true
            }
            State::HalfOpen { admitted, succeeded } if succeeded + 1 < self.policy.successes => {
                self.state = State::HalfOpen { admitted, succeeded: succeeded + 1 };
                false
            }
            State::HalfOpen { .. } => {
                self.close();
                true
            }
            State::Open { .. } | State::Elsewhere { .. } | State::Forced(_) => false,
        }
    }

    /// A call was not made after all.
    pub fn given_back(&mut self, ticket: Ticket) {
        if ticket.period == self.period
            && let State::HalfOpen { admitted, .. } = &mut self.state
        {
            *admitted = admitted.saturating_sub(1);
        }
    }

    /// Whether the probes may be claimed.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Open { until } | State::Elsewhere { until } if until <= now)
    }

    /// This replica has the probes.
    pub fn half_open(&mut self) {
        self.enter(State::HalfOpen { admitted: 0, succeeded: 0 });
    }

    /// Another replica has the probes.
    pub fn leave_to(&mut self, now: Instant) {
        self.enter(State::Elsewhere { until: now + ELSEWHERE_AT_MOST });
    }

    /// Another replica says that it is open for so long still.
    pub fn open_for(&mut self, left: Duration, reason: Option<String>, now: Instant) {
        self.enter(State::Open { until: now + left.min(self.policy.open_for) });
        self.reason = reason;
    }

    /// Somebody says what it is to be.
    pub fn force(&mut self, to: Force, reason: Option<String>) {
        self.enter(State::Forced(to));
        self.reason = reason;
    }

    /// It is closed, and begins anew.
    pub fn close(&mut self) {
        self.enter(State::Closed);
        self.reason = None;
    }

    /// What it does.
    #[must_use]
    pub const fn state(&self) -> BreakerState {
        match self.state {
            State::Closed | State::Forced(Force::Closed) => BreakerState::Closed,
            State::Open { .. } | State::Forced(Force::Open) => BreakerState::Open,
            State::HalfOpen { .. } | State::Elsewhere { .. } => BreakerState::HalfOpen,
        }
    }

    /// What it is forced to be.
    #[must_use]
    pub const fn forced(&self) -> Option<Force> {
        match self.state {
            State::Forced(force) => Some(force),
            _ => None,
        }
    }

    /// How long it is open still.
    #[must_use]
    pub fn open_left(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { until } => Some(until.saturating_duration_since(now)),
            _ => None,
        }
    }

    /// Whether this replica has the probes.
    #[must_use]
    pub const fn has_probes(&self) -> bool {
        matches!(self.state, State::HalfOpen { .. })
    }

    /// Failures in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Why it is not closed.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    fn counted(&mut self, call: Ended, now: Instant) -> bool {
        self.failures = if call.failed { self.failures.saturating_add(1) } else { 0 };
        self.window.add(call.failed, call.took >= self.policy.slow_after);
        let Some(reason) = self.too_much() else { return false };
        self.open(reason, now);
        true
    }

    fn too_much(&self) -> Option<String> {
        if self.failures >= self.policy.failures {
            return Some(format!("{} failures in a row", self.failures));
        }
        if self.window.calls() < self.policy.least_calls {
            return None;
        }
        let shares = [
            ("failed", self.window.failed(), self.policy.failure_rate),
            ("were slow", self.window.slow(), self.policy.slow_rate),
        ];
        shares.into_iter().find_map(|(what, count, rate)| {
            let calls = self.window.calls();
            (count as f64 >= rate? * calls as f64).then(|| format!("{count} of {calls} calls {what}"))
        })
    }

    fn open(&mut self, reason: String, now: Instant) {
        let failures = self.failures;
        self.enter(State::Open { until: now + self.policy.open_for });
        (self.reason, self.failures) = (Some(reason), failures);
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.period += 1;
        self.failures = 0;
        self.window = Window::of(self.policy.window);
    }

    fn shut(&self, now: Instant) -> Shut {
        let retry_after = match self.state {
            State::Open { until } => until.saturating_duration_since(now),
            State::Forced(_) => self.policy.open_for,
            _ => PROBES_TAKE,
        };
        Shut { retry_after }
    }
}
