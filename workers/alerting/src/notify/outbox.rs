//! Writing groups, and handing on what is sealed in them: at most one write of a group at a time, and as much of everything else at once as is bearable.
//!
//! A notification goes out only when the record that holds it is written: so whoever comes after a crash delivers the same under the same key. And only the notifier that raised the
//! fence last can write: one that was replaced cannot bring back a group that was let go since, whose notifications would then be made again under other keys.

use std::collections::{BTreeMap, HashMap};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use keelson_kit::bus::Bus;
use keelson_kit::clock::Clock;
use keelson_kit::failure::Failure;
use keelson_kit::fault;
use keelson_kit::kv::KvError;
use keelson_kit::publish::PublishError;
use keelson_kit::role::Context;
use keelson_schemas::alerting::Signals;
use keelson_schemas::codec;
use tracing::{debug, error};

use super::courier::{Courier, GivenUp, Parcel};
use super::dispatch::{Dispatch, Entry};
use super::group::{Group, GroupId};
use super::keeper::Kept;

/// The bucket that holds the groups.
pub const BUCKET: &str = "alerts";
/// The key that guards them: every notifier writes it before it reads them.
pub const FENCE: &str = "fence";
/// How long after a write that the bus refused it is tried again.
const WRITE_AGAIN_MS: u64 = 10_000;

/// The key of a group in the bucket.
#[must_use]
pub fn key_of(id: &str) -> String {
    format!("group.{id}")
}

/// What is under way, and how the groups are written.
pub struct Outbox {
    bus: Bus,
    fence: u64,
    clock: Clock,
    courier: Courier,
    slots: HashMap<GroupId, Slot>,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
}

/// How a group is written.
#[derive(Debug, Default)]
pub struct Slot {
    /// None before the first time.
    revision: Option<u64>,
    /// The version that is written.
    version: u64,
    /// The numbers of the sealed notifications that are written, by lane.
    sealed: Numbers,
    is_writing: bool,
    write_after_ms: u64,
}

/// Numbers of sealed notifications, by lane.
type Numbers = BTreeMap<String, u64>;

/// A write of a group as it was at a version.
pub struct Write {
    group: GroupId,
    version: u64,
    sealed: Numbers,
    result: Result<u64, KvError>,
}

/// What has come to its end.
pub enum Done {
    /// A write of a group.
    Written(Write),
    /// The removal of a group.
    Removed(GroupId, Result<u64, KvError>),
    /// A delivery.
    Delivered(Box<Parcel>, Result<(), Failure>),
    /// A dead letter of what is given up.
    Buried(Box<Parcel>, GivenUp, Result<(), PublishError>),
    /// The saving of the checkpoint.
    Kept(Kept),
}

impl Slot {
    /// Of a group that was read at a revision.
    #[must_use]
    pub fn read(revision: u64, group: &Group) -> Self {
        Self { revision: Some(revision), sealed: sealed(group), ..Self::default() }
    }

    /// Takes in that a group was written.
    fn written(&mut self, revision: u64, version: u64, sealed: Numbers) {
        if sealed.iter().any(|(lane, number)| self.sealed.get(lane) != Some(number)) {
            fault::point("notify.queued");
        }
        if self.sealed.iter().any(|(lane, number)| sealed.get(lane) != Some(number)) {
            fault::point("notify.recorded");
        }
        (self.revision, self.version, self.sealed) = (Some(revision), version, sealed);
    }
}

impl Outbox {
    /// With nothing under way, behind the fence at a revision.
    #[must_use]
    pub fn new(ctx: &Context, courier: Courier, fence: u64, slots: Vec<(GroupId, Slot)>) -> Self {
        Self {
            bus: ctx.bus.clone(),
            fence,
            clock: ctx.clock.clone(),
            courier,
            slots: slots.into_iter().collect(),
            under_way: FuturesUnordered::new(),
        }
    }

    /// The next thing that comes to its end; pending while nothing is under way.
    pub async fn next(&mut self) -> Done {
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
        self.courier.close();
    }

    /// Awaits the saving of the checkpoint with everything else.
    pub fn keep(&mut self, saving: BoxFuture<'static, Kept>) {
        self.under_way.push(saving.map(Done::Kept).boxed());
    }

    /// How often delivering failed since this was last asked.
    pub fn failures(&mut self) -> Signals {
        self.courier.failures()
    }

    /// The groups that are not written as they are, with their versions.
    #[must_use]
    pub fn unwritten(&self, dispatch: &Dispatch) -> BTreeMap<GroupId, u64> {
        let groups = dispatch.groups().map(|(id, entry)| (id.clone(), entry.version));
        groups.filter(|(id, version)| self.slots.get(id).map_or(0, |slot| slot.version) < *version).collect()
    }

    /// Whether a group is written at a version, or gone.
    #[must_use]
    pub fn is_written(&self, id: &GroupId, version: u64) -> bool {
        self.slots.get(id).is_none_or(|slot| slot.version >= version)
    }

    /// Begins what is to be done about a group: to write it, to let it go if the checkpoint covers it, to deliver.
    pub fn see_to(&mut self, dispatch: &mut Dispatch, id: &GroupId, covered: u64) {
        let Some(entry) = dispatch.group(id) else { return };
        let now_ms = self.clock.now_ms();
        let slot = self.slots.entry(id.clone()).or_default();
        let may_write = !slot.is_writing && now_ms >= slot.write_after_ms;
        match slot.revision {
            None if may_write && entry.group.is_idle() => {
                self.slots.remove(id);
                return dispatch.remove(id);
            }
            Some(revision) if may_write && entry.group.is_idle() && entry.group.through <= covered => {
                slot.is_writing = true;
                self.under_way.push(remove(self.bus.clone(), id.clone(), revision).boxed());
            }
            _ if may_write && slot.version < entry.version => {
                slot.is_writing = true;
                self.under_way.push(write(self.bus.clone(), self.fence, id.clone(), entry));
            }
            _ => {}
        }
        for (lane, number) in slot.sealed.clone() {
            let state = entry.group.lanes.get(&lane);
            let due =
                state.filter(|state| now_ms >= state.not_before_ms).and_then(|state| state.sealed.as_ref());
            if due.is_some_and(|sealed| sealed.number == number) {
                self.under_way.extend(self.courier.deliver(id, &entry.group, &lane));
            }
        }
    }

    /// Takes in that a group was written.
    ///
    /// # Errors
    /// Another has raised the fence, or nobody knows whether it is written: read again.
    pub fn written(&mut self, write: Write) -> Result<GroupId, KvError> {
        let Write { group, version, sealed, result } = write;
        let slot = self.slots.entry(group.clone()).or_default();
        slot.is_writing = false;
        match result {
            Ok(revision) => slot.written(revision, version, sealed),
            Err(KvError::Refused { reason, .. }) => {
                error!(group.id = %group.0, reason, "a group cannot be written; trying again in ten seconds");
                slot.write_after_ms = self.clock.now_ms().saturating_add(WRITE_AGAIN_MS);
            }
            Err(error) => return Err(error),
        }
        Ok(group)
    }

    /// Takes in that a group was removed. One that has come to life since is written anew.
    pub fn removed(&mut self, id: &GroupId, result: Result<u64, KvError>) {
        match result {
            Ok(_) => _ = self.slots.insert(id.clone(), Slot::default()),
            Err(error) => {
                debug!(group.id = %id.0, %error, "a group that is over could not be removed yet");
                self.slots.entry(id.clone()).or_default().is_writing = false;
            }
        }
    }

    /// Takes in how a delivery went.
    pub fn delivered(
        &mut self,
        dispatch: &mut Dispatch,
        parcel: Box<Parcel>,
        result: Result<(), Failure>,
        covered: u64,
    ) {
        let burying = self.courier.delivered(dispatch, parcel, result);
        self.under_way.extend(burying);
        self.go_on(dispatch, covered);
    }

    /// Takes in whether what is given up is a dead letter now.
    pub fn buried(
        &mut self,
        dispatch: &mut Dispatch,
        parcel: &Parcel,
        given_up: &GivenUp,
        result: Result<(), PublishError>,
        covered: u64,
    ) {
        self.courier.buried(dispatch, parcel, given_up, result);
        self.go_on(dispatch, covered);
    }

    /// Somebody's turn has come.
    fn go_on(&mut self, dispatch: &mut Dispatch, covered: u64) {
        while let Some(id) = self.courier.next_waiting() {
            self.see_to(dispatch, &id, covered);
        }
    }
}

fn write(bus: Bus, fence: u64, group: GroupId, entry: &Entry) -> BoxFuture<'static, Done> {
    let (version, sealed, value) = (entry.version, sealed(&entry.group), codec::encode(&entry.group));
    let writing = async move {
        let key = key_of(&group.0);
        let result = match value {
            Ok(value) if fault::disabled("fencing") => bus.kv(BUCKET).put_bytes(&key, value).await,
            Ok(value) => bus.kv(BUCKET).put_bytes_guarded(&key, value, FENCE, fence).await,
            Err(error) => Err(KvError::Refused { key, reason: error.to_string() }),
        };
        Done::Written(Write { group, version, sealed, result })
    };
    writing.boxed()
}

/// Takes nothing that another has written since.
async fn remove(bus: Bus, id: GroupId, revision: u64) -> Done {
    let result = bus.kv(BUCKET).purge(&key_of(&id.0), revision).await;
    Done::Removed(id, result)
}

/// The numbers of the sealed notifications, by lane.
fn sealed(group: &Group) -> Numbers {
    let sealed =
        group.lanes.iter().filter_map(|(name, lane)| Some((name.clone(), lane.sealed.as_ref()?.number)));
    sealed.collect()
}
