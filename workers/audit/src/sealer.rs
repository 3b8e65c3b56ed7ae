//! The one sealer, for as long as this process holds its lease: reads the stream in order, and seals what came.

use std::time::{Duration, Instant};

use anyhow::bail;
use ed25519_dalek::{SigningKey, VerifyingKey};
use jiff::Timestamp;
use keelson_kit::checkpoint::{Checkpoint, CheckpointError, Snapshot};
use keelson_kit::fault;
use keelson_kit::follow::{FollowError, FollowOptions, Start};
use keelson_kit::journal::{Commit, Journal};
use keelson_kit::lease::{End, Lease, Owned};
use keelson_kit::publish::Outgoing;
use keelson_kit::retry::{Backoff, Schedule};
use keelson_kit::role::Context;
use keelson_schemas::audit::{SEALED, STREAM, Seal};
use keelson_schemas::{codec, id};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::chain::{Block, Chain};
use crate::digest::Entry;

/// The stream that holds the seals.
pub const EVENTS: &str = "EVENTS";
/// The checkpoint's name.
const CHECKPOINT: &str = "audit.sealer";

/// What is needed to be the sealer.
#[derive(Clone)]
pub struct Sealer {
    /// The role's context.
    pub ctx: Context,
    /// Signs, if there is one.
    pub key: Option<SigningKey>,
    /// The keys whose seals are taken for the chain's.
    pub trusted: Vec<VerifyingKey>,
    /// How long an entry waits for its seal.
    pub seal_every: Duration,
    /// Where it is told how far the stream is sealed.
    pub owned: Owned<watch::Receiver<Chain>>,
}

impl Sealer {
    /// Seals until the lease is lost or the process shuts down.
    ///
    /// # Errors
    /// Something failed that only a fresh start may mend; what is sealed stays sealed.
    pub async fn run(self, lease: Lease) -> anyhow::Result<()> {
        lease.tenures(&self.ctx.tasks, || self.tenure(&lease)).await
    }

    async fn tenure(&self, lease: &Lease) -> anyhow::Result<End> {
        let begun = tokio::select! {
            biased;
            () = lease.over(&self.ctx.tasks) => return Ok(End::Over),
            begun = Tenure::begin(self, lease) => begun?,
        };
        let Some(mut tenure) = begun else { return Ok(End::Over) };
        let _told = self.owned.hold(lease, tenure.told.subscribe());
        tenure.work().await
    }
}

struct Tenure<'a> {
    sealer: &'a Sealer,
    lease: &'a Lease,
    journal: Journal,
    checkpoint: Checkpoint,
    /// When the stream of seals was made.
    made_ms: i64,
    chain: Chain,
    told: watch::Sender<Chain>,
    block: Block,
    /// When the block has waited long enough; none while nothing but seals is in it, or sealing would never end.
    due: Option<Instant>,
}

impl<'a> Tenure<'a> {
    /// Reads back how far the stream is sealed; none when a sealer with a higher epoch has been there.
    async fn begin(sealer: &'a Sealer, lease: &'a Lease) -> anyhow::Result<Option<Self>> {
        let bus = &sealer.ctx.bus;
        let checkpoint = match Checkpoint::claim(bus, CHECKPOINT, lease.epoch()).await {
            Err(CheckpointError::Fenced { epoch, .. }) => {
                info!(
                    lease.epoch = lease.epoch(),
                    newer.epoch = epoch,
                    "fenced: another sealer has been there"
                );
                return Ok(None);
            }
            claimed => claimed?,
        };
        let head = checkpoint.head();
        let mut chain: Chain =
            if head.meta.is_empty() { Chain::default() } else { codec::decode(None, &head.meta)? };
        let made_ms = bus.stream_info(EVENTS).await?.created_ms;
        let covered = if head.stream_created_ms == made_ms { head.sequence } else { 0 };
        let mut journal = Journal::after(bus, EVENTS, SEALED, covered);
        journal.read(covered.min(journal.end().await?));
        let mut seals = journal.follow();
        while let Some(message) = seals.next_if_any().await? {
            let taken = message.decode::<Seal>().map_err(anyhow::Error::from);
            if let Err(error) = taken.and_then(|seal| Ok(chain.take(&seal, &sealer.trusted)?)) {
                warn!(sequence = message.sequence, %error, "this is no seal that belongs to the chain, and is passed over");
            }
            journal.read(message.sequence);
        }
        let chain = chain.over(bus.stream_info(STREAM).await?.created_ms);
        info!(
            lease.epoch = lease.epoch(),
            seals = chain.number,
            through = chain.through,
            "the audit trail is being sealed"
        );
        let (told, block) = (watch::Sender::new(chain.clone()), Block::default());
        Ok(Some(Self { sealer, lease, journal, checkpoint, made_ms, chain, told, block, due: None }))
    }

    async fn work(&mut self) -> anyhow::Result<End> {
        let ctx = &self.sealer.ctx;
        let mut entries = ctx.bus.follow(FollowOptions::new(STREAM, ">", Start::After(self.chain.through)));
        loop {
            let due = self.due.unwrap_or_else(|| ctx.clock.now());
            let ended = tokio::select! {
                biased;
                () = self.lease.over(&ctx.tasks) => return Ok(End::Over),
                () = ctx.clock.sleep_until(due), if self.due.is_some() => self.seal().await?,
                entry = entries.next() => match entry {
                    Ok(entry) => self.entry(&Entry::from(&entry)).await?,
                    Err(FollowError::Replaced { .. }) => Some(End::ReadAgain),
                    Err(error) => return Err(error.into()),
                },
            };
            if let Some(end) = ended {
                return Ok(end);
            }
        }
    }

    async fn entry(&mut self, entry: &Entry) -> anyhow::Result<Option<End>> {
        if !self.block.is_before(entry)
            && let Some(end) = self.seal().await?
        {
            return Ok(Some(end));
        }
        self.block.push(entry);
        if entry.subject != SEALED && self.due.is_none() {
            self.due = Some(self.sealer.ctx.clock.now() + self.sealer.seal_every);
        }
        if self.block.is_full() { self.seal().await } else { Ok(None) }
    }

    /// Seals the block, however long that takes.
    async fn seal(&mut self) -> anyhow::Result<Option<End>> {
        let ctx = &self.sealer.ctx;
        let at = moment(ctx.clock.now_ms());
        let seal = self.chain.seal(&self.block, self.lease.epoch(), at, self.sealer.key.as_ref());
        let number = seal.number.to_string();
        // With the epoch: what a former sealer may have published under the same number is not this one's.
        let epoch = seal.epoch.to_string();
        let id = id::derive("audit-seal", &[&seal.stream_created_ms.to_string(), &number, &epoch]);
        let outgoing = Outgoing::of(SEALED, id, &seal)?;
        let mut waits = Backoff::new(Schedule::NEAR);
        loop {
            fault::point("audit.sealing");
            let committed = tokio::select! {
                biased;
                () = self.lease.over(&ctx.tasks) => return Ok(Some(End::Over)),
                committed = self.journal.commit(outgoing.clone(), seal.epoch) => committed,
            };
            match committed {
                Commit::Done(_) => break,
                Commit::Unanswered(reason) => warn!(reason, "a seal cannot be published yet"),
                Commit::Full => warn!("a seal cannot be published: the stream of events is full"),
                Commit::Overtaken => return Ok(Some(End::ReadAgain)),
                Commit::Fenced { epoch } => {
                    info!(newer.epoch = epoch, "fenced: another sealer has been there");
                    return Ok(Some(End::Over));
                }
                Commit::Refused(reason) => bail!("seal {} is refused: {reason}", seal.number),
            }
            ctx.clock.sleep(waits.next_wait()).await;
        }
        fault::point("audit.sealed");
        self.chain.take(&seal, &self.sealer.trusted)?;
        self.told.send_replace(self.chain.clone());
        (self.block, self.due) = (Block::default(), None);
        self.keep().await
    }

    /// Keeps the end of the chain, so that the next sealer need not read all seals.
    async fn keep(&mut self) -> anyhow::Result<Option<End>> {
        let snapshot = Snapshot {
            sequence: self.journal.last(),
            stream_created_ms: self.made_ms,
            meta: codec::encode(&self.chain)?.into(),
            chunks: Vec::new(),
        };
        match self.checkpoint.save(snapshot).await {
            Ok(()) => Ok(None),
            Err(CheckpointError::Fenced { .. }) => Ok(Some(End::Over)),
            // The seal stands all the same, and the next one will be kept.
            Err(CheckpointError::Bus { error, .. }) => {
                warn!(%error, "the end of the chain of seals cannot be kept yet");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn moment(ms: u64) -> Timestamp {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}
