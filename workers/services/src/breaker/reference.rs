//! The breaker as one would write it down: it keeps everything that ever happened and counts it anew each time.

use std::time::{Duration, Instant};

use super::{Ended, Policy};

/// What happened in the state that it is in.
#[derive(Debug)]
pub struct Model {
    policy: Policy,
    phase: Phase,
    /// Which calls were let through, by when that was: the number of the phase.
    phases: usize,
    history: Vec<Ended>,
    let_through: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Closed,
    Open(Instant),
    HalfOpen,
}

impl Model {
    pub fn new(policy: Policy) -> Self {
        Self { policy, phase: Phase::Closed, phases: 0, history: Vec::new(), let_through: 0 }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The number of the phase, if a call is let through.
    pub fn admit(&mut self) -> Option<usize> {
        let may = match self.phase {
            Phase::Closed => true,
            Phase::Open(_) => false,
            Phase::HalfOpen => self.let_through < self.policy.probes,
        };
        self.let_through += u32::from(may);
        may.then_some(self.phases)
    }

    pub fn ended(&mut self, phase: usize, call: Ended, now: Instant) {
        if phase != self.phases {
            return;
        }
        self.history.push(call);
        match self.phase {
            Phase::Closed if self.is_bad() => self.go(Phase::Open(now + self.policy.open_for)),
            Phase::HalfOpen if call.failed => self.go(Phase::Open(now + self.policy.open_for)),
            Phase::HalfOpen if self.history.len() == self.policy.successes as usize => self.go(Phase::Closed),
            _ => {}
        }
    }

    pub fn claim(&mut self, now: Instant) -> bool {
        let due = matches!(self.phase, Phase::Open(until) if until <= now);
        if due {
            self.go(Phase::HalfOpen);
        }
        due
    }

    fn is_bad(&self) -> bool {
        let in_a_row = self.history.iter().rev().take_while(|call| call.failed).count();
        let window: Vec<&Ended> = self.history.iter().rev().take(self.policy.window).collect();
        let share = |of: &dyn Fn(&&&Ended) -> bool| {
            window.iter().filter(|call| of(call)).count() as f64 / window.len().max(1) as f64
        };
        let slow_after: Duration = self.policy.slow_after;
        let enough = window.len() >= self.policy.least_calls;
        in_a_row >= self.policy.failures as usize
            || enough && self.policy.failure_rate.is_some_and(|rate| share(&|call| call.failed) >= rate)
            || enough
                && self.policy.slow_rate.is_some_and(|rate| share(&|call| call.took >= slow_after) >= rate)
    }

    fn go(&mut self, phase: Phase) {
        self.phase = phase;
        self.phases += 1;
        self.history.clear();
        self.let_through = 0;
    }
}
