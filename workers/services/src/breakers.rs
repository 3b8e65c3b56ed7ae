//! Every breaker of the fleet. What calls are decided by is here, in memory; what has changed goes to the bucket `breakers` by compare-and-set, and comes
//! from there to the other replicas, and to this one after a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use keelson_kit::clock::Clock;
use keelson_kit::fault;
use keelson_kit::kv::{Change, Entry, Kv, KvError};
use keelson_kit::publish::fresh_id;
use keelson_kit::role::Context;
use keelson_schemas::id;
use keelson_schemas::services::{BreakerChanged, BreakerState, BreakerStatus, Force};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::announce::{Announcer, FRESH_MS};
use crate::breaker::{Breaker, Ended, Policy, Shut, Ticket};

/// The bucket.
pub const BUCKET: &str = "breakers";
/// How often it is looked whether probes are due.
const TICK: Duration = Duration::from_millis(50);
/// How long a write may take before the next breaker has its turn.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);
/// How often a change is tried against others who change the same breaker.
const MOST_CONFLICTS: u32 = 10;

/// A breaker as it is kept for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    service: String,
    instance: Option<String>,
    number: u64,
    state: BreakerState,
    forced: bool,
    reason: Option<String>,
    /// Unix milliseconds until when it is open.
    until_ms: Option<u64>,
    at_ms: u64,
    /// Which process wrote it, of this run.
    writer: String,
}

/// All breakers. Cheap to clone.
#[derive(Clone)]
pub struct Breakers(Arc<Inner>);

struct Inner {
    kv: Kv,
    clock: Clock,
    policy: Policy,
    me: String,
    announcer: Announcer,
    switches: RwLock<HashMap<Key, Arc<Switch>>>,
    changed: Notify,
}

type Key = (String, Option<String>);

/// A breaker that many callers share.
#[derive(Debug)]
pub struct Switch {
    key: Key,
    clock: Clock,
    inner: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    breaker: Breaker,
    /// Of the record that is known last.
    number: u64,
    revision: u64,
    /// What others should know and do not yet.
    unsaid: bool,
    half_open_since: Option<Instant>,
}

/// The right to make one call, given back when it is dropped unused.
pub struct Permit {
    switch: Arc<Switch>,
    breakers: Breakers,
    ticket: Option<Ticket>,
}

impl Switch {
    /// Whether a call may be made now, without taking anything.
    ///
    /// # Errors
    /// When none may be made.
    pub fn would_admit(&self) -> Result<(), Shut> {
        self.held().breaker.would_admit(self.clock.now())
    }

    /// What it is forced to be.
    #[must_use]
    pub fn forced(&self) -> Option<Force> {
        self.held().breaker.forced()
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> BreakerStatus {
        let (now, now_ms) = (self.clock.now(), self.clock.now_ms());
        let held = self.held();
        let until = held.breaker.open_left(now).map(|left| now_ms.saturating_add(whole_ms(left)));
        BreakerStatus {
            state: held.breaker.state(),
            failures: held.breaker.failures(),
            opens_until: until.and_then(|ms| Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()),
            forced: held.breaker.forced().is_some(),
            reason: held.breaker.reason().map(str::to_owned),
        }
    }

    /// Since when this replica has probes that it may send.
    #[must_use]
    pub fn probes_since(&self) -> Option<Instant> {
        let held = self.held();
        let has_room = held.breaker.would_admit(self.clock.now()).is_ok();
        held.half_open_since.filter(|_| held.breaker.has_probes() && has_room)
    }

    /// The service and the instance whose it is.
    #[must_use]
    pub fn of(&self) -> (&str, Option<&str>) {
        (&self.key.0, self.key.1.as_deref())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The call has ended.
    pub fn ended(mut self, call: Ended) {
        let Some(ticket) = self.ticket.take() else { return };
        let now = self.switch.clock.now();
        let mut held = self.switch.held();
        if held.breaker.ended(ticket, call, now) {
            held.unsaid = true;
            let (state, reason) = (held.breaker.state(), held.breaker.reason().map(str::to_owned));
            drop(held);
            let (service, instance) = self.switch.of();
            info!(service, instance, reason, "a breaker is {} now", state.name());
            self.breakers.0.changed.notify_one();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.switch.held().breaker.given_back(ticket);
        }
    }
}

impl Breakers {
    /// Reads what is there, and keeps up with it from then on.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn open(ctx: &Context, policy: Policy, announcer: Announcer) -> anyhow::Result<Self> {
        let kv = ctx.bus.kv(BUCKET).within(WRITTEN_WITHIN);
        let breakers = Self(Arc::new(Inner {
            kv: kv.clone(),
            clock: ctx.clock.clone(),
            policy,
            me: fresh_id(),
            announcer,
            switches: RwLock::default(),
            changed: Notify::new(),
        }));
        let copy = breakers.clone();
        kv.keep_up(&ctx.tasks, move |change| {
            let copy = copy.clone();
            async move { copy.take(&change).await }
        })
        .await?;
        let (this, tasks) = (breakers.clone(), ctx.tasks.clone());
        ctx.tasks.spawn("breakers, as they change here", move || {
            let (this, tasks) = (this.clone(), tasks.clone());
            async move {
                this.keep(&tasks).await;
                Ok(())
            }
        });
        Ok(breakers)
    }

    /// The breaker of a service, or of one of its instances.
    #[must_use]
    pub fn of(&self, service: &str, instance: Option<&str>) -> Arc<Switch> {
        let key = (service.to_owned(), instance.map(str::to_owned));
        let mut switches = self.0.switches.write().unwrap_or_else(PoisonError::into_inner);
        let made = || {
            let held = Held {
                breaker: Breaker::new(self.0.policy.clone()),
                number: 0,
                revision: 0,
                unsaid: false,
                half_open_since: None,
            };
            Arc::new(Switch { key: key.clone(), clock: self.0.clock.clone(), inner: Mutex::new(held) })
        };
        switches.entry(key.clone()).or_insert_with(made).clone()
    }

    /// The right to make a call.
    ///
    /// # Errors
    /// When none may be made now.
    pub fn admit(&self, switch: &Arc<Switch>) -> Result<Permit, Shut> {
        let ticket = switch.held().breaker.admit(self.0.clock.now())?;
        Ok(Permit { switch: switch.clone(), breakers: self.clone(), ticket: Some(ticket) })
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Switch>> {
        self.0.switches.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A service is not registered any more.
    pub fn forget(&self, service: &str) {
        let mut switches = self.0.switches.write().unwrap_or_else(PoisonError::into_inner);
        switches.retain(|key, _| key.0 != service);
    }

    /// Removes what is kept of a service, or of instances that it has no more.
    ///
    /// # Errors
    /// When the bus does not take it.
    pub async fn remove(&self, service: &str, stays: impl Fn(Option<&str>) -> bool) -> Result<(), KvError> {
        for (key, entry) in self.0.kv.list(&format!("{service}.>"), usize::MAX).await? {
            let record: Record = match keelson_schemas::codec::decode(None, &entry.value) {
                Ok(record) => record,
                Err(_) => continue,
            };
            if !stays(record.instance.as_deref()) {
                self.0.kv.delete(&key, None).await?;
            }
        }
        Ok(())
    }

    /// Forces a breaker everywhere, or leaves it closed and to itself again.
    ///
    /// # Errors
    /// When the bus does not take it.
    pub async fn set(
        &self,
        switch: &Arc<Switch>,
        force: Option<Force>,
        reason: Option<String>,
    ) -> Result<(), KvError> {
        let key = key_of(&switch.key);
        let mut conflicts = 0;
        loop {
            let before: Option<Entry<Record>> = self.0.kv.get(&key).await?;
            let (service, instance) = switch.key.clone();
            let record = Record {
                service,
                instance,
                number: before.as_ref().map_or(0, |entry| entry.value.number) + 1,
                state: if force == Some(Force::Open) { BreakerState::Open } else { BreakerState::Closed },
                forced: force.is_some(),
                reason: reason.clone(),
                until_ms: None,
                at_ms: self.0.clock.now_ms(),
                writer: self.0.me.clone(),
            };
            match self.write(&key, &record, before.map_or(0, |entry| entry.revision)).await {
                Ok(revision) => {
                    fault::point("breaker.forced");
                    self.adopt(switch, &record, revision);
                    return Ok(());
                }
                Err(KvError::Conflict { .. }) if conflicts < MOST_CONFLICTS => conflicts += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Another replica, or this one, has written a breaker.
    async fn take(&self, change: &Change) {
        let entry = match change.decode::<Record>() {
            Ok(Some(entry)) => entry,
            Ok(None) => return,
            Err(error) => {
                warn!(key = change.key, %error, "an entry in the bucket of breakers is passed over");
                return;
            }
        };
        let record = &entry.value;
        let switch = self.of(&record.service, record.instance.as_deref());
        let is_own = record.writer == self.0.me;
        if !is_own && switch.held().revision < entry.revision {
            self.adopt(&switch, record, entry.revision);
        }
        if self.0.clock.now_ms().saturating_sub(record.at_ms) < FRESH_MS {
            self.tell(record).await;
        }
    }

    async fn tell(&self, record: &Record) {
        let instance = record.instance.clone().unwrap_or_default();
        let at = (record.number.to_string(), record.at_ms.to_string());
        let id = id::derive("services-breaker", &[&record.service, &instance, &at.0, &at.1]);
        let event = BreakerChanged {
            service: record.service.clone(),
            instance: record.instance.clone(),
            state: record.state,
            forced: record.forced,
            reason: record.reason.clone(),
            at_ms: record.at_ms,
            number: record.number,
        };
        let fact = match record.state {
            BreakerState::Open => "breaker-opened",
            BreakerState::HalfOpen => "breaker-half-open",
            BreakerState::Closed => "breaker-closed",
        };
        self.0.announcer.say(fact, id, &event).await;
    }

    /// What is kept is what this breaker is.
    fn adopt(&self, switch: &Switch, record: &Record, revision: u64) {
        let (now, now_ms) = (self.0.clock.now(), self.0.clock.now_ms());
        let mut held = switch.held();
        match (record.forced, record.state) {
            (true, BreakerState::Open) => held.breaker.force(Force::Open, record.reason.clone()),
            (true, _) => held.breaker.force(Force::Closed, record.reason.clone()),
            (false, BreakerState::Open) => {
                let left = Duration::from_millis(record.until_ms.unwrap_or(0).saturating_sub(now_ms));
                held.breaker.open_for(left, record.reason.clone(), now);
            }
            (false, BreakerState::HalfOpen) => held.breaker.leave_to(now),
            (false, BreakerState::Closed) => held.breaker.close(),
        }
        (held.number, held.revision, held.unsaid) = (record.number, revision, false);
        held.half_open_since = None;
    }

    /// Says what changes here, and claims probes when they are due.
    async fn keep(&self, tasks: &keelson_kit::tasks::Tasks) {
        loop {
            tokio::select! {
                () = tasks.cancelled() => return,
                () = self.0.changed.notified() => {}
                () = self.0.clock.sleep(TICK) => {}
            }
            for switch in self.all() {
                self.attend(&switch).await;
            }
        }
    }

    async fn attend(&self, switch: &Arc<Switch>) {
        let (record, revision) = {
            let now = self.0.clock.now();
            let held = switch.held();
            let claims = !held.unsaid && held.breaker.is_due(now);
            if !held.unsaid && !claims {
                return;
            }
            (self.record(switch, &held, claims, now), held.revision)
        };
        match self.write(&key_of(&switch.key), &record, revision).await {
            Ok(revision) => {
                fault::point("breaker.kept");
                self.written(switch, &record, revision);
            }
            Err(KvError::Conflict { .. }) => self.give_way(switch).await,
            Err(error) => warn!(service = record.service, %error, "a breaker's change cannot be kept yet"),
        }
    }

    fn record(&self, switch: &Switch, held: &Held, claims: bool, now: Instant) -> Record {
        let now_ms = self.0.clock.now_ms();
        let (service, instance) = switch.key.clone();
        Record {
            service,
            instance,
            number: held.number + 1,
            state: if claims { BreakerState::HalfOpen } else { held.breaker.state() },
            forced: false,
            reason: held.breaker.reason().map(str::to_owned),
            until_ms: held
                .breaker
                .open_left(now)
                .filter(|_| !claims)
                .map(|left| now_ms.saturating_add(whole_ms(left))),
            at_ms: now_ms,
            writer: self.0.me.clone(),
        }
    }

    fn written(&self, switch: &Switch, record: &Record, revision: u64) {
        let now = self.0.clock.now();
        let mut held = switch.held();
        if held.revision >= revision {
            return;
        }
        (held.number, held.revision) = (record.number, revision);
        if record.state == BreakerState::HalfOpen {
            held.breaker.half_open();
            held.half_open_since = Some(now);
        }
        // It may have changed again while this was written.
        held.unsaid = held.breaker.state() != record.state;
    }

    /// Somebody else was first.
    async fn give_way(&self, switch: &Arc<Switch>) {
        match self.0.kv.get::<Record>(&key_of(&switch.key)).await {
            Ok(Some(entry)) => self.adopt(switch, &entry.value, entry.revision),
            Ok(None) => switch.held().revision = 0,
            Err(error) => warn!(service = switch.key.0, %error, "a breaker cannot be read yet"),
        }
    }

    async fn write(&self, key: &str, record: &Record, revision: u64) -> Result<u64, KvError> {
        match revision {
            0 => self.0.kv.create(key, record).await,
            _ => self.0.kv.update(key, record, revision).await,
        }
    }
}

/// `content.service`, `content.instance.<hash of its URL>`
fn key_of((service, instance): &Key) -> String {
    match instance {
        None => format!("{service}.service"),
        Some(url) => format!("{service}.instance.{}", id::derive("instance", &[url])),
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
