//! The work between two times of reading back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_kit::checkpoint::CheckpointError;
use keelson_kit::fault;
use keelson_kit::follow::{Follow, FollowError};
use keelson_kit::incoming::Stored;
use keelson_kit::kv::{KvError, Watch};
use keelson_kit::lease::{End, Lease};
use tokio::sync::watch;
use tracing::{info, warn};

use super::Job;
use crate::loaded::Loaded;
use crate::notify::courier::Courier;
use crate::notify::failures;
use crate::notify::feed::Feeds;
use crate::notify::intake;
use crate::notify::keeper::{Keeper, Kept};
use crate::notify::outbox::{Done, Outbox};
use crate::notify::recover::{Recovered, recover};
use crate::silences;

/// Transitions that are taken in before anything is decided.
const AT_ONCE: usize = 256;
/// How often everything is looked at, whatever happens or does not.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often how far it has come is kept, so that a successor has little to read again.
const KEEP_EVERY: Duration = Duration::from_secs(2);
/// How often what nobody wants to see any more is let go.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How long deliveries may take to end when the process does.
const FINISH_WITHIN: Duration = Duration::from_secs(3);

/// What a notifier knows and goes by.
pub(super) struct Tenure<'a> {
    job: &'a Job,
    lease: &'a Lease,
    loaded: watch::Receiver<Arc<Loaded>>,
    inbox: Follow,
    silences: Watch,
    keeper: Keeper,
    outbox: Outbox,
    feeds: Feeds,
    sweep_at: Instant,
    keep_at: Instant,
    forget_at: Instant,
}

impl<'a> Tenure<'a> {
    /// Reads back what is kept; none when a notifier with a higher epoch has been there.
    pub async fn begin(job: &'a Job, lease: &'a Lease) -> anyhow::Result<Option<Self>> {
        let mut loaded = job.loaded.clone();
        let (config, receivers) = {
            let loaded = loaded.borrow_and_update();
            (loaded.notify.clone(), loaded.receivers.clone())
        };
        let Some(recovered) = recover(&job.ctx, &config, lease.epoch()).await? else { return Ok(None) };
        let Recovered { dispatch, keeper, fence, slots, inbox } = recovered;
        job.desk.replace(Some(dispatch));
        let now = job.ctx.clock.now();
        Ok(Some(Self {
            silences: job.ctx.bus.kv(silences::BUCKET).watch(">"),
            outbox: Outbox::new(&job.ctx, Courier::new(&job.ctx, lease, receivers), fence, slots),
            feeds: Feeds::begin(&job.ctx, lease, &config, &job.desk)?,
            job,
            lease,
            loaded,
            inbox,
            keeper,
            sweep_at: now,
            keep_at: now + KEEP_EVERY,
            forget_at: now + FORGET_EVERY,
        }))
    }

    /// Decides, writes and delivers, whatever comes.
    pub async fn work(&mut self) -> anyhow::Result<End> {
        let clock = self.job.ctx.clock.clone();
        loop {
            let wake_at = self.settle()?;
            // Nothing goes first: deliveries that end all the time must not keep news waiting, nor news them.
            let end = tokio::select! {
                () = self.lease.over(&self.job.ctx.tasks) => return self.leave().await,
                _ = self.loaded.changed() => {
                    self.finish().await?;
                    Some(End::ReadAgain)
                }
                done = self.outbox.next() => self.done(done),
                change = self.silences.next() => {
                    let change = change?;
                    self.job.desk.with(|dispatch| dispatch.silence(&change));
                    None
                }
                message = self.inbox.next() => match message {
                    Ok(message) => {
                        self.take_all(&message).await?;
                        None
                    }
                    Err(error) => self.stream_replaced(&error)?,
                },
                () = clock.sleep_until(wake_at) => None,
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    /// Decides what is due, begins what follows from it, and says when to come again.
    fn settle(&mut self) -> anyhow::Result<Instant> {
        let clock = &self.job.ctx.clock;
        let (now, now_ms) = (clock.now(), clock.now_ms());
        let sweeps = now >= self.sweep_at;
        if sweeps {
            self.sweep_at = now + SWEEP_EVERY;
        }
        let (outbox, keeper) = (&mut self.outbox, &mut self.keeper);
        let again_at_ms = self.job.desk.with(|dispatch| {
            dispatch.settle(now_ms);
            let mut groups = dispatch.looked_at();
            if sweeps {
                groups.extend(dispatch.groups().map(|(id, _)| id.clone()));
            }
            groups.iter().for_each(|id| outbox.see_to(dispatch, id, keeper.covered()));
            dispatch.again_at_ms()
        });
        if now >= self.keep_at {
            self.keep_at = now + KEEP_EVERY;
            self.begin_to_keep()?;
        }
        self.save();
        if sweeps {
            self.tell_of_failures();
        }
        if now >= self.forget_at {
            self.forget_at = now + FORGET_EVERY;
            self.forget(now_ms);
        }
        let again_in = again_at_ms
            .flatten()
            .map_or(SWEEP_EVERY, |at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms)));
        Ok(self.sweep_at.min(now + again_in))
    }

    /// Takes in a message and those that have arrived behind it: what comes together is decided about together.
    async fn take_all(&mut self, first: &Stored) -> anyhow::Result<()> {
        self.take(first).await?;
        for _ in 1..AT_ONCE {
            match self.inbox.ready() {
                Some(Ok(message)) => self.take(&message).await?,
                // An error shows again when the next message is asked for.
                Some(Err(_)) | None => break,
            }
        }
        self.feeds.tell();
        Ok(())
    }

    async fn take(&mut self, message: &Stored) -> anyhow::Result<()> {
        let transition = intake::read(&self.job.ctx, message).await?;
        let now_ms = self.job.ctx.clock.now_ms();
        self.job.desk.with(|dispatch| intake::take(dispatch, message, transition.as_ref(), now_ms));
        Ok(())
    }

    /// Takes in what has come to its end.
    fn done(&mut self, done: Done) -> Option<End> {
        let (desk, outbox, covered) = (&self.job.desk, &mut self.outbox, self.keeper.covered());
        match done {
            Done::Written(write) => match outbox.written(write) {
                Ok(id) => desk.with(|dispatch| outbox.see_to(dispatch, &id, covered)),
                Err(error) => return Some(read_again(&error)),
            },
            Done::Removed(id, result) => {
                outbox.removed(&id, result);
                desk.with(|dispatch| outbox.see_to(dispatch, &id, covered))
            }
            Done::Delivered(parcel, result) => {
                desk.with(|dispatch| outbox.delivered(dispatch, parcel, result, covered))
            }
            Done::Buried(parcel, given_up, result) => {
                desk.with(|dispatch| outbox.buried(dispatch, &parcel, &given_up, result, covered))
            }
            Done::Kept(kept) => return kept_or_over(&mut self.keeper, kept),
        };
        None
    }

    fn begin_to_keep(&mut self) -> anyhow::Result<()> {
        let (outbox, keeper) = (&self.outbox, &mut self.keeper);
        let begun = self.job.desk.with(|dispatch| match keeper.may_begin(dispatch) {
            true => keeper.begin(dispatch, outbox.unwritten(dispatch)),
            false => Ok(()),
        });
        begun.unwrap_or(Ok(()))
    }

    fn save(&mut self) {
        let outbox = &self.outbox;
        if let Some(saving) = self.keeper.save(|id, version| outbox.is_written(id, version)) {
            self.outbox.keep(saving);
        }
    }

    fn tell_of_failures(&mut self) {
        let signals = self.outbox.failures();
        if !signals.readings.is_empty() {
            failures::publish(&self.job.ctx, signals);
        }
    }

    fn forget(&self, now_ms: u64) {
        let outdated = self.job.desk.with(|dispatch| dispatch.forget(now_ms)).unwrap_or_default();
        if !outdated.is_empty() {
            let bus = self.job.ctx.bus.clone();
            let removing = async move { Ok(silences::remove(&bus, &outdated).await?) };
            self.job.ctx.tasks.spawn_once("outdated silences", removing);
        }
    }

    fn stream_replaced(&self, error: &FollowError) -> anyhow::Result<Option<End>> {
        if let FollowError::Refused { .. } = error {
            anyhow::bail!("reading transitions: {error}");
        }
        warn!(%error, "the stream of events is another one now");
        Ok(Some(End::ReadAgain))
    }

    /// Ends what is under way and keeps how far it has come, so that the next notifier need not deliver anything twice.
    async fn leave(&mut self) -> anyhow::Result<End> {
        self.finish().await?;
        self.begin_to_keep()?;
        self.save();
        self.finish().await?;
        Ok(End::Over)
    }

    /// Awaits what is under way, and begins no delivery. Another may be at work already: what is written by compare-and-set cannot be in its way.
    async fn finish(&mut self) -> anyhow::Result<()> {
        self.outbox.close();
        let clock = self.job.ctx.clock.clone();
        let until = clock.now() + FINISH_WITHIN;
        while !self.outbox.is_quiet() {
            let done = tokio::select! {
                biased;
                done = self.outbox.next() => done,
                () = clock.sleep_until(until) => return Ok(()),
            };
            if self.done(done).is_some() {
                return Ok(());
            }
            self.settle()?;
        }
        Ok(())
    }
}

fn read_again(error: &KvError) -> End {
    warn!(%error, "a group could not be written; reading again what is kept");
    End::ReadAgain
}

fn kept_or_over(keeper: &mut Keeper, kept: Kept) -> Option<End> {
    match keeper.kept(kept) {
        Ok(()) => {
            fault::point("notify.positioned");
            None
        }
        Err(CheckpointError::Fenced { epoch, .. }) => {
            info!(newer.epoch = epoch, "fenced: another notifier has been there");
            Some(End::Over)
        }
        Err(error) => {
            warn!(%error, "how far notifying has come could not be kept; trying again");
            None
        }
    }
}
