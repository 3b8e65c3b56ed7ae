//! The active evaluator, for as long as this process holds its lease: read back what is true, catch up, then evaluate whatever comes and commit
//! what changes. What is decided is decided in [`crate::evaluate`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_kit::follow::FollowError;
use keelson_kit::journal::Commit;
use keelson_kit::lease::Lease;
use keelson_kit::role::Context;
use keelson_schemas::alerting::Transition;
use keelson_schemas::slice::Slice;
use tokio::sync::watch;
use tracing::{Instrument, info, info_span, warn};

use crate::board::Board;
use crate::evaluate::{Change, Evaluator};
use crate::history::{History, Position};
use crate::inputs::{Input, Inputs, SLICES};
use crate::loaded::Loaded;

/// How often the rules are evaluated although nothing came: windows end, and silence is something, too.
const TICK: Duration = Duration::from_millis(250);
/// How often the position is kept, so that a successor has little to catch up with.
const KEEP_EVERY: Duration = Duration::from_secs(5);
/// How long after a transition that the bus did not take it is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(200);
/// How far into the past an evaluator catches up that comes late: what is longer ago is of no use to anybody who is called now.
const CATCH_UP: Duration = Duration::from_secs(3600);
/// The step in which time passes while catching up.
const CATCH_UP_STEP_MS: u64 = 1_000;
/// How much older than its window a slice may be that still has samples of it: as far as event time may lag behind, and a little for clocks.
const SLACK: Duration = Duration::from_secs(60);

/// What is needed to be the evaluator.
#[derive(Clone)]
pub struct Job {
    /// The role's context.
    pub ctx: Context,
    /// The rules, as they were last loaded.
    pub loaded: watch::Receiver<Arc<Loaded>>,
    /// Where it is told how the rules stand.
    pub board: Board,
}

/// How a tenure ends.
enum End {
    /// The lease is lost or fenced, or the process shuts down.
    Over,
    /// There are other transitions, other slices or other rules than those that were read.
    ReadAgain,
}

impl Job {
    /// Works until the lease is lost or the process shuts down.
    ///
    /// # Errors
    /// Something failed that only a fresh start may mend; nothing that is committed is touched by it.
    pub async fn run(&self, lease: &Lease) -> anyhow::Result<()> {
        loop {
            let opened = tokio::select! {
                biased;
                () = lease.over(&self.ctx.tasks) => return Ok(()),
                opened = Tenure::begin(self, lease) => opened?,
            };
            let Some(mut tenure) = opened else { return Ok(()) };
            match tenure.work().await? {
                End::Over => return Ok(()),
                End::ReadAgain => info!(
                    "alerting begins anew: other rules, or other transitions or slices on the bus than were read"
                ),
            }
        }
    }
}

/// The work between two times of reading back.
struct Tenure<'a> {
    job: &'a Job,
    lease: &'a Lease,
    loaded: watch::Receiver<Arc<Loaded>>,
    evaluator: Evaluator,
    history: History,
    inputs: Inputs,
    position: Position,
    keep_at: Instant,
}

impl<'a> Tenure<'a> {
    async fn begin(job: &'a Job, lease: &'a Lease) -> anyhow::Result<Option<Self>> {
        let Some(mut history) = History::open(&job.ctx.bus, lease.epoch()).await? else { return Ok(None) };
        let mut loaded = job.loaded.clone();
        let rules = loaded.borrow_and_update().rules.clone();
        let position = begin_at(&job.ctx, history.position()).await?;
        // Kept before anything is evaluated: a transition does not say of which stream the slices are that it names.
        history.evaluated(position);
        if !history.keep().await? {
            return Ok(None);
        }
        let look_back = rules.longest_window() + SLACK;
        let since_ms = position.at_ms.saturating_sub(u64::try_from(look_back.as_millis())?);
        let tenure = Self {
            inputs: Inputs::since(&job.ctx, since_ms)?,
            evaluator: Evaluator::new(rules, history.alerts().cloned().collect()),
            keep_at: job.ctx.clock.now(),
            job,
            lease,
            loaded,
            history,
            position,
        };
        Ok(Some(tenure))
    }

    async fn work(&mut self) -> anyhow::Result<End> {
        if let Some(end) = self.catch_up().await? {
            return Ok(end);
        }
        info!(
            lease.epoch = self.lease.epoch(),
            through = self.position.slices_through,
            "evaluates the rules"
        );
        let clock = self.job.ctx.clock.clone();
        let mut tick_at = clock.now();
        loop {
            let end = tokio::select! {
                biased;
                () = self.lease.over(&self.job.ctx.tasks) => return Ok(self.leave().await),
                _ = self.loaded.changed() => Some(End::ReadAgain),
                () = clock.sleep_until(tick_at) => {
                    tick_at = clock.now() + TICK;
                    self.tick().await?
                }
                input = self.inputs.next() => match input {
                    Ok(input) => self.take(input).await?,
                    Err(error) => self.stream_replaced(&error),
                },
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    /// Goes through what is stored already, at the times at which it became known: an evaluator that was away finds what it would have found.
    async fn catch_up(&mut self) -> anyhow::Result<Option<End>> {
        for reading in self.inputs.stored_readings().await? {
            self.evaluator.read(&reading);
        }
        let evaluated_through = self.position.slices_through;
        while let Some((sequence, message, slice)) = self.inputs.next_stored_slice().await? {
            if sequence <= evaluated_through {
                self.evaluator.observe(&slice);
                self.evaluator.advance(message.time_ms.min(self.position.at_ms));
                continue;
            }
            if self.lease.valid_until().is_none() || self.job.ctx.tasks.is_cancelled() {
                return Ok(Some(End::Over));
            }
            let at_ms = message.time_ms.max(self.position.at_ms);
            if let Some(end) = self.pass_time_until(at_ms).await? {
                return Ok(Some(end));
            }
            if let Some(end) = self.take_slice(sequence, &slice, at_ms).await? {
                return Ok(Some(end));
            }
        }
        self.pass_time_until(self.job.ctx.clock.now_ms()).await
    }

    async fn pass_time_until(&mut self, at_ms: u64) -> anyhow::Result<Option<End>> {
        while self.position.at_ms + CATCH_UP_STEP_MS < at_ms {
            if let Some(end) = self.evaluate(self.position.at_ms + CATCH_UP_STEP_MS).await? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    async fn take(&mut self, input: Input) -> anyhow::Result<Option<End>> {
        let now_ms = self.job.ctx.clock.now_ms();
        match input {
            Input::Slice(sequence, slice) => self.take_slice(sequence, &slice, now_ms).await,
            Input::Readings(readings) => {
                readings.iter().for_each(|reading| self.evaluator.read(reading));
                self.evaluate(now_ms).await
            }
        }
    }

    async fn take_slice(&mut self, sequence: u64, slice: &Slice, at_ms: u64) -> anyhow::Result<Option<End>> {
        self.evaluator.observe(slice);
        self.position.slices_through = sequence;
        self.evaluate(at_ms).await
    }

    /// Windows end and silence grows although nothing comes; and from time to time what is known is kept.
    async fn tick(&mut self) -> anyhow::Result<Option<End>> {
        if let Some(end) = self.evaluate(self.job.ctx.clock.now_ms()).await? {
            return Ok(Some(end));
        }
        self.job.board.tell(self.evaluator.status());
        let now = self.job.ctx.clock.now();
        if now < self.keep_at {
            return Ok(None);
        }
        self.keep_at = now + KEEP_EVERY;
        match self.history.keep().await {
            Ok(kept) => Ok((!kept).then_some(End::Over)),
            Err(error) => {
                warn!(%error, "how far the rules were evaluated could not be kept; trying again");
                Ok(None)
            }
        }
    }

    /// Evaluates the rules as of a time, and commits what changes. A clock that was set back does not move time back.
    async fn evaluate(&mut self, at_ms: u64) -> anyhow::Result<Option<End>> {
        self.position.at_ms = self.position.at_ms.max(at_ms);
        for change in self.evaluator.evaluate(self.position.at_ms) {
            if let Some(end) = self.commit(change).await? {
                return Ok(Some(end));
            }
        }
        self.history.evaluated(self.position);
        Ok(None)
    }

    /// Makes one change true. Nothing else is decided before it is known whether it stands.
    async fn commit(&mut self, change: Change) -> anyhow::Result<Option<End>> {
        let transition = Transition {
            from: change.from,
            at_ms: self.position.at_ms,
            epoch: self.lease.epoch(),
            slices_through: self.history.position().slices_through,
            alert: change.alert,
        };
        let span = info_span!("alert", otel.name = %format!("alert {}", transition.fact()), alert.name = transition.alert.labels.get("alertname"), alert.fingerprint = %transition.alert.fingerprint);
        loop {
            match self.history.commit(&transition).instrument(span.clone()).await {
                Commit::Done(_) => {
                    self.evaluator.apply(&transition.alert);
                    info!(alert.labels = ?transition.alert.labels, alert.value = transition.alert.value, "alert {}", transition.fact());
                    return Ok(None);
                }
                Commit::Unanswered(reason) => {
                    warn!(reason, "a transition could not be published; trying again")
                }
                Commit::Full => warn!("the stream of events takes no more; trying again"),
                Commit::Overtaken => return Ok(Some(End::ReadAgain)),
                Commit::Fenced { epoch } => {
                    info!(
                        lease.epoch = self.lease.epoch(),
                        newer.epoch = epoch,
                        "fenced: another evaluator is active"
                    );
                    return Ok(Some(End::Over));
                }
                Commit::Refused(reason) => anyhow::bail!("the bus refuses a transition: {reason}"),
            }
            tokio::select! {
                () = self.lease.over(&self.job.ctx.tasks) => return Ok(Some(End::Over)),
                () = self.job.ctx.clock.sleep(TRY_AGAIN) => {}
            }
        }
    }

    fn stream_replaced(&self, error: &FollowError) -> Option<End> {
        warn!(%error, "what the rules look at is no longer what was read");
        Some(End::ReadAgain)
    }

    /// Where it stands is of use to the successor, and taken only from whom the checkpoint still belongs to.
    async fn leave(&mut self) -> End {
        if let Err(error) = self.history.keep().await {
            warn!(%error, "how far the rules were evaluated could not be kept; the successor evaluates some seconds again");
        }
        End::Over
    }
}

/// Where to go on: after what was evaluated, or from now on where nothing was, or not of these slices.
async fn begin_at(ctx: &Context, known: Position) -> anyhow::Result<Position> {
    let slices = ctx.bus.stream_info(SLICES).await?;
    let now_ms = ctx.clock.now_ms();
    let earliest_ms = now_ms.saturating_sub(u64::try_from(CATCH_UP.as_millis())?);
    let position = if known.at_ms == 0 {
        Position { slices_made_ms: slices.created_ms, slices_through: slices.last_sequence, at_ms: now_ms }
    } else if known.slices_made_ms != slices.created_ms || known.slices_through > slices.last_sequence {
        Position { slices_made_ms: slices.created_ms, slices_through: 0, at_ms: known.at_ms.max(earliest_ms) }
    } else {
        known
    };
    if position.at_ms < earliest_ms {
        warn!(
            since_ms = position.at_ms,
            "nothing was evaluated for more than an hour; of that only the last hour is made up for"
        );
    }
    Ok(Position { at_ms: position.at_ms.max(earliest_ms), ..position })
}
