//! The work between two times of reading back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_kit::follow::FollowError;
use keelson_kit::journal::Commit;
use keelson_kit::lease::{End, Lease};
use keelson_schemas::alerting::{Alert, Transition};
use keelson_schemas::limits::MAX_AHEAD_MS;
use keelson_schemas::slice::Slice;
use tokio::sync::watch;
use tracing::{Instrument, info, info_span, warn};

use super::Job;
use super::catch_up::begin_at;
use crate::board::{EndRequest, Standing};
use crate::evaluate::{Change, Evaluator};
use crate::history::{History, Position};
use crate::inputs::{Input, Inputs};
use crate::loaded::Loaded;

/// How often the rules are evaluated although nothing came: windows end, and silence is something, too.
const TICK: Duration = Duration::from_millis(250);
/// How often the position is kept, so that a successor has little to catch up with.
const KEEP_EVERY: Duration = Duration::from_secs(5);
/// How long after a transition that the bus did not take it is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(200);
/// How much older than the rules' windows a slice may be that still matters: it may tell of what was ahead of its time, or lag behind a little.
const SLACK_MS: u64 = MAX_AHEAD_MS + 120_000;
/// The longest annotation, in bytes; what is longer is cut.
const MAX_ANNOTATION_BYTES: usize = 4_096;
/// A clock that is set back by more than this has told a wrong time before; what was evaluated then is evaluated again.
const SET_BACK_MS: u64 = 5_000;

/// What an evaluator knows and goes by.
pub(super) struct Tenure<'a> {
    pub job: &'a Job,
    pub lease: &'a Lease,
    pub evaluator: Evaluator,
    pub inputs: Inputs,
    pub position: Position,
    /// From when on inputs are read.
    pub since_ms: u64,
    loaded: watch::Receiver<Arc<Loaded>>,
    history: History,
    keep_at: Instant,
}

impl<'a> Tenure<'a> {
    /// Reads back what is true; none when an evaluator with a higher epoch has been there.
    pub async fn begin(job: &'a Job, lease: &'a Lease) -> anyhow::Result<Option<Self>> {
        let Some(mut history) = History::open(&job.ctx.bus, lease.epoch()).await? else { return Ok(None) };
        let mut loaded = job.loaded.clone();
        let rules = loaded.borrow_and_update().rules.clone();
        let position = begin_at(&job.ctx, history.position()).await?;
        // Kept before anything is evaluated: a transition does not say of which stream the slices are that it names.
        history.evaluated(position);
        if !history.keep().await? {
            return Ok(None);
        }
        let look_back_ms = u64::try_from(rules.longest_window().as_millis())?.saturating_add(SLACK_MS);
        let since_ms = position.at_ms.saturating_sub(look_back_ms);
        let mut evaluator = Evaluator::new(rules, history.alerts().cloned().collect());
        evaluator.cease(history.ceased_at_ms());
        let tenure = Self {
            inputs: Inputs::since(&job.ctx, since_ms)?,
            evaluator,
            keep_at: job.ctx.clock.now() + KEEP_EVERY,
            job,
            lease,
            loaded,
            history,
            position,
            since_ms,
        };
        Ok(Some(tenure))
    }

    /// Evaluates whatever comes.
    pub async fn work(&mut self) -> anyhow::Result<End> {
        let clock = self.job.ctx.clock.clone();
        let mut tick_at = clock.now();
        loop {
            let end = tokio::select! {
                biased;
                () = self.lease.over(&self.job.ctx.tasks) => return Ok(self.leave().await),
                _ = self.loaded.changed() => self.loaded_again(),
                () = clock.sleep_until(tick_at) => {
                    let end = self.tick().await?;
                    tick_at = clock.now() + TICK;
                    end
                }
                request = self.job.board.end_request() => self.end(request).await?,
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

    /// Other receivers are none of its business.
    fn loaded_again(&mut self) -> Option<End> {
        let rules = self.loaded.borrow_and_update().rules.clone();
        (!self.evaluator.goes_by(&rules)).then_some(End::ReadAgain)
    }

    async fn take(&mut self, input: Input) -> anyhow::Result<Option<End>> {
        match input {
            Input::Slice(sequence, slice) => {
                let now_ms = self.job.ctx.clock.now_ms();
                match self.has_missed_something(now_ms) {
                    true => Ok(Some(End::ReadAgain)),
                    false => self.take_slice(sequence, &slice, now_ms).await,
                }
            }
            Input::Readings(readings) => {
                readings.iter().for_each(|reading| self.evaluator.read(reading));
                self.evaluate_now().await
            }
        }
    }

    pub async fn take_slice(
        &mut self,
        sequence: u64,
        slice: &Slice,
        at_ms: u64,
    ) -> anyhow::Result<Option<End>> {
        self.evaluator.observe(slice);
        self.position.slices_through = sequence;
        self.evaluate(at_ms).await
    }

    /// Ends an alert because somebody says that it is over. If its condition holds, it fires again when the rules are evaluated next.
    async fn end(&mut self, request: EndRequest) -> anyhow::Result<Option<End>> {
        let now_ms = self.job.ctx.clock.now_ms();
        if self.has_missed_something(now_ms) {
            // Who asks is not answered, and asks again.
            return Ok(Some(End::ReadAgain));
        }
        self.position.at_ms = self.position.at_ms.max(now_ms);
        let change = self.evaluator.end(&request.fingerprint, self.position.at_ms);
        let was_there = change.is_some();
        if let Some(change) = change
            && let Some(end) = self.commit(change).await?
        {
            return Ok(Some(end));
        }
        // Who asked may have gone.
        let _ = request.answer.send(was_there);
        Ok(None)
    }

    /// Windows end and silence grows although nothing comes; and from time to time what is known is kept.
    async fn tick(&mut self) -> anyhow::Result<Option<End>> {
        if let Some(end) = self.evaluate_now().await? {
            return Ok(Some(end));
        }
        self.tell();
        let now = self.job.ctx.clock.now();
        if now < self.keep_at {
            return Ok(None);
        }
        self.keep_at = now + KEEP_EVERY;
        self.history.ceased(self.evaluator.ceased());
        match self.history.keep().await {
            Ok(kept) => Ok((!kept).then_some(End::Over)),
            Err(error) => {
                warn!(%error, "how far the rules were evaluated could not be kept; trying again");
                Ok(None)
            }
        }
    }

    async fn evaluate_now(&mut self) -> anyhow::Result<Option<End>> {
        let now_ms = self.job.ctx.clock.now_ms();
        if self.has_missed_something(now_ms) {
            return Ok(Some(End::ReadAgain));
        }
        self.evaluate(now_ms).await
    }

    /// Whether the bus was away, this process stood still, or the clock was wrong: then silence means nothing before all is read that was stored meanwhile.
    fn has_missed_something(&self, now_ms: u64) -> bool {
        !self.lease.is_valid() || now_ms + SET_BACK_MS < self.position.at_ms
    }

    /// Evaluates the rules as of a time, and commits what changes. A clock that is set back a little does not move time back.
    pub async fn evaluate(&mut self, at_ms: u64) -> anyhow::Result<Option<End>> {
        self.position.at_ms = self.position.at_ms.max(at_ms);
        let changes = self.evaluator.evaluate(self.position.at_ms);
        let has_changed = !changes.is_empty();
        for change in changes {
            if let Some(end) = self.commit(change).await? {
                return Ok(Some(end));
            }
        }
        self.history.evaluated(self.position);
        if has_changed {
            self.tell();
        }
        Ok(None)
    }

    /// Who asks for the rules is told of a change as soon as it is true.
    fn tell(&self) {
        let (rules, evaluated_at_ms) = (self.evaluator.status(), self.position.at_ms);
        self.job.board.tell(Standing { rules, evaluated_at_ms });
    }

    /// Makes one change true. Nothing else is decided before it is known whether it stands.
    async fn commit(&mut self, change: Change) -> anyhow::Result<Option<End>> {
        let transition = Transition {
            from: change.from,
            at_ms: self.position.at_ms,
            epoch: self.lease.epoch(),
            slices_through: self.history.position().slices_through,
            alert: clipped(change.alert),
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
    pub async fn leave(&mut self) -> End {
        self.history.ceased(self.evaluator.ceased());
        if let Err(error) = self.history.keep().await {
            warn!(%error, "how far the rules were evaluated could not be kept; the successor evaluates some seconds again");
        }
        End::Over
    }
}

/// An alert that fits everywhere: a transition is a message, and some hundred of them are a chunk of a checkpoint.
fn clipped(mut alert: Alert) -> Alert {
    for annotation in alert.annotations.values_mut() {
        let end = annotation.floor_char_boundary(MAX_ANNOTATION_BYTES);
        annotation.truncate(end);
    }
    alert
}
