//! Whether a command has a meaning, said before it is accepted: `keelson.qry.alerting.check.<verb>`. Any replica knows. The command itself is looked at again
//! when it is obeyed: it may come by another way, and things may have changed.

use std::sync::Arc;

use keelson_kit::failure::Failure;
use keelson_kit::query::{Queries, Refusal};
use keelson_kit::role::Context;
use keelson_schemas::alerting::{Backtest, ExpireSilence, SetSilence};
use tokio::sync::watch;

use crate::backtesting::BacktestHandler;
use crate::loaded::Loaded;
use crate::notify::commands::{ExpireSilenceHandler, SetSilenceHandler};

/// Answers for every command that can be wrong in more than its shape.
#[must_use]
pub fn add(queries: Queries, ctx: &Context, loaded: watch::Receiver<Arc<Loaded>>) -> Queries {
    let set = Arc::new(SetSilenceHandler::new(ctx));
    let expire = Arc::new(ExpireSilenceHandler::new(ctx));
    let backtest = Arc::new(BacktestHandler::new(ctx, loaded));
    queries
        .with("check.silence", move |command: SetSilence| {
            let set = Arc::clone(&set);
            async move { set.check(&command).await.map_err(refusal) }
        })
        .with("check.expire-silence", move |command: ExpireSilence| {
            let expire = Arc::clone(&expire);
            async move {
                let found = expire.check(&command).await.map_err(refusal)?;
                let none = || Refusal::new(404, format!("there is no silence {:?}", command.id));
                found.then_some(()).ok_or_else(none)
            }
        })
        .with("check.backtest", move |command: Backtest| {
            let checked = backtest.check(command).map_err(refusal);
            std::future::ready(checked)
        })
}

fn refusal(failure: Failure) -> Refusal {
    let status = if matches!(failure, Failure::Retry { .. }) { 503 } else { 400 };
    // A refusal is one line.
    Refusal::new(status, failure.to_string().replace('\n', "; "))
}
