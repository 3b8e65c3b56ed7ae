//! The active notifier, for as long as this process holds its lease: read back what is kept, then take in transitions and silences, write what follows from
//! them, and deliver what is written. What is decided is decided in [`super::dispatch`].

mod tenure;

use std::sync::Arc;

use keelson_kit::lease::{End, Lease};
use keelson_kit::role::Context;
use tokio::sync::watch;

use super::desk::Desk;
use crate::loaded::Loaded;
use tenure::Tenure;

/// What is needed to be the notifier.
#[derive(Clone)]
pub struct Job {
    /// The role's context.
    pub ctx: Context,
    /// Routes and receivers, as they were last loaded.
    pub loaded: watch::Receiver<Arc<Loaded>>,
    /// What answers are given from.
    pub desk: Desk,
}

impl Job {
    /// Works until the lease is lost or the process shuts down.
    ///
    /// # Errors
    /// Something failed that only a fresh start may mend; nothing that is written is touched by it.
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
        let end = tenure.work().await;
        self.desk.replace(None);
        end
    }
}
