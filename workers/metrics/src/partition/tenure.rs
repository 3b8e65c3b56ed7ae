//! The work between two times of reading back: what has been counted is cut, committed, checkpointed, and in the end forgotten.

mod counting;

use std::time::{Duration, Instant};

use keelson_kit::follow::{Follow, FollowError, FollowOptions, Start};
use keelson_kit::journal::Commit;
use keelson_kit::lease::{End, Lease};
use keelson_schemas::slice::Slice;
use keelson_schemas::subject;
use tracing::{Instrument, Span, info, info_span, warn};

use super::{Owner, STREAM};
use crate::delta::Delta;
use crate::ledger::{self, Ledger};
use crate::recover::Recovered;
use crate::snapshot::Snapshots;
use crate::suspicion::Suspicion;
use crate::trail::Trail;
use crate::{retention, windows};

/// How long after a slice that the bus did not take it is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// The work between two times of reading back.
pub(super) struct Tenure<'a> {
    owner: &'a Owner,
    lease: &'a Lease,
    ledger: Ledger,
    snapshots: Snapshots,
    /// None before the first message: an owner with nothing to count has not begun.
    suspicion: Option<Suspicion>,
    /// The last sequence that was stored when this owner began.
    stored: u64,
    inbox: Follow,
    stream: u64,
    /// The last sequence that is in a slice.
    committed: u64,
    /// The last sequence that is counted.
    counted: u64,
    delta: Delta,
    rejected: u64,
    /// When the oldest message outside a slice was counted.
    since: Option<Instant>,
    /// A slice of which nobody knows whether it stands. Nothing else can be committed before it is.
    unanswered: Option<Slice>,
    checkpoint_at: Option<Instant>,
    /// How long slices are kept; less while their stream is full.
    kept_slices: Duration,
    forget_at: Instant,
    to_commit: Trail,
    to_checkpoint: Trail,
}

impl<'a> Tenure<'a> {
    pub(super) fn begin(owner: &'a Owner, lease: &'a Lease, recovered: Recovered) -> Self {
        let Recovered { ledger, snapshots, stream, through, stored, slices_read } = recovered;
        let filter = subject::tel(owner.partition);
        let now = owner.ctx.clock.now();
        let checkpoint_at = (slices_read > 0).then(|| now + owner.config.checkpoint_interval());
        Self {
            inbox: owner.ctx.bus.follow(FollowOptions::new(STREAM, filter, Start::After(through))),
            owner,
            lease,
            ledger,
            snapshots,
            suspicion: None,
            stored,
            stream,
            committed: through,
            counted: through,
            delta: Delta::default(),
            rejected: 0,
            since: None,
            unanswered: None,
            checkpoint_at,
            kept_slices: owner.config.slice_retention(),
            forget_at: now + retention::EVERY,
            to_commit: Trail::default(),
            to_checkpoint: Trail::default(),
        }
    }

    pub(super) async fn work(&mut self) -> anyhow::Result<End> {
        let clock = self.owner.ctx.clock.clone();
        loop {
            let (commit_at, checkpoint_at, forget_at) =
                (self.commit_at(), self.checkpoint_at, self.forget_at);
            tokio::select! {
                biased;
                _ = self.lease.lost() => return Ok(End::Over),
                () = self.owner.ctx.tasks.cancelled() => return self.leave().await,
                () = clock.sleep_until(commit_at.unwrap_or(forget_at)), if commit_at.is_some() => {
                    if let Some(end) = self.commit().await? {
                        return Ok(end);
                    }
                }
                () = clock.sleep_until(checkpoint_at.unwrap_or(forget_at)), if checkpoint_at.is_some() => {
                    if !self.checkpoint().await? {
                        return Ok(End::Over);
                    }
                }
                () = clock.sleep_until(forget_at) => self.forget().await,
                message = self.inbox.next(), if self.unanswered.is_none() => match message {
                    Ok(message) => self.take_all(message).await?,
                    Err(error) => return self.stream_replaced(&error).await,
                },
            }
        }
    }

    /// When what is pending has to be committed.
    fn commit_at(&self) -> Option<Instant> {
        let since = self.since?;
        let now = self.owner.ctx.clock.now();
        if self.unanswered.is_some() {
            return Some(now + TRY_AGAIN);
        }
        let is_due = self.delta.is_full() || self.is_careful(self.counted);
        Some(if is_due { now } else { since + self.owner.config.slice_interval() })
    }

    /// Commits what is pending, or the slice that is still unanswered.
    async fn commit(&mut self) -> anyhow::Result<Option<End>> {
        let slice = self.unanswered.take().unwrap_or_else(|| self.cut());
        let span = info_span!(
            "commit slice",
            otel.name = format!("commit {}", subject::slice(self.owner.partition)),
            slice.after = slice.after,
            slice.through = slice.through,
            slice.epoch = slice.epoch
        );
        self.to_commit.follow(&span);
        match self.ledger.commit(&slice).instrument(span.clone()).await {
            Commit::Done(_) => self.committed(&slice, &span)?,
            Commit::Unanswered(reason) => {
                warn!(partition = %self.owner.partition, reason, "a slice could not be published; trying again");
                self.unanswered = Some(slice);
            }
            Commit::Full => {
                self.make_room().await;
                self.unanswered = Some(slice);
            }
            Commit::Overtaken => return Ok(Some(End::ReadAgain)),
            Commit::Fenced { epoch } => {
                info!(partition = %self.owner.partition, lease.epoch = self.lease.epoch(), newer.epoch = epoch, "fenced: another owner has the partition");
                return Ok(Some(End::Over));
            }
            Commit::Refused(reason) => anyhow::bail!("the bus refuses a slice: {reason}"),
        }
        Ok(None)
    }

    /// Everything that is counted and not committed.
    fn cut(&mut self) -> Slice {
        Slice {
            partition: self.owner.partition.index(),
            stream: self.stream,
            after: self.committed,
            through: self.counted,
            epoch: self.lease.epoch(),
            cut_at_ms: self.owner.ctx.clock.now_ms(),
            rejected: std::mem::take(&mut self.rejected),
            services: self.delta.take(),
        }
    }

    fn committed(&mut self, slice: &Slice, span: &Span) -> anyhow::Result<()> {
        self.owner.state.apply(slice, self.owner.ctx.clock.now_ms() / 1000)?;
        self.committed = slice.through;
        self.since = None;
        self.kept_slices = self.owner.config.slice_retention();
        self.to_checkpoint.note(span);
        let due = self.owner.ctx.clock.now() + self.owner.config.checkpoint_interval();
        self.checkpoint_at.get_or_insert(due);
        Ok(())
    }

    /// Keeps the totals as they are committed; false when another owner has kept some since.
    async fn checkpoint(&mut self) -> anyhow::Result<bool> {
        let span =
            info_span!("checkpoint", otel.name = format!("checkpoint metrics.{}", self.owner.partition));
        self.to_checkpoint.follow(&span);
        let kept = self.snapshots.save(&self.owner.state, self.ledger.last()).instrument(span).await?;
        self.checkpoint_at = None;
        Ok(kept)
    }

    /// The stream of slices is full: those that the windows do not need go first, and then all that a checkpoint covers.
    async fn make_room(&mut self) {
        let windows = Duration::from_secs(windows::LONGEST_S);
        self.kept_slices = if self.kept_slices > windows { windows } else { Duration::ZERO };
        warn!(partition = %self.owner.partition, kept_s = self.kept_slices.as_secs(), "the stream of slices is full; older ones are removed before their time");
        self.forget().await;
    }

    /// Removes what the checkpoint covers. What fails is done a minute later.
    async fn forget(&mut self) {
        self.forget_at = self.owner.ctx.clock.now() + retention::EVERY;
        let (bus, now_ms) = (&self.owner.ctx.bus, self.owner.ctx.clock.now_ms());
        let covered = self.snapshots.covered();
        let telemetry = subject::tel(self.owner.partition);
        let slices = subject::slice(self.owner.partition);
        // The last slice stays: the next one names its sequence.
        let covered_slices = covered.slices.saturating_sub(1);
        let forgetting = async {
            let telemetry =
                retention::forget(bus, STREAM, &telemetry, now_ms, retention::TELEMETRY, covered.telemetry)
                    .await;
            let slices =
                retention::forget(bus, ledger::STREAM, &slices, now_ms, self.kept_slices, covered_slices)
                    .await;
            telemetry.and(slices)
        };
        let forgotten = tokio::select! {
            forgotten = forgetting => forgotten,
            () = self.lease.over(&self.owner.ctx.tasks) => return,
        };
        if let Err(error) = forgotten {
            warn!(partition = %self.owner.partition, error = %error, "what is checkpointed could not be removed; trying again in a minute");
        }
    }

    /// Commits and checkpoints before the process ends, so that the next owner has nothing to count again.
    async fn leave(&mut self) -> anyhow::Result<End> {
        if self.since.is_some()
            && let Some(end) = self.commit().await?
        {
            return Ok(end);
        }
        if self.checkpoint_at.is_some() {
            self.checkpoint().await?;
        }
        Ok(End::Over)
    }

    /// The telemetry stream was made anew or lost its end. What was counted of it stands.
    async fn stream_replaced(&mut self, error: &FollowError) -> anyhow::Result<End> {
        warn!(partition = %self.owner.partition, error = %error, "the telemetry stream is another one now");
        if let FollowError::Refused { .. } = error {
            anyhow::bail!("reading telemetry: {error}");
        }
        while self.since.is_some() {
            if let Some(end) = self.commit().await? {
                return Ok(end);
            }
            tokio::select! {
                () = self.owner.ctx.clock.sleep(TRY_AGAIN) => {}
                () = self.lease.over(&self.owner.ctx.tasks) => return Ok(End::Over),
            }
        }
        Ok(End::ReadAgain)
    }
}
