//! The active evaluator, for as long as this process holds its lease: read back what is true, catch up, then evaluate whatever comes and commit
//! what changes. What is decided is decided in [`crate::evaluate`].

mod catch_up;
mod tenure;

use std::sync::Arc;

use keelson_kit::lease::{End, Lease};
use keelson_kit::role::Context;
use tokio::sync::watch;

use crate::board::Board;
use crate::loaded::Loaded;
use tenure::Tenure;

/// What is needed to be the evaluator.
#[derive(Clone)]
pub struct Job {
    /// The role's context.
    pub ctx: Context,
    /// The rules, as they were last loaded.
    pub loaded: watch::Receiver<Arc<Loaded>>,
    /// Where it is told how the rules stand.
    pub board: Board,
}

impl Job {
    /// Works until the lease is lost or the process shuts down.
    ///
    /// # Errors
    /// Something failed that only a fresh start may mend; nothing that is committed is touched by it.
    pub async fn run(&self, lease: &Lease) -> anyhow::Result<()> {
        lease.tenures(&self.ctx.tasks, || self.tenure(lease)).await
    }

    async fn tenure(&self, lease: &Lease) -> anyhow::Result<End> {
        let begun = tokio::select! {
            biased;
            () = lease.over(&self.ctx.tasks) => return Ok(End::Over),
            begun = Tenure::begin(self, lease) => begun?,
        };
        let Some(mut tenure) = begun else { return Ok(End::Over) };
        let caught_up = tokio::select! {
            biased;
            () = lease.over(&self.ctx.tasks) => return Ok(tenure.leave().await),
            caught_up = tenure.catch_up() => caught_up?,
        };
        match caught_up {
            Some(end) => Ok(end),
            None => tenure.work().await,
        }
    }
}
