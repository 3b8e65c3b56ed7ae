//! What is said of purges that ended, and of the provider.

use std::time::{Duration, Instant};

use futures::FutureExt;
use keelson_kit::fault;
use keelson_kit::publish::PublishError;
use keelson_schemas::alerting::Reading;
use tracing::{info, warn};

use super::Tenure;
use crate::health::Health;
use crate::report;

/// How often it is said that a provider is down, for as long as it is.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Messages about ended purges under way at once. While there are so many, more collect for the next.
const REPORTS_AT_ONCE: usize = 4;

/// What was last said about the provider.
pub(super) struct Said {
    pub(super) down: bool,
    pub(super) at: Instant,
}

impl Tenure<'_> {
    /// Says what has ended.
    pub(super) fn report(&mut self) -> Result<(), PublishError> {
        if self.reports.len() >= REPORTS_AT_ONCE {
            return Ok(());
        }
        let ended = self.flow.ended();
        if ended.is_empty() {
            return Ok(());
        }
        fault::point("cdn.telling");
        let (bus, lane) = (&self.job.ctx.bus, &self.job.lane.name);
        for (request, outcome) in &ended {
            self.job.board.ended(outcome, &request.requested_by);
        }
        let readings = report::readings(lane, &ended, self.job.ctx.clock.now_ms());
        if !readings.is_empty() {
            self.signal(readings);
        }
        for report in report::reports(lane, ended)? {
            self.reports.push(report.say(bus.clone()).boxed());
        }
        Ok(())
    }

    fn signal(&self, readings: Vec<Reading>) {
        let (ctx, lane) = (self.job.ctx.clone(), self.job.lane.name.clone());
        self.job.ctx.tasks.spawn_once("signals of cdn", async move {
            let outgoing = report::signals(&lane, readings, ctx.clock.now_ms())?;
            ctx.bus.publish_within(&outgoing, SAY_AGAIN).await?;
            Ok(())
        });
    }

    pub(super) fn tell(&mut self) {
        let (now, lane) = (self.job.now(), &self.job.lane.name);
        self.job.board.tell(lane, &self.flow, self.inbox.behind(), now.at);
        let (down, reason) = match self.flow.standing().health() {
            Health::Down(reason) | Health::Refused(reason) => (true, reason.as_str()),
            Health::Unknown | Health::Up => (false, ""),
        };
        let changed = down != self.said.down;
        if changed || (down && now.at >= self.said.at + SAY_AGAIN) {
            match (changed, down) {
                (true, true) => warn!(cdn.lane = lane, reason, "the provider takes no purges"),
                (true, false) => info!(cdn.lane = lane, "the provider takes purges again"),
                _ => {}
            }
            self.said = Said { down, at: now.at };
            self.signal(vec![report::reading("cdn_provider_down", lane, f64::from(u8::from(down)), now.ms)]);
        }
    }
}
