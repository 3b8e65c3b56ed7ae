//! What is asked for, message by message.

use futures::FutureExt;
use keelson_kit::incoming::Stored;
use tracing::warn;

use super::Tenure;
use crate::report;

/// Messages on their way past which nothing is read: each that nobody can read becomes one.
const MOST_REPORTS: usize = 64;
/// Messages that are taken before calls are looked at again.
const MOST_AT_A_TIME: usize = 256;

impl Tenure<'_> {
    /// Takes a message, and whatever has arrived with it.
    pub(super) fn take_all(&mut self, first: Stored) -> anyhow::Result<()> {
        self.take(&first);
        for _ in 1..MOST_AT_A_TIME {
            if !self.may_read() {
                break;
            }
            let Some(message) = self.inbox.ready() else { break };
            self.take(&message?);
        }
        Ok(())
    }

    fn take(&mut self, message: &Stored) {
        let key = message.sequence;
        let said = match self.intake.read(message) {
            Ok(said) => said,
            Err(error) if self.flow.wants(key) => return self.bury(message, &error.to_string()),
            Err(_) => return self.flow.pass(key),
        };
        if said.is_event() {
            self.index.learn(said.selectors());
            self.flow.learn(key, said.selectors(), said.version.as_ref());
        }
        let wanted = match self.flow.wants(key) {
            true => self.intake.wanted(said, key, message.time_ms, &self.index),
            false => None,
        };
        match wanted {
            Some(request) => self.flow.take(request, self.job.now()),
            None => self.flow.pass(key),
        }
    }

    /// What nobody can read is done once its dead letter is stored.
    fn bury(&mut self, message: &Stored, reason: &str) {
        warn!(
            subject = message.subject(),
            sequence = message.sequence,
            reason,
            "this asks for no purge that can be read: it becomes a dead letter"
        );
        self.flow.set_aside(message.sequence);
        let bus = self.job.ctx.bus.clone();
        self.reports.push(report::bury(bus, message.clone(), reason.to_owned()).boxed());
    }

    pub(super) fn may_read(&self) -> bool {
        self.flow.has_room() && self.reports.len() < MOST_REPORTS
    }
}
