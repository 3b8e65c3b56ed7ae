//! How the last calls ended.

use std::collections::VecDeque;

/// The last calls, up to a number of them.
#[derive(Debug)]
pub struct Window {
    most: usize,
    calls: VecDeque<(bool, bool)>,
    failed: usize,
    slow: usize,
}

impl Window {
    /// Holds nothing yet. A window of none stays so.
    pub fn of(most: usize) -> Self {
        Self { most, calls: VecDeque::new(), failed: 0, slow: 0 }
    }

    /// One more; the oldest makes room for it.
    pub fn add(&mut self, failed: bool, slow: bool) {
        if self.most == 0 {
            return;
        }
        if self.calls.len() == self.most
            && let Some((failed, slow)) = self.calls.pop_front()
        {
            self.failed -= usize::from(failed);
            self.slow -= usize::from(slow);
        }
        self.calls.push_back((failed, slow));
        self.failed += usize::from(failed);
        self.slow += usize::from(slow);
    }

    /// How many it holds.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// How many of them failed.
    pub const fn failed(&self) -> usize {
        self.failed
    }

    /// How many of them were slow.
    pub const fn slow(&self) -> usize {
        self.slow
    }
}
