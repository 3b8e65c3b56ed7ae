//! Writing groups and delivering what is sealed in them: at most one write of a group and one delivery of a lane at a time, and as much as is bearable of
//! everything else at once.
//!
//! A notification goes out only when the record that holds it is written: so whoever comes after a crash delivers the same under the same key.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use keelson_kit::bus::ApiError;
use keelson_kit::dead_letter;
use keelson_kit::failure::Failure;
use keelson_kit::fault;
use keelson_kit::kv::{Kv, KvError};
use keelson_kit::lease::Lease;
use keelson_kit::publish::PublishError;
use keelson_kit::retry::{Schedule, wait_for_attempt};
use keelson_kit::role::Context;
use keelson_schemas::alerting::Notify;
use keelson_schemas::codec;
use tracing::{debug, error, info, warn};

use super::dispatch::{Dispatch, Entry};
use super::group::{Group, GroupId};
use super::keeper::Kept;
use crate::receivers::Receivers;

/// The bucket that holds the groups.
pub const BUCKET: &str = "alerts";
/// Deliveries to one receiver in one way at once.
const AT_ONCE: usize = 8;
/// Between tries of a delivery.
const TRIES: Schedule = Schedule { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
/// A notification that is older, and fails, is given up: long enough to outlive an hour's outage.
const GIVE_UP_AFTER_MS: u64 = 70 * 60 * 1000;
/// How long after a write that the bus refused it is tried again.
const WRITE_AGAIN_MS: u64 = 10_000;

/// The key of a group in the bucket.
#[must_use]
pub fn key_of(id: &str) -> String {
    format!("group.{id}")
}

/// What is under way, and how the groups are written.
pub struct Outbox {
    ctx: Context,
    lease: Lease,
    kv: Kv,
    receivers: Arc<Receivers>,
    slots: HashMap<GroupId, Slot>,
    outlets: HashMap<Outlet, Traffic>,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Nothing is delivered any more.
    closed: bool,
}

/// How a group is written.
#[derive(Debug, Default)]
pub struct Slot {
    /// None before the first time.
    revision: Option<u64>,
    /// The version that is written.
    written: u64,
    is_writing: bool,
    write_after_ms: u64,
    /// The numbers of the sealed notifications that are written, by lane.
    sealed: BTreeMap<String, u64>,
    /// Lanes that are delivering.
    delivering: BTreeSet<String>,
}

/// A receiver, and a way to it.
type Outlet = (String, String);

/// Deliveries by an outlet.
#[derive(Debug, Default)]
struct Traffic {
    under_way: usize,
    waiting: VecDeque<GroupId>,
}

/// What has come to its end.
pub enum Done {
    /// A group was written at a version, or not.
    Written(GroupId, u64, BTreeMap<String, u64>, Result<u64, KvError>),
    /// A group was removed, or not.
    Removed(GroupId, Result<u64, ApiError>),
    /// A notification was delivered, or not.
    Delivered(GroupId, u64, Box<Notify>, Result<(), Failure>),
    /// A notification that is given up was dead-lettered for a reason, or not.
    Buried(GroupId, u64, Box<Notify>, String, Result<(), PublishError>),
    /// The checkpoint was saved, or not.
    Kept(Kept),
}

impl Slot {
    /// Of a group that was read at a revision.
    #[must_use]
    pub fn read(revision: u64, group: &Group) -> Self {
        Self { revision: Some(revision), sealed: sealed(group), ..Self::default() }
    }
}

impl Outbox {
    /// With nothing under way.
    #[must_use]
    pub fn new(ctx: &Context, lease: &Lease, receivers: Receivers, slots: Vec<(GroupId, Slot)>) -> Self {
        Self {
            ctx: ctx.clone(),
            lease: lease.clone(),
            kv: ctx.bus.kv(BUCKET),
            receivers: Arc::new(receivers),
            slots: slots.into_iter().collect(),
            outlets: HashMap::new(),
            under_way: FuturesUnordered::new(),
            closed: false,
        }
    }

    /// The next thing that comes to its end; pending while nothing is under way.
    pub async fn next(&mut self) -> Done {
        use futures::StreamExt;
        match self.under_way.next().await {
            Some(done) => done,
            None => std::future::pending().await,
        }
    }

    /// Whether nothing is under way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Delivers nothing more.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Awaits the checkpoint's saving with everything else.
    pub fn keep(&mut self, saving: BoxFuture<'static, Kept>) {
        self.under_way.push(saving.map(Done::Kept).boxed());
    }

    /// The groups that are not written as they are, with their versions.
    #[must_use]
    pub fn unwritten(&self, dispatch: &Dispatch) -> BTreeMap<GroupId, u64> {
        let written = |id: &GroupId| self.slots.get(id).map_or(0, |slot| slot.written);
        let unwritten = dispatch.groups().filter(|(id, entry)| entry.version > written(id));
        unwritten.map(|(id, entry)| (id.clone(), entry.version)).collect()
    }

    /// Whether a group is written at a version, or gone.
    #[must_use]
    pub fn is_written(&self, id: &GroupId, version: u64) -> bool {
        self.slots.get(id).is_none_or(|slot| slot.written >= version)
    }

    /// Begins what is to be done about a group: to write it, to let it go, to deliver. `covered` is what the checkpoint covers.
    pub fn see_to(&mut self, dispatch: &mut Dispatch, id: &GroupId, covered: u64) {
        let Some(entry) = dispatch.group(id) else { return };
        let now_ms = self.ctx.clock.now_ms();
        let slot = self.slots.entry(id.clone()).or_default();
        if !slot.is_writing && now_ms >= slot.write_after_ms {
            let is_over = entry.group.is_idle() && slot.delivering.is_empty();
            match slot.revision {
                None if is_over => {
                    self.slots.remove(id);
                    dispatch.remove(id);
                    return;
                }
                Some(revision) if is_over && entry.group.through <= covered => {
                    self.begin_removing(id, revision)
                }
                _ if entry.version > slot.written => self.begin_writing(id, entry),
                _ => {}
            }
        }
        for (integration, lane) in &entry.group.lanes {
            let number = lane.sealed.as_ref().map(|sealed| sealed.number);
            if number.is_some() && now_ms >= lane.not_before_ms {
                self.deliver(id, &entry.group, integration);
            }
        }
    }

    fn begin_writing(&mut self, id: &GroupId, entry: &Entry) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.is_writing = true;
        let (kv, key, revision) = (self.kv.clone(), key_of(&id.0), slot.revision);
        let (id, version, sealed) = (id.clone(), entry.version, sealed(&entry.group));
        let value = codec::encode(&entry.group);
        let writing = async move {
            let result = match (value, revision) {
                (Err(error), _) => Err(KvError::Refused { key, reason: error.to_string() }),
                (Ok(value), Some(revision)) => kv.update_bytes(&key, value, revision).await,
                (Ok(value), None) => kv.create_bytes(&key, value).await,
            };
            Done::Written(id, version, sealed, result)
        };
        self.under_way.push(writing.boxed());
    }

    /// A purge up to its revision: it leaves nothing behind, and takes nothing that another has written since.
    fn begin_removing(&mut self, id: &GroupId, revision: u64) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.is_writing = true;
        let (bus, id) = (self.ctx.bus.clone(), id.clone());
        let removing = async move {
            let subject = format!("$KV.{BUCKET}.{}", key_of(&id.0));
            let result = bus.purge_subject(&format!("KV_{BUCKET}"), &subject, revision).await;
            Done::Removed(id, result)
        };
        self.under_way.push(removing.boxed());
    }

    /// Delivers what is sealed in a lane, if it is written so and the lane is not delivering already.
    fn deliver(&mut self, id: &GroupId, group: &Group, integration: &str) {
        let Some(notify) = group.notification(id, integration) else { return };
        let Some(number) =
            group.lanes.get(integration).and_then(|lane| lane.sealed.as_ref()).map(|sealed| sealed.number)
        else {
            return;
        };
        let Some(slot) = self.slots.get_mut(id) else { return };
        if self.closed
            || slot.sealed.get(integration) != Some(&number)
            || slot.delivering.contains(integration)
            || !self.lease.is_valid()
        {
            return;
        }
        let traffic = self.outlets.entry((group.receiver.clone(), integration.to_owned())).or_default();
        if traffic.under_way >= AT_ONCE {
            if !traffic.waiting.contains(id) {
                traffic.waiting.push_back(id.clone());
            }
            return;
        }
        traffic.under_way += 1;
        slot.delivering.insert(integration.to_owned());
        let (receivers, id) = (self.receivers.clone(), id.clone());
        let delivering = async move {
            fault::point("notify.delivering");
            let result = receivers.send(&notify).await;
            fault::point("notify.delivered");
            Done::Delivered(id, number, Box::new(notify), result)
        };
        self.under_way.push(delivering.boxed());
    }

    /// Takes in that a group was written.
    ///
    /// # Errors
    /// The record is not what was read, or nobody knows: read again.
    pub fn written(
        &mut self,
        id: &GroupId,
        version: u64,
        sealed: BTreeMap<String, u64>,
        result: Result<u64, KvError>,
    ) -> Result<(), KvError> {
        let Some(slot) = self.slots.get_mut(id) else { return Ok(()) };
        slot.is_writing = false;
        match result {
            Ok(revision) => {
                if sealed.iter().any(|lane| !slot.sealed.iter().any(|known| known == lane)) {
                    fault::point("notify.queued");
                }
                if slot.sealed.iter().any(|lane| !sealed.iter().any(|known| known == lane)) {
                    fault::point("notify.recorded");
                }
                (slot.revision, slot.written, slot.sealed) = (Some(revision), version, sealed);
                Ok(())
            }
            Err(KvError::Refused { reason, .. }) => {
                error!(group.id = %id.0, reason, "a group cannot be written; trying again in ten seconds");
                slot.write_after_ms = self.ctx.clock.now_ms().saturating_add(WRITE_AGAIN_MS);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes in that a group was removed. If it has come to life since, it is written anew.
    pub fn removed(&mut self, dispatch: &mut Dispatch, id: &GroupId, result: Result<u64, ApiError>) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.is_writing = false;
        match result {
            Ok(_) => {
                *slot = Slot { delivering: std::mem::take(&mut slot.delivering), ..Slot::default() };
                if dispatch.group(id).is_some_and(|entry| entry.group.is_idle()) {
                    self.slots.remove(id);
                    dispatch.remove(id);
                }
            }
            Err(error) => debug!(group.id = %id.0, %error, "a group that is over could not be removed yet"),
        }
    }

    /// Takes in how a delivery went.
    pub fn delivered(
        &mut self,
        dispatch: &mut Dispatch,
        id: &GroupId,
        number: u64,
        notify: Box<Notify>,
        result: Result<(), Failure>,
    ) {
        let now_ms = self.ctx.clock.now_ms();
        let lane = dispatch.group(id).and_then(|entry| entry.group.lanes.get(&notify.integration));
        let (attempts, since_ms) = lane.map_or((0, now_ms), |lane| {
            (lane.attempts + 1, lane.sealed.as_ref().map_or(now_ms, |sealed| sealed.since_ms))
        });
        match result {
            Ok(()) => {
                info!(
                    receiver = notify.receiver,
                    integration = notify.integration,
                    group.key = notify.group_key,
                    notification.key = notify.key,
                    alerts = notify.alerts.len(),
                    "notified"
                );
                self.over(dispatch, id, &notify);
                dispatch.sealed(id, &notify.integration, number, |lane| lane.delivered(now_ms));
            }
            Err(Failure::Retry { after, reason }) if now_ms < since_ms.saturating_add(GIVE_UP_AFTER_MS) => {
                warn!(
                    receiver = notify.receiver,
                    integration = notify.integration,
                    group.key = notify.group_key,
                    attempts,
                    reason,
                    "a notification could not be delivered; trying again"
                );
                let wait = after.unwrap_or_else(|| wait_for_attempt(TRIES, attempts));
                let not_before_ms =
                    now_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                self.over(dispatch, id, &notify);
                dispatch.sealed(id, &notify.integration, number, |lane| lane.failed(&reason, not_before_ms));
            }
            Err(failure) => self.bury(id, number, notify, failure.to_string(), attempts),
        }
    }

    /// Dead-letters a notification. Its lane goes on delivering until that is done.
    fn bury(&mut self, id: &GroupId, number: u64, notify: Box<Notify>, reason: String, attempts: u32) {
        error!(
            receiver = notify.receiver,
            integration = notify.integration,
            group.key = notify.group_key,
            attempts,
            reason,
            "a notification is given up and dead-lettered"
        );
        let (bus, id) = (self.ctx.bus.clone(), id.clone());
        let burying = async move {
            let said = format!("{} by {}: {reason}", notify.receiver, notify.integration);
            let result =
                dead_letter::bury_command(&bus, &notify.key, &*notify, &said, attempts).await.map(drop);
            fault::point("notify.dead-lettered");
            Done::Buried(id, number, notify, reason, result)
        };
        self.under_way.push(burying.boxed());
    }

    /// Takes in whether a notification that is given up is a dead letter now.
    pub fn buried(
        &mut self,
        dispatch: &mut Dispatch,
        id: &GroupId,
        number: u64,
        notify: &Notify,
        reason: &str,
        result: Result<(), PublishError>,
    ) {
        self.over(dispatch, id, notify);
        let again_ms = self.ctx.clock.now_ms().saturating_add(WRITE_AGAIN_MS);
        dispatch.sealed(id, &notify.integration, number, |lane| match &result {
            Ok(()) => lane.given_up(reason),
            Err(error) => {
                lane.failed(&format!("{reason}; and it cannot be dead-lettered: {error}"), again_ms)
            }
        });
    }

    /// A lane delivers no more: whoever waits is next.
    fn over(&mut self, dispatch: &Dispatch, id: &GroupId, notify: &Notify) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.delivering.remove(&notify.integration);
        }
        let outlet = (notify.receiver.clone(), notify.integration.clone());
        if let Some(traffic) = self.outlets.get_mut(&outlet) {
            traffic.under_way = traffic.under_way.saturating_sub(1);
        }
        while let Some(next) = self.outlets.get_mut(&outlet).and_then(Traffic::next) {
            if let Some(entry) = dispatch.group(&next) {
                self.deliver(&next, &entry.group, &notify.integration);
            }
        }
    }
}

impl Traffic {
    /// Who is next, if there is room.
    fn next(&mut self) -> Option<GroupId> {
        if self.under_way < AT_ONCE { self.waiting.pop_front() } else { None }
    }
}

/// The numbers of the sealed notifications, by lane.
fn sealed(group: &Group) -> BTreeMap<String, u64> {
    let sealed =
        group.lanes.iter().filter_map(|(name, lane)| Some((name.clone(), lane.sealed.as_ref()?.number)));
    sealed.collect()
}
