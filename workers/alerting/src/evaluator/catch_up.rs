//! Going through what is stored already, at the times at which it became known: an evaluator that was away finds what it would have found.

use std::time::Duration;

use keelson_kit::lease::End;
use keelson_kit::role::Context;
use tracing::{info, warn};

use super::tenure::Tenure;
use crate::history::Position;
use crate::inputs::SLICES;

/// How far into the past an evaluator catches up that comes late: what is longer ago is of no use to anybody who is called now.
const CATCH_UP: Duration = Duration::from_secs(3600);
/// The step in which time passes meanwhile.
const STEP_MS: u64 = 1_000;

impl Tenure<'_> {
    /// Evaluates what came since the rules were last evaluated; some when the tenure ends with it.
    pub(super) async fn catch_up(&mut self) -> anyhow::Result<Option<End>> {
        let began_ms = self.job.ctx.clock.now_ms();
        let evaluated_through = self.position.slices_through;
        self.evaluator.resume(self.position.at_ms, began_ms);
        self.evaluator.advance(self.since_ms);
        while let Some(readings) = self.inputs.next_stored_readings().await? {
            readings.iter().for_each(|reading| self.evaluator.read(reading));
        }
        while let Some((message, slice)) = self.inputs.next_stored_slice().await? {
            if message.sequence <= evaluated_through {
                self.evaluator.observe(&slice);
                self.evaluator.advance(message.time_ms.min(self.position.at_ms));
                continue;
            }
            let at_ms = message.time_ms.clamp(self.position.at_ms, began_ms.max(self.position.at_ms));
            if let Some(end) = self.pass_time_until(at_ms).await? {
                return Ok(Some(end));
            }
            if let Some(end) = self.take_slice(message.sequence, &slice, at_ms).await? {
                return Ok(Some(end));
            }
        }
        let end = self.pass_time_until(self.job.ctx.clock.now_ms()).await?;
        info!(
            lease.epoch = self.lease.epoch(),
            through = self.position.slices_through,
            "evaluates the rules"
        );
        Ok(end)
    }

    async fn pass_time_until(&mut self, at_ms: u64) -> anyhow::Result<Option<End>> {
        while self.position.at_ms + STEP_MS < at_ms {
            if let Some(end) = self.evaluate(self.position.at_ms + STEP_MS).await? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }
}

/// Where to go on: after what was evaluated, or from now on where nothing was, or not of these slices.
pub(super) async fn begin_at(ctx: &Context, known: Position) -> anyhow::Result<Position> {
    let slices = ctx.bus.stream_info(SLICES).await?;
    let now_ms = ctx.clock.now_ms();
    let earliest_ms = now_ms.saturating_sub(u64::try_from(CATCH_UP.as_millis())?);
    let (slices_made_ms, last) = (slices.created_ms, slices.last_sequence);
    if known.at_ms == 0 {
        return Ok(Position { slices_made_ms, slices_through: last, at_ms: now_ms });
    }
    if known.at_ms < earliest_ms {
        warn!(
            since_ms = known.at_ms,
            "nothing was evaluated for more than an hour; of that only the last hour is made up for"
        );
    }
    let is_of_these = known.slices_made_ms == slices_made_ms && known.slices_through <= last;
    let slices_through = if is_of_these { known.slices_through } else { 0 };
    // A clock that was ahead and is set back must not make time stand still.
    let at_ms = known.at_ms.clamp(earliest_ms, now_ms);
    Ok(Position { slices_made_ms, slices_through, at_ms })
}
