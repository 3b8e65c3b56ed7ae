//! The position, kept under the lease's epoch a few times a second.

use std::time::Duration;

use futures::FutureExt;
use keelson_kit::fault;
use tracing::debug;

use super::Tenure;
use crate::flow::Position;
use crate::keeper::{Keeper, Kept};

/// How often the position is kept.
const KEEP_EVERY: Duration = Duration::from_millis(250);
/// The task that removes what is written down of calls.
pub(super) const OLD_CALLS: &str = "old calls of cdn";

impl Tenure<'_> {
    /// Keeps the position, beside the work: a bus that is away must not hold up what is to be sent.
    pub(super) fn keep(&mut self) {
        self.keep_at = self.job.ctx.clock.now() + KEEP_EVERY;
        let Some(mut keeper) = self.keeper.take() else { return };
        let kept = Kept { position: self.position(), full_at_ms: self.flow.full_at_ms(self.job.now()) };
        self.keeping.push(
            async move {
                let kept = keeper.keep(kept).await;
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
        self.forget(&keeper);
        self.keeper = Some(keeper);
        kept.unwrap_or_else(|error| {
            debug!(cdn.lane = self.job.lane.name, error = %format!("{error:#}"), "the position cannot be kept now");
            true
        })
    }

    /// Removes what was written down of calls whose purges have ended. Not before that is kept: a successor would send them anew.
    fn forget(&mut self, keeper: &Keeper) {
        let Some(ledger) = &self.ledger else { return };
        let over = self.flow.forget(&keeper.read_back());
        if !over.is_empty() {
            let removing = ledger.clone().remove(over);
            self.job.ctx.tasks.spawn_once(OLD_CALLS, removing.map(Ok));
        }
    }
}
