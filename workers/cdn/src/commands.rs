//! What the worker can be told to do: to purge, and to warm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keelson_kit::command::{Attempt, CommandHandler};
use keelson_kit::failure::Failure;
use keelson_kit::follow::{FollowOptions, Start};
use keelson_kit::publish::Outgoing;
use keelson_kit::role::Context;
use keelson_schemas::cdn::{
    ProviderOutcome, Purge, PurgeOutcome, PurgeOutcomes, PurgeReport, PurgeRequested, PurgeState, Warm,
    WarmReport,
};
use keelson_schemas::subject;

use crate::intake;
use crate::plan::Plan;
use crate::sender::STREAM;
use crate::setup::Setup;
use crate::status;
use crate::warm;

/// How long a purge is waited for. It goes on after that.
const PURGED_WITHIN: Duration = Duration::from_secs(20 * 60);
/// How often it is looked what a purge waits for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a warm-up waits for purges that were asked for before it.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
const HOUR_MS: u64 = 3_600_000;

/// Obeys `keelson.cmd.cdn.purge`. The operation's result is a [`PurgeReport`]; it fails when readers may still get something old.
pub struct PurgeHandler {
    ctx: Context,
    setup: Arc<Setup>,
}

/// Obeys `keelson.cmd.cdn.warm`. The operation's result is a [`WarmReport`].
pub struct WarmHandler {
    ctx: Context,
    setup: Arc<Setup>,
}

impl PurgeHandler {
    /// With this configuration.
    #[must_use]
    pub fn new(ctx: &Context, setup: Arc<Setup>) -> Self {
        Self { ctx: ctx.clone(), setup }
    }

    async fn request(&self, command: &Purge, plan: &Plan, attempt: &Attempt) -> Result<u64, Failure> {
        let requested = PurgeRequested {
            operation: attempt.operation.clone(),
            selectors: plan.checked(),
            soft: command.soft,
            providers: command.providers.clone(),
            reason: command.reason.clone(),
            requested_by: attempt.requested_by.clone(),
        };
        let outgoing = Outgoing::of(intake::requested(), attempt.consequence("requested"), &requested)
            .map_err(Failure::reject)?;
        Ok(self.ctx.bus.publish_within(&outgoing, LOOK_EVERY).await?.sequence)
    }

    /// Everything is purged only so often: what was asked for within the last hour is on the stream.
    async fn check_cap(&self, attempt: &Attempt) -> Result<(), Failure> {
        let since = self.ctx.clock.now_ms().saturating_sub(HOUR_MS);
        let mut past =
            self.ctx.bus.follow(FollowOptions::new(STREAM, intake::requested(), Start::Since(since)));
        let mut operations = std::collections::BTreeSet::new();
        while let Some(message) = past.next_if_any().await.map_err(Failure::retry)? {
            if let Ok(requested) = message.decode::<PurgeRequested>()
                && requested.selectors.all
                && requested.operation != attempt.operation
            {
                operations.insert(requested.operation);
            }
        }
        let most = self.setup.config.most_purges_of_all_per_hour;
        if operations.len() >= most as usize {
            return Err(Failure::reject(format!(
                "everything was purged {} times within the last hour, and may be {most} times (cdn.most_purges_of_all_per_hour)",
                operations.len()
            )));
        }
        Ok(())
    }

    /// What became of the purge in each lane.
    async fn outcomes(
        &self,
        plan: &Plan,
        requested: u64,
        attempt: &Attempt,
    ) -> Result<BTreeMap<String, PurgeOutcome>, Failure> {
        let filter = subject::evt("cdn", &format!("*.{}", attempt.operation));
        let mut inbox = self.ctx.bus.follow(FollowOptions::new(STREAM, filter, Start::After(requested)));
        let mut found = BTreeMap::new();
        let deadline = self.ctx.clock.now() + PURGED_WITHIN;
        let total = Some(plan.lanes.len() as u64);
        while !plan.lanes.iter().all(|lane| found.contains_key(lane)) {
            tokio::select! {
                message = inbox.next() => {
                    let outcomes = message.map_err(Failure::retry)?.decode::<PurgeOutcomes>().unwrap_or_default().outcomes;
                    found.extend(outcomes.into_iter().map(|outcome| (outcome.provider.clone(), outcome)));
                }
                () = self.ctx.clock.sleep(LOOK_EVERY) => {}
            }
            let waiting: Vec<&String> = plan.lanes.iter().filter(|lane| !found.contains_key(*lane)).collect();
            if waiting.is_empty() {
                break;
            }
            let note = self.note(&waiting).await;
            if self.ctx.clock.now() >= deadline {
                return Err(Failure::give_up(format!(
                    "it has not ended within {PURGED_WITHIN:?}, and goes on: {note}"
                )));
            }
            attempt.progress(found.len() as u64, total, &note).await;
        }
        Ok(found)
    }

    async fn note(&self, waiting: &[&String]) -> String {
        let mut notes = Vec::new();
        for lane in waiting {
            let status = status::of_lane(&self.ctx.bus, lane).await.status;
            let error = status.and_then(|status| status.error).unwrap_or_else(|| "under way".to_owned());
            notes.push(format!("{lane}: {error}"));
        }
        notes.join("; ")
    }
}

impl CommandHandler for PurgeHandler {
    type Command = Purge;
    type Outcome = PurgeReport;

    async fn run(&self, command: Purge, attempt: &Attempt) -> Result<PurgeReport, Failure> {
        let plan = Plan::of(&command, &self.setup).map_err(Failure::reject)?;
        let mut report = plan.dry_run(command.soft, &self.setup);
        if command.dry_run {
            return Ok(report);
        }
        if command.all {
            self.check_cap(attempt).await?;
        }
        let requested = self.request(&command, &plan, attempt).await?;
        let mut outcomes = self.outcomes(&plan, requested, attempt).await?;
        report.dry_run = false;
        report
            .providers
            .iter_mut()
            .for_each(|provider| provider.outcome = outcomes.remove(&provider.provider));
        match bad(&report.providers) {
            Some(reason) => Err(Failure::give_up(reason)),
            None => Ok(report),
        }
    }
}

/// How it ended where readers may still get something old, in words.
fn bad(providers: &[ProviderOutcome]) -> Option<String> {
    let bad: Vec<String> = providers
        .iter()
        .filter_map(|provider| provider.outcome.as_ref())
        .filter(|outcome| matches!(outcome.state, PurgeState::Stale | PurgeState::Failed))
        .map(|outcome| {
            format!(
                "{} {}: {}",
                outcome.provider,
                outcome.state.fact(),
                outcome.reason.as_deref().unwrap_or("for no known reason")
            )
        })
        .collect();
    (!bad.is_empty()).then(|| bad.join("; "))
}

impl WarmHandler {
    /// With this configuration.
    #[must_use]
    pub fn new(ctx: &Context, setup: Arc<Setup>) -> Self {
        Self { ctx: ctx.clone(), setup }
    }

    /// Waits until what was asked to be purged before is purged and verified: else the edge would be warmed with what is about to go.
    async fn settled(&self, attempt: &Attempt) -> Result<(), Failure> {
        let asked = self.last_asked().await?;
        let deadline = self.ctx.clock.now() + SETTLED_WITHIN;
        for lane in &self.setup.lanes {
            while status::of_lane(&self.ctx.bus, &lane.name).await.done_through < asked {
                if self.ctx.clock.now() >= deadline {
                    return Err(Failure::retry(format!(
                        "{}: purges that were asked for before have not ended",
                        lane.name
                    )));
                }
                attempt.progress(0, None, "waits for purges that were asked for before").await;
                self.ctx.clock.sleep(LOOK_EVERY / 8).await;
            }
        }
        Ok(())
    }

    async fn last_asked(&self) -> Result<u64, Failure> {
        let mut last = 0;
        for subject in [intake::changed(), intake::requested()] {
            let found = self.ctx.bus.last_message(STREAM, &subject).await?;
            last = last.max(found.map_or(0, |message| message.sequence));
        }
        Ok(last)
    }
}

impl CommandHandler for WarmHandler {
    type Command = Warm;
    type Outcome = WarmReport;

    async fn run(&self, command: Warm, attempt: &Attempt) -> Result<WarmReport, Failure> {
        let urls = warm::urls(&command, &self.setup).map_err(Failure::reject)?;
        self.settled(attempt).await?;
        Ok(warm::warm(&urls, &self.setup, attempt).await)
    }
}
