//! The role: for each cache one replica sends, by a fenced lease; all obey commands and answer questions.

use std::future::ready;
use std::sync::Arc;

use keelson_kit::command::Commands;
use keelson_kit::config::ConfigError;
use keelson_kit::lease::{GroupSpec, Lease, Owned, Timing};
use keelson_kit::query::{Queries, Refusal};
use keelson_kit::role::{Context, Role};
use keelson_schemas::cdn::{FindAssetUrl, Purge, Warm};
use tracing::{info, warn};

use crate::board::Board;
use crate::commands::{PurgeHandler, WarmHandler};
use crate::config::{CdnConfig, ENV};
use crate::plan::Plan;
use crate::reach::{self, Prober};
use crate::sender::Job;
use crate::setup::Setup;
use crate::{status, warm};

/// The CDN worker.
pub struct Cdn;

impl Role for Cdn {
    const NAME: &'static str = "cdn";
    const SUMMARY: &'static str = "purges what changed from the caches at the edge, and proves it";
    type Config = CdnConfig;

    fn env() -> &'static [(&'static str, &'static str)] {
        ENV
    }

    fn validate(config: &Self::Config) -> Vec<ConfigError> {
        config.errors()
    }

    async fn start(config: Self::Config, ctx: Context) -> anyhow::Result<()> {
        let setup = Setup::of(&config)
            .map_err(|errors| anyhow::anyhow!(keelson_kit::config::ConfigErrors(errors)))?;
        let worker = Worker { setup: Arc::new(setup), boards: Owned::default(), ctx: ctx.clone() };
        worker.say_what_is_missing();
        ctx.answer(worker.queries()?).await?;
        ctx.obey(worker.commands())?;
        worker.own_lanes();
        Ok(())
    }
}

#[derive(Clone)]
struct Worker {
    ctx: Context,
    setup: Arc<Setup>,
    boards: Owned<Board>,
}

impl Worker {
    fn say_what_is_missing(&self) {
        for missing in &self.setup.missing {
            match self.setup.config.providers.is_empty() {
                true => info!("the CDN is not configured: {missing}"),
                false => warn!("the CDN is not wholly configured: {missing}"),
            }
        }
    }

    fn queries(&self) -> anyhow::Result<Queries> {
        let prober = Prober::new(&self.ctx, self.setup.clone())?;
        let reach = prober.found();
        prober.spawn();
        let (setup, ctx, of_url) = (self.setup.clone(), self.ctx.clone(), self.setup.clone());
        let (of_purge, of_warm) = (self.setup.clone(), self.setup.clone());
        let mut queries = Queries::of(Cdn::NAME)
            .with("status", move |()| {
                let (setup, ctx) = (setup.clone(), ctx.clone());
                async move { Ok(status::of_all(&ctx.bus, &setup).await) }
            })
            .with("url", move |question: FindAssetUrl| {
                let found = *reach.borrow();
                ready(reach::find(&of_url, found, &question.path).map_err(|error| Refusal::new(422, error)))
            })
            .with("check.purge", move |command: Purge| {
                ready(Plan::of(&command, &of_purge).map(drop).map_err(|error| Refusal::new(422, error)))
            })
            .with("check.warm", move |command: Warm| {
                ready(warm::urls(&command, &of_warm).map(drop).map_err(|error| Refusal::new(422, error)))
            });
        for (index, lane) in self.setup.lanes.iter().enumerate() {
            let boards = self.boards.clone();
            queries = queries.exclusive(status::noun(&lane.name), move |()| {
                ready(Ok(boards.answer(index, |board, _| board.lane())))
            });
        }
        Ok(queries)
    }

    fn commands(&self) -> Commands {
        Commands::of(Cdn::NAME)
            .with(PurgeHandler::new(&self.ctx, self.setup.clone()))
            .with(WarmHandler::new(&self.ctx, self.setup.clone()))
    }

    /// Sends to each cache that falls to this process until it falls to another.
    fn own_lanes(&self) {
        let keys: Vec<String> = self.setup.lanes.iter().map(|lane| lane.name.clone()).collect();
        if keys.is_empty() {
            return;
        }
        let spec = GroupSpec { name: Cdn::NAME.to_owned(), keys, timing: Timing::default() };
        let worker = self.clone();
        self.ctx.own(spec, move |lease| worker.clone().work(lease));
    }

    async fn work(self, lease: Lease) -> anyhow::Result<()> {
        let Some(lane) = self.setup.lanes.get(lease.index()).cloned() else {
            anyhow::bail!("there is no such lane")
        };
        let board = Board::default();
        let _ownership = self.boards.hold(&lease, board.clone());
        Job { ctx: self.ctx, setup: self.setup, lane, board }.run(&lease).await
    }
}
