//! The role: owns its share of the partitions, answers for them, and tells of its own machine.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use keelson_kit::bus::Bus;
use keelson_kit::config::ConfigError;
use keelson_kit::lease::{GroupSpec, Lease, Owned, Timing};
use keelson_kit::publish::fresh_id;
use keelson_kit::query::Queries;
use keelson_kit::role::{Context, Role};
use keelson_schemas::subject::{self, Partition};
use keelson_schemas::telemetry::BatchBuilder;
use tracing::warn;

use crate::config::MetricsConfig;
use crate::host::{self, Host};
use crate::partition::Owner;
use crate::services::Services;
use crate::state::State;

/// The metrics worker.
pub struct Metrics;

impl Role for Metrics {
    const NAME: &'static str = "metrics";
    const SUMMARY: &'static str = "counts telemetry exactly and answers for Prometheus and the summary";
    type Config = MetricsConfig;

    fn validate(config: &Self::Config) -> Vec<ConfigError> {
        config.errors()
    }

    async fn start(config: Self::Config, ctx: Context) -> anyhow::Result<()> {
        let worker = Worker {
            services: Arc::new(Services::on(&ctx.bus)),
            config: Arc::new(config),
            owned: Owned::default(),
            ctx,
        };
        worker.answer().await?;
        worker.tell_of_this_machine();
        worker.own_partitions();
        Ok(())
    }
}

#[derive(Clone)]
struct Worker {
    ctx: Context,
    config: Arc<MetricsConfig>,
    services: Arc<Services>,
    owned: Owned<Arc<State>>,
}

impl Worker {
    /// Owns each partition that falls to this process until it falls to another.
    fn own_partitions(&self) {
        let spec = GroupSpec {
            name: "metrics.partition".to_owned(),
            keys: Partition::all().map(|partition| partition.to_string()).collect(),
            timing: Timing::default(),
        };
        let worker = self.clone();
        self.ctx.own(spec, move |lease| worker.clone().count(lease));
    }

    async fn count(self, lease: Lease) -> anyhow::Result<()> {
        let partition = u8::try_from(lease.index()).ok().and_then(Partition::new);
        let partition = partition.context("the lease of a partition that there is not")?;
        let state = Arc::new(State::default());
        let _ownership = self.owned.hold(&lease, state.clone());
        let owner = Owner { ctx: self.ctx, config: self.config, services: self.services, partition, state };
        owner.run(&lease).await
    }

    /// Answers for every partition, and stays silent for those that another replica owns.
    async fn answer(&self) -> anyhow::Result<()> {
        let queries = Partition::all().fold(Queries::of(Metrics::NAME), |queries, partition| {
            let (totals, summary, clock) = (self.owned.clone(), self.owned.clone(), self.ctx.clock.clone());
            let index = partition.index();
            queries
                .exclusive(format!("export.{partition}"), move |()| {
                    let export = |state: &Arc<State>, epoch| state.export(index, epoch);
                    ready(Ok(totals.answer(index.into(), export)))
                })
                .exclusive(format!("summary.{partition}"), move |()| {
                    let now = clock.now_ms() / 1000;
                    let tell = |state: &Arc<State>, epoch| state.summary(index, epoch, now);
                    ready(Ok(summary.answer(index.into(), tell)))
                })
        });
        self.ctx.answer(queries).await
    }

    fn tell_of_this_machine(&self) {
        let Some(interval) = self.config.host_interval() else { return };
        let ctx = self.ctx.clone();
        self.ctx.tasks.spawn("host metrics", move || tell(ctx.clone(), interval));
    }
}

/// Publishes a reading every `interval` until the process shuts down.
async fn tell(ctx: Context, interval: Duration) -> anyhow::Result<()> {
    let mut host = Host::look()?;
    loop {
        tokio::select! {
            () = ctx.tasks.cancelled() => return Ok(()),
            () = ctx.clock.sleep(interval) => {}
        }
        let mut builder = BatchBuilder::default();
        builder.host(host.read(ctx.clock.now_ms()));
        let batch = builder.build(host::SERVICE.into(), Host::name().into());
        // The next reading replaces one that was not stored, so it is not tried again.
        if let Err(error) = publish(&ctx.bus, &batch).await {
            warn!(error = %error, "this machine's state could not be published");
        }
    }
}

async fn publish(bus: &Bus, batch: &keelson_schemas::telemetry::Batch) -> anyhow::Result<()> {
    let to = subject::tel(subject::partition_of(&batch.service));
    bus.publish_message(to, fresh_id(), batch).await?;
    Ok(())
}
