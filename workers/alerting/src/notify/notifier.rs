//! The active notifier, for as long as this process holds its lease: read back what is kept, then take in transitions and silences, write what follows from
//! them, and deliver what is written. What is decided is decided in [`super::dispatch`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_kit::checkpoint::CheckpointError;
use keelson_kit::dead_letter;
use keelson_kit::fault;
use keelson_kit::follow::{Follow, FollowError};
use keelson_kit::incoming::Stored;
use keelson_kit::kv::{KvError, Watch};
use keelson_kit::lease::{Lease, Loss};
use keelson_kit::publish::fresh_id;
use keelson_kit::role::Context;
use keelson_schemas::alerting::Transition;
use keelson_schemas::envelope::TRACEPARENT;
use keelson_schemas::subject;
use tokio::sync::watch;
use tracing::{info, warn};

use super::courier::Courier;
use super::desk::Desk;
use super::feed::Feeds;
use super::keeper::Keeper;
use super::outbox::{Done, Outbox};
use super::recover::{Recovered, recover};
use crate::history::STREAM;
use crate::loaded::Loaded;
use crate::receivers::Receivers;
use crate::silences;

/// The name under which transitions that cannot be read are dead-lettered.
const CONSUMER: &str = "alerting-notifier";
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

/// What is needed to be the notifier.
#[derive(Clone)]
pub struct Job {
    /// The role's context.
    pub ctx: Context,
    /// Routes and receivers, as they were last loaded.
    pub loaded: watch::Receiver<Arc<Loaded>>,
    /// What answers are given from.
    pub desk: Desk,
}

/// How a tenure ends.
enum End {
    /// The lease is lost or fenced, or the process shuts down.
    Over,
    /// There are other routes or receivers, or other groups or events, than those that were read.
    ReadAgain,
}

impl Job {
    /// Works until the lease is lost or the process shuts down.
    ///
    /// # Errors
    /// Something failed that only a fresh start may mend; nothing that is written is touched by it.
    pub async fn run(&self, lease: &Lease) -> anyhow::Result<()> {
        loop {
            let begun = tokio::select! {
                biased;
                () = self.ctx.tasks.cancelled() => return Ok(()),
                _ = lease.lost() => return Ok(()),
                begun = Tenure::begin(self, lease) => begun?,
            };
            let Some(mut tenure) = begun else { return Ok(()) };
            let end = tenure.work().await;
            self.desk.replace(None);
            match end? {
                End::Over => return Ok(()),
                End::ReadAgain => info!(
                    "notifying begins anew: other routes, or other groups or events on the bus than were read"
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
    async fn begin(job: &'a Job, lease: &'a Lease) -> anyhow::Result<Option<Self>> {
        let mut loaded = job.loaded.clone();
        let config = loaded.borrow_and_update().notify.clone();
        let receivers = Receivers::of(&config)?;
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

    async fn work(&mut self) -> anyhow::Result<End> {
        let clock = self.job.ctx.clock.clone();
        loop {
            let wake_at = self.settle()?;
            let end = tokio::select! {
                biased;
                () = self.job.ctx.tasks.cancelled() => return self.leave().await,
                loss = self.lease.lost() => match loss {
                    // Leases are given back as soon as the process is told to end.
                    Loss::Left => return self.leave().await,
                    Loss::Fenced | Loss::Shared => Some(End::Over),
                },
                _ = self.loaded.changed() => {
                    self.finish().await?;
                    Some(End::ReadAgain)
                }
                done = self.outbox.next() => self.done(done)?,
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
        let now_ms = self.job.ctx.clock.now_ms();
        match message.decode::<Transition>() {
            Ok(transition) => {
                let trace = message.headers.get(TRACEPARENT);
                self.job.desk.with(|dispatch| dispatch.apply(message.sequence, &transition, trace, now_ms));
            }
            Err(error) => {
                warn!(subject = message.subject(), sequence = message.sequence, %error, "this is no transition; it is dead-lettered and passed over");
                dead_letter::bury_message(
                    &self.job.ctx.bus,
                    STREAM,
                    CONSUMER,
                    message,
                    &error.to_string(),
                    1,
                )
                .await?;
            }
        }
        Ok(())
    }

    /// Takes in what has come to its end.
    fn done(&mut self, done: Done) -> anyhow::Result<Option<End>> {
        let (outbox, keeper) = (&mut self.outbox, &mut self.keeper);
        let ended = self.job.desk.with(|dispatch| match done {
            Done::Written(write) => match outbox.written(write) {
                Ok(id) => {
                    outbox.see_to(dispatch, &id, keeper.covered());
                    None
                }
                Err(error) => Some(read_again(&error)),
            },
            Done::Removed(id, result) => {
                outbox.removed(&id, result);
                outbox.see_to(dispatch, &id, keeper.covered());
                None
            }
            Done::Delivered(parcel, result) => {
                outbox.delivered(dispatch, parcel, result, keeper.covered());
                None
            }
            Done::Buried(parcel, reason, result) => {
                outbox.buried(dispatch, &parcel, &reason, result, keeper.covered());
                None
            }
            Done::Kept(kept) => match keeper.kept(kept) {
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
            },
        });
        Ok(ended.flatten())
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

    /// Failures are something to be alerted about, too. What cannot be told now is not told: the next failure will do.
    fn tell_of_failures(&mut self) {
        let signals = self.outbox.failures();
        if !signals.readings.is_empty() {
            let bus = self.job.ctx.bus.clone();
            self.job.ctx.tasks.spawn_once("signals of the notifier", async move {
                bus.publish_message(subject::evt("notifier", "signals"), fresh_id(), &signals).await?;
                Ok(())
            });
        }
    }

    fn forget(&self, now_ms: u64) {
        let outdated = self.job.desk.with(|dispatch| dispatch.forget(now_ms)).unwrap_or_default();
        if !outdated.is_empty() {
            let bus = self.job.ctx.bus.clone();
            self.job
                .ctx
                .tasks
                .spawn_once("outdated silences", async move { Ok(silences::remove(&bus, &outdated).await?) });
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
            if self.done(done)?.is_some() {
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
