//! The position, kept under the lease's epoch a few times a second.

use std::time::Duration;

use futures::FutureExt;
use keelson_kit::fault;
use tracing::debug;

use super::Tenure;
use crate::flow::Position;
use crate::keeper::Keeper;

/// How often the position is kept.
const KEEP_EVERY: Duration = Duration::from_millis(250);

impl Tenure<'_> {
    /// Keeps the position, beside the work: a bus that is away must not hold up what is to be sent.
    pub(super) fn keep(&mut self) {
        self.keep_at = self.job.ctx.clock.now() + KEEP_EVERY;
        let Some(mut keeper) = self.keeper.take() else { return };
        let position = self.position();
        self.keeping.push(
            async move {
                let kept = keeper.keep(position).await;
                (keeper, kept)
            }
            .boxed(),
        );
    }

    fn position(&self) -> Position {
        let position = self.flow.position();
        if fault::disabled("open") { Position { open: Vec::new(), ..position } } else { position }
    }

    /// False when another sender has been there.
    pub(super) fn kept(&mut self, keeper: Keeper, kept: anyhow::Result<bool>) -> bool {
        fault::point("cdn.kept");
        self.keeper = Some(keeper);
        kept.unwrap_or_else(|error| {
            debug!(cdn.lane = self.job.lane.name, error = %format!("{error:#}"), "the position cannot be kept now");
            true
        })
    }
}
