//! The role: one replica at a time backs up and restores, by a fenced lease; all of them answer.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use keelson_kit::command::Commands;
use keelson_kit::config::ConfigError;
use keelson_kit::consume::ConsumeOptions;
use keelson_kit::lease::{GroupSpec, Lease, Timing};
use keelson_kit::query::Queries;
use keelson_kit::role::{Context, Role};
use tokio::sync::{Mutex, Notify};
use tracing::warn;

use crate::commands::{
    AutomateHandler, BackupHandler, DeleteHandler, Desk, DrillHandler, HoldHandler, RestoreHandler,
};
use crate::config::BackupConfig;
use crate::setup::Setup;
use crate::{automate, checks, drill, store};

/// How long a backup or a restore may take.
const TIME_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Commands that are looked at at once: one is obeyed, the others are refused.
const AT_ONCE: usize = 4;

/// The backup worker.
pub struct Backups;

impl Role for Backups {
    const NAME: &'static str = "backup";
    const SUMMARY: &'static str = "backs up MongoDB so that stock tools can restore it, and restores it";
    type Config = BackupConfig;

    fn env() -> &'static [(&'static str, &'static str)] {
        BackupConfig::ENV
    }

    fn validate(config: &Self::Config) -> Vec<ConfigError> {
        config.errors()
    }

    async fn start(config: Self::Config, ctx: Context) -> anyhow::Result<()> {
        let setup = Arc::new(Setup::new(config, &ctx)?);
        ctx.answer(checks::queries(Queries::of(Self::NAME), &ctx, &setup)).await?;
        let spec = GroupSpec {
            name: Self::NAME.to_owned(),
            keys: vec!["desk".to_owned()],
            timing: Timing::default(),
        };
        let worker = ctx.clone();
        ctx.own(spec, move |lease| hold(worker.clone(), Arc::clone(&setup), lease));
        Ok(())
    }
}

/// Obeys commands for as long as the lease is held.
async fn hold(ctx: Context, setup: Arc<Setup>, lease: Lease) -> anyhow::Result<()> {
    let tasks = ctx.tasks.group();
    let desk = Desk {
        ctx: Context { tasks: tasks.clone(), ..ctx.clone() },
        setup: Arc::clone(&setup),
        turn: Arc::new(Mutex::new(())),
        planned: Arc::new(Notify::new()),
    };
    drill::end_left(&setup).await;
    let options =
        ConsumeOptions { concurrency: AT_ONCE, time_limit: TIME_LIMIT, ..ConsumeOptions::default() };
    let commands = Commands::of(Backups::NAME).options(options);
    let commands = commands.with(BackupHandler(desk.clone())).with(RestoreHandler(desk.clone()));
    let commands = commands.with(DeleteHandler(desk.clone())).with(HoldHandler(desk.clone()));
    let commands = commands.with(DrillHandler(desk.clone()));
    desk.ctx.obey(commands.with(AutomateHandler(desk.clone())))?;
    tokio::select! {
        () = lease.over(&ctx.tasks) => {}
        // A repository that does not answer must not keep the lease.
        () = import(&ctx, &setup).then(|()| pending()) => {}
        () = automate::run(desk) => {}
    }
    tasks.cancel();
    Ok(())
}

/// What is in the repository is listed even if this bus never heard of it. What stands in the way is told to whoever wants a backup.
async fn import(ctx: &Context, setup: &Setup) {
    let imported = async {
        let restic = setup.restic()?;
        if restic.is_new() {
            return Ok(());
        }
        restic.version().await?;
        store::import(&ctx.bus, &restic).await
    };
    if let Err(error) = imported.await {
        warn!(error = format!("{error:#}"), "the repository of backups could not be looked through");
    }
}
