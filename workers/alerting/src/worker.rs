//! The role: one replica evaluates, one notifies, each by a fenced lease; the others stand by.

use std::future::ready;
use std::sync::Arc;

use keelson_kit::command::Commands;
use keelson_kit::config::ConfigError;
use keelson_kit::lease::{GroupSpec, Lease, Owned, Timing};
use keelson_kit::query::{Queries, Refusal};
use keelson_kit::role::{Context, Role};
use keelson_schemas::alerting::EndAlert;
use tokio::sync::watch;

use crate::backtesting::BacktestHandler;
use crate::board::Board;
use crate::checks;
use crate::config::AlertingConfig;
use crate::ends::EndAlertHandler;
use crate::evaluator;
use crate::loaded::Loaded;
use crate::notify::commands::{ExpireSilenceHandler, NotifyHandler, SetSilenceHandler};
use crate::notify::desk::Desk;
use crate::notify::notifier;
use crate::reload::{ReloadHandler, Reloader};
use crate::silences;

/// What there is one of at a time, in the order of the keys of the lease group.
const JOBS: [&str; 2] = ["evaluator", "notifier"];
/// The places of the jobs in [`JOBS`].
const EVALUATOR: usize = 0;
const NOTIFIER: usize = 1;

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
        let worker = Worker {
            rules: Owned::default(),
            desks: Owned::default(),
            loaded: reloader.loaded(),
            ctx: ctx.clone(),
        };
        ctx.answer(worker.queries(&reloader)).await?;
        ctx.obey(worker.commands())?;
        worker.own_jobs();
        Ok(())
    }
}

#[derive(Clone)]
struct Worker {
    ctx: Context,
    loaded: watch::Receiver<Arc<Loaded>>,
    rules: Owned<Board>,
    desks: Owned<Desk>,
}

impl Worker {
    fn queries(&self, reloader: &Reloader) -> Queries {
        let (rules, reloader, again) = (self.rules.clone(), reloader.clone(), reloader.clone());
        let (of_evaluator, ends) = (self.rules.clone(), self.rules.clone());
        let queries = checks::add(Queries::of(Alerting::NAME), &self.ctx, self.loaded.clone());
        self.about_alerts(queries)
            .exclusive("rules", move |()| {
                let told = rules.answer(EVALUATOR, |board, _| board.told());
                ready(Ok(told.map(|standing| reloader.rules(standing))))
            })
            .exclusive("end", move |command: EndAlert| {
                let board = ends.answer(EVALUATOR, |board, _| Some(board.clone()));
                async move {
                    let Some(board) = board else { return Ok(None) };
                    Ok(board.end(command.fingerprint).await)
                }
            })
            // Put to every replica: each reads again, and the evaluator says how it went.
            .exclusive("reload", move |()| {
                let outcome = again.reload();
                ready(Ok(of_evaluator.answer(EVALUATOR, |_, _| Some(outcome))))
            })
    }

    fn about_alerts(&self, queries: Queries) -> Queries {
        let (alerts, groups) = (self.desks.clone(), self.desks.clone());
        let (clock, ctx) = (self.ctx.clock.clone(), self.ctx.clone());
        queries
            .exclusive("alerts", move |()| {
                let now_ms = clock.now_ms();
                ready(Ok(alerts.answer(NOTIFIER, |desk, _| desk.alerts(now_ms))))
            })
            .exclusive("groups", move |()| ready(Ok(groups.answer(NOTIFIER, |desk, _| desk.groups()))))
            .with("silences", move |()| {
                let ctx = ctx.clone();
                async move {
                    let kept = silences::answer(&ctx.bus, ctx.clock.now_ms()).await;
                    kept.map_err(|error| Refusal::new(503, error.to_string()))
                }
            })
    }

    fn commands(&self) -> Commands {
        Commands::of(Alerting::NAME)
            .with(SetSilenceHandler::new(&self.ctx))
            .with(ExpireSilenceHandler::new(&self.ctx))
            .with(NotifyHandler::new(self.loaded.clone()))
            .with(EndAlertHandler::new(&self.ctx.bus))
            .with(ReloadHandler::new(&self.ctx.bus))
            .with(BacktestHandler::new(&self.ctx, self.loaded.clone()))
    }

    /// Does each job that falls to this process until it falls to another.
    fn own_jobs(&self) {
        let spec = GroupSpec {
            name: Alerting::NAME.to_owned(),
            keys: JOBS.map(ToOwned::to_owned).into(),
            timing: Timing::default(),
        };
        let worker = self.clone();
        self.ctx.own(spec, move |lease| worker.clone().work(lease));
    }

    async fn work(self, lease: Lease) -> anyhow::Result<()> {
        match lease.index() {
            EVALUATOR => {
                let board = Board::default();
                let _ownership = self.rules.hold(&lease, board.clone());
                let job = evaluator::Job { ctx: self.ctx, loaded: self.loaded, board };
                job.run(&lease).await
            }
            NOTIFIER => {
                let desk = Desk::default();
                let _ownership = self.desks.hold(&lease, desk.clone());
                let job = notifier::Job { ctx: self.ctx, loaded: self.loaded, desk };
                job.run(&lease).await
            }
            other => anyhow::bail!("there is no job {other}"),
        }
    }
}
