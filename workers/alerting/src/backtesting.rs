//! Obeys `keelson.cmd.alerting.backtest`: reads the slices of the past and lets [`crate::backtest`] say what would have fired.

use std::sync::Arc;
use std::time::Duration;

use keelson_kit::command::{Attempt, CommandHandler};
use keelson_kit::failure::Failure;
use keelson_kit::follow::{FollowOptions, Start};
use keelson_kit::role::Context;
use keelson_schemas::alerting::{Backtest, BacktestReport};
use keelson_schemas::limits::MAX_AHEAD_MS;
use keelson_schemas::slice::Slice;
use tokio::sync::{Semaphore, watch};

use crate::backtest;
use crate::inputs::SLICES;
use crate::loaded::Loaded;
use crate::rules::{RuleSet, Source};

/// How far the clocks of those who send telemetry may be ahead.
const SKEW: Duration = Duration::from_secs(300);

/// The handler.
pub struct BacktestHandler {
    ctx: Context,
    loaded: watch::Receiver<Arc<Loaded>>,
    /// One at a time: each may take much memory, and a core.
    turn: Semaphore,
}

impl BacktestHandler {
    /// A handler that knows the rules that run.
    #[must_use]
    pub fn new(ctx: &Context, loaded: watch::Receiver<Arc<Loaded>>) -> Self {
        Self { ctx: ctx.clone(), loaded, turn: Semaphore::new(1) }
    }

    /// Whether a command can be obeyed.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn check(&self, command: Backtest) -> Result<(), Failure> {
        self.time(&command)?;
        self.rules(command.rules).map(drop)
    }

    /// From when on and up to when, in Unix milliseconds.
    fn time(&self, command: &Backtest) -> Result<(u64, u64), Failure> {
        let now_ms = self.ctx.clock.now_ms();
        let until_ms = command.until_ms.unwrap_or(now_ms).min(now_ms + MAX_AHEAD_MS);
        let since_ms = command.since_ms.unwrap_or(0);
        if since_ms >= until_ms {
            return Err(Failure::decline("the end of the time to look at is not after its beginning"));
        }
        Ok((since_ms, until_ms))
    }

    fn rules(&self, text: Option<String>) -> Result<Arc<RuleSet>, Failure> {
        let Some(text) = text else { return Ok(self.loaded.borrow().rules.clone()) };
        let source = Source { name: "rules".to_owned(), text };
        let lines = |errors: Vec<crate::rules::RuleError>| {
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        RuleSet::parse(&[source], &[], false).map(Arc::new).map_err(|errors| Failure::decline(lines(errors)))
    }
}

impl CommandHandler for BacktestHandler {
    type Command = Backtest;
    type Outcome = BacktestReport;

    async fn run(&self, command: Backtest, attempt: &Attempt) -> Result<BacktestReport, Failure> {
        let (since_ms, until_ms) = self.time(&command)?;
        let (rules, left_out) = self.rules(command.rules)?.over_telemetry();
        let rules = Arc::new(rules);
        let _turn = self.turn.acquire().await.map_err(Failure::retry)?;
        let start = start(since_ms, rules.longest_window() + SKEW);
        let last = self.ctx.bus.stream_info(SLICES).await?.last_sequence;
        let mut backtest = backtest::Backtest::new(rules, command.by, since_ms, until_ms);
        let mut slices = self.ctx.bus.follow(FollowOptions::new(SLICES, "keelson.slice.*", start));
        while let Some(message) = slices.next_if_any().await.map_err(Failure::retry)? {
            if message.sequence > last {
                break;
            }
            if let Ok(slice) = message.decode::<Slice>() {
                backtest.slice(&slice).map_err(Failure::reject)?;
            }
            attempt.progress(message.sequence, Some(last), "slices").await;
        }
        let played = tokio::task::spawn_blocking(move || backtest.finish()).await;
        Ok(BacktestReport { left_out, ..played.map_err(Failure::retry)? })
    }
}

/// The first slice that can have to do with the time from `since_ms` on: nothing is known long before it happens.
fn start(since_ms: u64, look_back: Duration) -> Start {
    let look_back_ms = u64::try_from(look_back.as_millis()).unwrap_or(u64::MAX);
    match since_ms.saturating_sub(look_back_ms) {
        0 => Start::After(0),
        since_ms => Start::Since(since_ms),
    }
}
