//! The thin shell: one task a group that watches the keys, does what the campaigns say, and tells the holders.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use keelson_schemas::codec;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};
use uuid::Uuid;

use super::campaign::{Action, Campaign, Candidate, Observation, Record, Standing, Written};
use super::members::Members;
use super::share::{fair_share, order};
use super::{BUCKET, Holding, Lease, Loss, Timing};
use crate::bus::Bus;
use crate::clock::Clock;
use crate::kv::{Change, Watch};
use crate::publish::{Outgoing, fresh_id};
use crate::role::Context;
use crate::tasks::Tasks;

/// How often time is looked at; what a takeover may take beyond the duration.
const TICK: Duration = Duration::from_millis(100);
/// How long a write or a read may take. Short, so that a lost answer leaves time for another try within the duration.
const IO_TIMEOUT: Duration = Duration::from_secs(1);
/// Leases that were gained and not yet taken out by [`LeaseGroup::next`], for each key.
const GAINED_PER_KEY: usize = 4;

/// What to share, and with whom.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// Members of one name share; it is the beginning of every key: `metrics.partition`.
    pub name: String,
    /// The rest of each key, the same for all members: `0` to `15`. `member` is taken.
    pub keys: Vec<String>,
    /// How long leases last.
    pub timing: Timing,
}

/// Membership in a group. Dropping it leaves the group and releases what is held.
#[derive(Debug)]
pub struct LeaseGroup {
    gained: mpsc::Receiver<Lease>,
    tasks: Tasks,
}

impl LeaseGroup {
    /// Joins in the background, for as long as `ctx.tasks` runs.
    pub fn join(ctx: &Context, spec: GroupSpec) -> Self {
        let (sender, gained) = mpsc::channel(spec.keys.len().max(1) * GAINED_PER_KEY);
        let tasks = ctx.tasks.group();
        let (ctx, group) = (ctx.clone(), tasks.clone());
        tasks.spawn(format!("leases of {}", spec.name), move || {
            Group::new(&ctx, &spec, sender.clone()).run(group.clone()).map(Ok)
        });
        Self { gained, tasks }
    }

    /// The next lease that is gained; None once the group was left.
    pub async fn next(&mut self) -> Option<Lease> {
        tokio::select! {
            biased;
            () = self.tasks.cancelled() => None,
            lease = self.gained.recv() => lease,
        }
    }
}

impl Drop for LeaseGroup {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

struct Group {
    bus: Bus,
    clock: Clock,
    name: String,
    me: Candidate,
    timing: Timing,
    slots: Vec<Slot>,
    order: Vec<usize>,
    members: Members,
    announce_at: Instant,
    announcing: bool,
    io: FuturesUnordered<BoxFuture<'static, Done>>,
    gained: mpsc::Sender<Lease>,
}

struct Slot {
    key: Arc<str>,
    campaign: Campaign,
    /// The epoch that was handed out, and the way to its holder.
    handed_out: Option<(u64, watch::Sender<Holding>)>,
}

enum Done {
    Written(usize, Written),
    Read(usize, Option<Observation>),
    Announced,
    Released,
}

impl Group {
    fn new(ctx: &Context, spec: &GroupSpec, gained: mpsc::Sender<Lease>) -> Self {
        let me = Candidate { owner: Uuid::new_v4().simple().to_string(), node: ctx.node.to_string() };
        let slot = |key: &String| Slot {
            key: format!("{}.{key}", spec.name).into(),
            campaign: Campaign::new(me.clone(), spec.timing),
            handed_out: None,
        };
        Self {
            slots: spec.keys.iter().map(slot).collect(),
            order: order(spec.keys.len(), &me.owner).collect(),
            members: Members::new(me.clone(), spec.timing.duration),
            bus: ctx.bus.clone(),
            clock: ctx.clock.clone(),
            name: spec.name.clone(),
            timing: spec.timing,
            announce_at: ctx.clock.now(),
            announcing: false,
            io: FuturesUnordered::new(),
            gained,
            me,
        }
    }

    async fn run(mut self, tasks: Tasks) {
        let mut watch = self.watch();
        let mut tick_at = self.clock.now();
        while !tasks.is_cancelled() {
            tokio::select! {
                () = tasks.cancelled() => {}
                change = watch.next() => match change {
                    Ok(change) => self.observed(&change),
                    Err(error) => {
                        warn!(lease.group = %self.name, %error, "leases cannot be watched; watching again");
                        self.clock.sleep(IO_TIMEOUT).await;
                        watch = self.watch();
                    }
                },
                Some(done) = self.io.next() => self.done(done),
                // A moment, not a duration: changes by others must not put off one's own renewals.
                () = self.clock.sleep_until(tick_at) => {
                    self.tick();
                    tick_at = self.clock.now() + TICK;
                }
            }
            self.tell_holders();
        }
        self.leave().await;
    }

    fn watch(&self) -> Watch {
        self.bus.kv(BUCKET).watch(&format!("{}.>", self.name))
    }

    fn observed(&mut self, change: &Change) {
        let now = self.clock.now();
        let record = change.value.as_deref().and_then(decode);
        if let Some(node) = self.node_of(&change.key) {
            return self.members.observe(node, change.revision, record, now);
        }
        if let Some(slot) = self.slots.iter_mut().find(|slot| *slot.key == *change.key) {
            slot.campaign.observe(Observation { revision: change.revision, record }, now);
        }
    }

    fn node_of<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(self.name.as_str())?.strip_prefix(".member.")
    }

    fn member_key(&self, node: &str) -> String {
        format!("{}.member.{node}", self.name)
    }

    fn done(&mut self, done: Done) {
        let now = self.clock.now();
        match done {
            Done::Written(index, outcome) => self.slots[index].campaign.written(outcome, now),
            Done::Read(index, Some(observation)) => self.slots[index].campaign.read(observation, now),
            Done::Read(index, None) => self.slots[index].campaign.read_failed(),
            Done::Announced => self.announcing = false,
            Done::Released => {}
        }
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        self.announce(now);
        for node in self.members.sweep(now) {
            self.forget(&node);
        }
        self.take_back_unused();
        if self.members.knows_itself() {
            self.balance(now);
        }
        // Renewals come first: what is held must not wait for what may be gained.
        for index in 0..self.slots.len() {
            if self.slots[index].campaign.is_claimed() {
                self.drive(index, now, false);
            }
        }
    }

    /// Gives away what is above the fair share, or takes what is free up to it.
    fn balance(&mut self, now: Instant) {
        let dead: Vec<&str> = self.slots.iter().filter_map(|slot| slot.campaign.expired_owner(now)).collect();
        let share = fair_share(self.slots.len(), self.members.count(now, &dead));
        let claimed = self.slots.iter().filter(|slot| slot.campaign.is_claimed()).count();
        for index in self.surplus(claimed.saturating_sub(share)) {
            self.release(index, Loss::Shared);
        }
        let mut room = share.saturating_sub(claimed);
        for index in self.order.clone() {
            if room > 0 && self.slots[index].campaign.is_free(now) {
                self.drive(index, now, true);
                room -= 1;
            }
        }
    }

    /// The last ones in this member's order, so that it keeps those it would look for first.
    fn surplus(&self, count: usize) -> Vec<usize> {
        let idle = |index: &usize| {
            let campaign = &self.slots[*index].campaign;
            campaign.is_claimed() && !campaign.is_writing()
        };
        self.order.iter().rev().copied().filter(idle).take(count).collect()
    }

    /// A holder that dropped its lease works no more: the key is free for whoever does.
    fn take_back_unused(&mut self) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let dropped = slot.handed_out.as_ref().is_some_and(|(_, holder)| holder.receiver_count() == 0);
            if dropped && !slot.campaign.is_writing() {
                self.release(index, Loss::Shared);
            }
        }
    }

    fn drive(&mut self, index: usize, now: Instant, may_take: bool) {
        match self.slots[index].campaign.next(now, may_take) {
            Action::Nothing => {}
            Action::Write { record, expected_revision } => {
                let write = self.write(&self.slots[index].key, &record, Some(expected_revision));
                self.io.push(async move { Done::Written(index, write.await) }.boxed());
            }
            Action::Read => {
                let (bus, subject) = (self.bus.clone(), subject(&self.slots[index].key));
                self.io.push(async move { Done::Read(index, read(&bus, &subject).await) }.boxed());
            }
        }
    }

    /// Tells the holder first, then the others.
    fn release(&mut self, index: usize, why: Loss) {
        let slot = &mut self.slots[index];
        if let Some((_, holder)) = slot.handed_out.take() {
            holder.send_replace(Holding::Over(why));
        }
        if let Action::Write { record, expected_revision } = slot.campaign.release() {
            let write = self.write(&self.slots[index].key, &record, Some(expected_revision));
            self.io.push(write.map(|_| Done::Released).boxed());
        }
    }

    fn announce(&mut self, now: Instant) {
        if self.announcing || now < self.announce_at {
            return;
        }
        self.announce_at = now + self.timing.renew_every;
        self.announcing = true;
        let write = self.write_presence(self.me.owner.clone());
        self.io.push(write.map(|_| Done::Announced).boxed());
    }

    fn write_presence(&self, owner: String) -> BoxFuture<'static, Written> {
        let record = Record { owner, node: self.me.node.clone(), epoch: 0, attempt: 0, duration_ms: 0 };
        self.write(&self.member_key(&self.me.node), &record, None)
    }

    /// Takes a dead member's key off the bus, without a marker that would stay in its place.
    fn forget(&self, node: &str) {
        let (bus, subject) = (self.bus.clone(), subject(&self.member_key(node)));
        let purge = async move {
            // Whatever comes of it, another member or another time sees to it.
            let _ = bus.purge_subject(&stream(), &subject, u64::MAX - 1).await;
            Done::Released
        };
        self.io.push(purge.boxed());
    }

    fn write(&self, key: &str, record: &Record, expected: Option<u64>) -> BoxFuture<'static, Written> {
        let body = codec::encode(record);
        let (bus, subject) = (self.bus.clone(), subject(key));
        async move {
            let Ok(body) = body else { return Written::ReadToKnow };
            let mut outgoing = Outgoing::new(subject, fresh_id(), "keelson.lease", body);
            outgoing.expect_last_subject_sequence = expected;
            match tokio::time::timeout(IO_TIMEOUT, bus.publish(&outgoing)).await {
                Ok(Ok(receipt)) => Written::At(receipt.sequence),
                _ => Written::ReadToKnow,
            }
        }
        .boxed()
    }

    fn tell_holders(&mut self) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let standing = slot.campaign.standing();
            let current = slot.handed_out.as_ref().map(|(epoch, _)| *epoch);
            match standing {
                Standing::Held { epoch, valid_until } if current == Some(epoch) => {
                    slot.tell(Holding::Until(valid_until));
                }
                Standing::Held { epoch, valid_until } => {
                    slot.lose(&self.me.owner);
                    self.hand_out(index, epoch, valid_until);
                }
                Standing::NotHeld => slot.lose(&self.me.owner),
            }
        }
    }

    fn hand_out(&mut self, index: usize, epoch: u64, valid_until: Instant) {
        let slot = &mut self.slots[index];
        let (holder, holding) = watch::channel(Holding::Until(valid_until));
        let lease = Lease { key: slot.key.clone(), index, epoch, clock: self.clock.clone(), holding };
        info!(lease.key = %slot.key, lease.epoch = epoch, "lease gained");
        slot.handed_out = Some((epoch, holder));
        // A lease that nobody takes out is dropped here and so given back at the next tick.
        let _ = self.gained.try_send(lease);
    }

    /// Lets what is under way come to its end, then releases everything, so that others need not wait.
    async fn leave(mut self) {
        for slot in &mut self.slots {
            if let Some((_, holder)) = slot.handed_out.take() {
                holder.send_replace(Holding::Over(Loss::Left));
            }
        }
        self.finish_io().await;
        for index in 0..self.slots.len() {
            self.release(index, Loss::Left);
        }
        let departure = self.write_presence(String::new());
        self.io.push(departure.map(|_| Done::Released).boxed());
        self.finish_io().await;
    }

    async fn finish_io(&mut self) {
        while let Some(done) = self.io.next().await {
            self.done(done);
        }
    }
}

impl Slot {
    fn tell(&self, holding: Holding) {
        if let Some((_, holder)) = &self.handed_out {
            holder.send_if_modified(|known| std::mem::replace(known, holding) != holding);
        }
    }

    fn lose(&mut self, owner: &str) {
        if let Some((epoch, holder)) = self.handed_out.take() {
            warn!(lease.key = %self.key, lease.epoch = epoch, lease.owner = %owner, "lease lost to another");
            holder.send_replace(Holding::Over(Loss::Fenced));
        }
    }
}

async fn read(bus: &Bus, subject: &str) -> Option<Observation> {
    let found = tokio::time::timeout(IO_TIMEOUT, bus.last_message(&stream(), subject)).await.ok()?.ok()?;
    Some(match found {
        Some(message) => Observation { revision: message.sequence, record: decode(&message.payload) },
        None => Observation { revision: 0, record: None },
    })
}

/// None for what is no record: a deletion, or something a person wrote over it.
fn decode(value: &[u8]) -> Option<Record> {
    codec::decode(None, value).ok()
}

fn stream() -> String {
    format!("KV_{BUCKET}")
}

fn subject(key: &str) -> String {
    format!("$KV.{BUCKET}.{key}")
}
