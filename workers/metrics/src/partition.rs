//! One partition, for as long as this process owns it: read back what is committed, then count, cut, commit and checkpoint.

mod tenure;

use std::sync::Arc;

use keelson_kit::lease::{End, Lease};
use keelson_kit::role::Context;
use keelson_schemas::subject;

use crate::config::MetricsConfig;
use crate::recover;
use crate::services::Services;
use crate::state::State;

use tenure::Tenure;

/// The stream that holds the telemetry.
pub const STREAM: &str = "TELEMETRY";

/// What is needed to own a partition.
#[derive(Clone)]
pub struct Owner {
    /// The role's context.
    pub ctx: Context,
    /// The role's configuration.
    pub config: Arc<MetricsConfig>,
    /// The register of service names.
    pub services: Arc<Services>,
    /// Which partition.
    pub partition: subject::Partition,
    /// What answers are given from.
    pub state: Arc<State>,
}

impl Owner {
    /// Works until the lease is lost or the process shuts down.
    ///
    /// # Errors
    /// Something failed that only a fresh start may mend; nothing that is committed is touched by it.
    pub async fn run(&self, lease: &Lease) -> anyhow::Result<()> {
        lease.tenures(&self.ctx.tasks, || self.tenure(lease)).await
    }

    async fn tenure(&self, lease: &Lease) -> anyhow::Result<End> {
        let recovered = tokio::select! {
            biased;
            () = lease.over(&self.ctx.tasks) => return Ok(End::Over),
            recovered = recover::recover(self, lease.epoch()) => recovered?,
        };
        let Some(recovered) = recovered else { return Ok(End::Over) };
        Tenure::begin(self, lease, recovered).work().await
    }
}
