//! The role: one replica evaluates, one notifies, each by a fenced lease; the others stand by.

use std::future::ready;
use std::sync::Arc;

use keelson_kit::command::Commands;
use keelson_kit::config::ConfigError;
use keelson_kit::lease::{GroupSpec, Lease, LeaseGroup, Timing};
use keelson_kit::query::Queries;
use keelson_kit::role::{Context, Role};
use tokio::sync::watch;
use tracing::warn;

use crate::backtesting::BacktestHandler;
use crate::board::Board;
use crate::config::AlertingConfig;
use crate::evaluator;
use crate::loaded::Loaded;
use crate::reload::{ReloadHandler, Reloader};

/// What there is one of at a time, in the order of the keys of the lease group.
const JOBS: [&str; 2] = ["evaluator", "notifier"];

/// The alerting worker.
pub struct Alerting;

impl Role for Alerting {
    const NAME: &'static str = "alerting";
    const SUMMARY: &'static str = "watches what is counted, and tells whoever has to know";
    type Config = AlertingConfig;

    fn validate(config: &Self::Config) -> Vec<ConfigError> {
        config.errors()
    }

    async fn start(config: Self::Config, ctx: Context) -> anyhow::Result<()> {
        let loaded = Loaded::first(config, &ctx).map_err(|errors| anyhow::anyhow!(errors.join("\n")))?;
        let reloader = Reloader::new(&ctx, loaded);
        reloader.listen();
        let worker = Worker { board: Board::default(), loaded: reloader.loaded(), ctx: ctx.clone() };
        ctx.answer(worker.queries(&reloader)).await?;
        ctx.obey(worker.commands())?;
        worker.join();
        Ok(())
    }
}

#[derive(Clone)]
struct Worker {
    ctx: Context,
    loaded: watch::Receiver<Arc<Loaded>>,
    board: Board,
}

impl Worker {
    fn queries(&self, reloader: &Reloader) -> Queries {
        let (board, reloader, again) = (self.board.clone(), reloader.clone(), reloader.clone());
        let of_evaluator = self.board.clone();
        Queries::of(Alerting::NAME)
            .exclusive("rules", move |()| ready(Ok(board.rules().map(|rules| reloader.rules(rules)))))
            // Put to every replica: each reads again, and the evaluator says how it went.
            .exclusive("reload", move |()| {
                let outcome = again.reload();
                ready(Ok(of_evaluator.rules().map(|_| outcome)))
            })
    }

    fn commands(&self) -> Commands {
        Commands::of(Alerting::NAME)
            .with(ReloadHandler::new(&self.ctx.bus))
            .with(BacktestHandler::new(&self.ctx, self.loaded.clone()))
    }

    /// Joins those who share the jobs, and does each that falls to this process until it falls to another.
    fn join(&self) {
        let spec = GroupSpec {
            name: Alerting::NAME.to_owned(),
            keys: JOBS.map(ToOwned::to_owned).into(),
            timing: Timing::default(),
        };
        let (worker, mut group) = (self.clone(), LeaseGroup::join(&self.ctx, spec));
        self.ctx.tasks.spawn_once("jobs of alerting", async move {
            while let Some(lease) = group.next().await {
                worker.take_up(lease);
            }
            Ok(())
        });
    }

    fn take_up(&self, lease: Lease) {
        match JOBS.get(lease.index()) {
            Some(&"evaluator") => self.evaluate(lease),
            _ => warn!(lease.key = lease.key(), "there is no such job"),
        }
    }

    fn evaluate(&self, lease: Lease) {
        let job =
            evaluator::Job { ctx: self.ctx.clone(), loaded: self.loaded.clone(), board: self.board.clone() };
        self.ctx.tasks.spawn("evaluator", move || {
            let (job, lease) = (job.clone(), lease.clone());
            async move { job.run(&lease).await }
        });
    }
}
