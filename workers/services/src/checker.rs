//! Checks what is registered, one owner a shard. Each instance is checked on its own time; what is found is kept for all when it changes, and once a minute.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use keelson_kit::kv::KvError;
use keelson_kit::lease::Lease;
use keelson_kit::publish::Outgoing;
use keelson_kit::role::Context;
use keelson_schemas::alerting::{Reading, Signals};
use keelson_schemas::services::{BreakerState, Health};
use keelson_schemas::{id, subject};
use tracing::{info, warn};

use crate::address::Target;
use crate::config::ServicesConfig;
use crate::directory::{Directory, Known, health_key};
use crate::health::Record;
use crate::hysteresis::{Seen, Standing};
use crate::phase;
use crate::probe::{Expected, Look, Prober};
use crate::registry::Registry;

/// How many owners there can be.
pub const SHARDS: usize = 4;
/// How often leases are looked at, and breakers are compared with what rules were told.
const TICK: Duration = Duration::from_secs(1);
/// How often what was found is kept although nothing has changed.
const KEPT_EVERY: Duration = Duration::from_secs(60);
/// How often what rules can look at is said although nothing has changed.
const SAID_EVERY: Duration = Duration::from_secs(30);
/// Readings in one message.
const MOST_READINGS: usize = 500;
/// Characters of a reason that are kept.
const MOST_REASON_CHARS: usize = 300;
/// How long the bus has to take one.
const WITHIN: Duration = Duration::from_secs(2);

/// What checking needs. Cheap to clone.
#[derive(Clone)]
pub struct Checker {
    /// The way to the bus, and the time.
    pub ctx: Context,
    /// What is registered.
    pub directory: Directory,
    /// Who takes out what is not heard of.
    pub registry: Registry,
    /// Who looks.
    pub prober: Prober,
    /// How.
    pub config: Arc<ServicesConfig>,
    /// What is looked at before anybody is said to be down.
    pub reference: Option<Target>,
}

/// Which owner checks a service.
#[must_use]
pub fn shard_of(service: &str) -> usize {
    usize::from(subject::partition_of(service).index()) % SHARDS
}

impl Checker {
    /// Checks a shard until its lease is over.
    ///
    /// # Errors
    /// When what was found cannot be kept.
    pub async fn run(self, lease: Lease) -> anyhow::Result<()> {
        let now = self.ctx.clock.now();
        let connects = self.ctx.bus.link().borrow().connects;
        let mut shard = Shard {
            index: lease.index(),
            services: HashMap::new(),
            queue: BinaryHeap::new(),
            under_way: FuturesUnordered::new(),
            said: BTreeMap::new(),
            said_at: now,
            connects,
            checker: self,
        };
        shard.work(&lease).await
    }

    async fn publish(&self, shard: usize, part: usize, some: &[News]) -> anyhow::Result<()> {
        let ts = self.ctx.clock.now_ms();
        let reading = |((signal, service), wrong): &News| Reading {
            signal: (*signal).to_owned(),
            labels: [("service_name".to_owned(), service.clone())].into(),
            value: f64::from(u8::from(*wrong)),
            ts,
        };
        let signals = Signals { readings: some.iter().map(reading).collect() };
        let parts = (shard.to_string(), ts.to_string(), part.to_string());
        let id = id::derive("services-signals", &[&parts.0, &parts.1, &parts.2]);
        let outgoing = Outgoing::of(subject::evt("services", "signals"), id, &signals)?;
        self.ctx.bus.publish_within(&outgoing, WITHIN).await?;
        Ok(())
    }
}

struct Shard {
    checker: Checker,
    index: usize,
    services: HashMap<String, Watched>,
    queue: BinaryHeap<Reverse<(Instant, Place)>>,
    under_way: FuturesUnordered<BoxFuture<'static, Checked>>,
    /// What rules were told last.
    said: BTreeMap<(&'static str, String), bool>,
    said_at: Instant,
    connects: u64,
}

/// What rules can look at: a signal, the service that it is about, and whether that is wrong.
type News = ((&'static str, String), bool);

/// An instance: its service and its URL.
type Place = (String, String);

struct Watched {
    known: Arc<Known>,
    record: Record,
    /// Of what is kept.
    revision: u64,
    kept_at: Instant,
    kept: bool,
    instances: HashMap<String, Standing>,
}

struct Checked {
    place: Place,
    due: Instant,
    took: Duration,
    look: Look,
}

impl Shard {
    async fn work(&mut self, lease: &Lease) -> anyhow::Result<()> {
        let ctx = self.checker.ctx.clone();
        let mut changes = self.checker.directory.changes();
        let mut tick = ctx.clock.now();
        let at_once = (self.checker.config.check.at_once / SHARDS).max(1);
        self.look_around();
        loop {
            let due = self.queue.peek().map(|Reverse((due, _))| *due);
            let may_check = due.is_some() && self.under_way.len() < at_once;
            tokio::select! {
                biased;
                () = lease.over(&ctx.tasks) => break,
                changed = changes.changed() => {
                    changed?;
                    self.look_around();
                }
                Some(checked) = self.under_way.next() => self.checked(checked, lease).await?,
                () = ctx.clock.sleep_until(due.unwrap_or(tick)), if may_check => self.begin(),
                () = ctx.clock.sleep_until(tick) => {
                    self.tick(lease).await?;
                    tick = ctx.clock.now() + TICK;
                }
            }
        }
        // A shutdown in good order forgets nothing.
        for name in self.unkept() {
            self.keep(&name, lease).await?;
        }
        Ok(())
    }

    /// What is registered may have changed.
    fn look_around(&mut self) {
        let now = self.checker.ctx.clock.now();
        let services = self.checker.directory.services();
        let mine: Vec<&Arc<Known>> =
            services.iter().filter(|known| shard_of(&known.service.name) == self.index).collect();
        let names: HashSet<&str> = mine.iter().map(|known| known.service.name.as_str()).collect();
        self.services.retain(|name, _| names.contains(name.as_str()));
        for known in mine {
            let is_seen =
                self.services.get(&known.service.name).is_some_and(|w| w.known.revision == known.revision);
            if !is_seen {
                self.watch(known.clone(), now);
            }
        }
    }

    fn watch(&mut self, known: Arc<Known>, now: Instant) {
        let name = known.service.name.clone();
        let former = self.services.remove(&name);
        let kept = self.checker.directory.health(&name);
        let (mut record, revision, mut standings) = match former {
            Some(former) => (former.record, former.revision, former.instances),
            None => (kept.record, kept.revision, HashMap::new()),
        };
        let is_there = |url: &String| known.instances.iter().any(|instance| instance.url == *url);
        record.instances.retain(|url, _| is_there(url));
        standings.retain(|url, _| is_there(url));
        let interval = self.interval(&known);
        for instance in &known.instances {
            if !standings.contains_key(&instance.url) {
                let health =
                    record.instances.get(&instance.url).map_or(Health::Unknown, |found| found.health);
                standings.insert(instance.url.clone(), Standing::of(health));
                let due = phase::first(now, interval, rand::random());
                self.queue.push(Reverse((due, (name.clone(), instance.url.clone()))));
            }
        }
        self.services.insert(
            name,
            Watched { known, record, revision, kept_at: now, kept: true, instances: standings },
        );
    }

    fn interval(&self, known: &Known) -> Duration {
        known.service.interval_ms.map_or(self.checker.config.check.interval.0, Duration::from_millis)
    }

    /// The check that is due begins.
    fn begin(&mut self) {
        let Some(Reverse((due, place))) = self.queue.pop() else { return };
        let Some(watched) = self.services.get(&place.0) else { return };
        let Some(instance) = watched.known.instances.iter().find(|instance| instance.url == place.1) else {
            return;
        };
        let expected = Expected::of(&watched.known.service, self.checker.config.check.timeout.0);
        let (prober, reference) = (self.checker.prober.clone(), self.checker.reference.clone());
        let (target, clock) = (instance.target.clone(), self.checker.ctx.clock.clone());
        let check = async move {
            let began = clock.now();
            let look = prober.look(&target, &expected, reference.as_ref()).await;
            Checked { place, due, took: clock.now() - began, look }
        };
        self.under_way.push(check.boxed());
    }

    async fn checked(&mut self, checked: Checked, lease: &Lease) -> anyhow::Result<()> {
        let (now, now_ms) = (self.checker.ctx.clock.now(), self.checker.ctx.clock.now_ms());
        let Checked { place: (name, url), due, took, look: Look { seen, reason, certificate_ends_ms } } =
            checked;
        let thresholds = self.checker.config.check.thresholds();
        let Some(watched) = self.services.get_mut(&name) else { return Ok(()) };
        let Some(standing) = watched.instances.get_mut(&url) else { return Ok(()) };
        let found = watched.record.instances.entry(url.clone()).or_default();
        let is_first = found.checked_at_ms == 0;
        if seen != Seen::Blind {
            found.history.add(seen == Seen::Well, now_ms);
        }
        found.checked_at_ms = now_ms;
        found.latency_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        found.certificate_ends_ms = certificate_ends_ms.or(found.certificate_ends_ms);
        found.reason = reason.map(|reason| reason.chars().take(MOST_REASON_CHARS).collect());
        let before = standing.seen(seen, thresholds);
        if let Some(before) = before {
            (found.health, found.before) = (standing.health(), before);
            (found.since_ms, found.number) = (now_ms, found.number + 1);
            let reason = found.reason.as_deref();
            info!(service = name, instance = url, reason, "an instance is {} now", found.health.name());
        }
        watched.kept = false;
        let interval = self.interval(&self.services[&name].known);
        self.queue.push(Reverse((phase::next(due, now, interval, rand::random()), (name.clone(), url))));
        if before.is_some() || is_first {
            self.keep(&name, lease).await?;
        }
        if before.is_some() {
            self.say(now).await;
        }
        Ok(())
    }

    fn unkept(&self) -> Vec<String> {
        self.services.iter().filter(|(_, watched)| !watched.kept).map(|(name, _)| name.clone()).collect()
    }

    /// Keeps what was found of a service.
    async fn keep(&mut self, name: &str, lease: &Lease) -> anyhow::Result<()> {
        let kv = self.checker.directory.kv().within(WITHIN);
        let Some(watched) = self.services.get_mut(name) else { return Ok(()) };
        let key = health_key(name);
        let mut written = match watched.revision {
            0 => kv.create(&key, &watched.record).await,
            revision => kv.update(&key, &watched.record, revision).await,
        };
        // A former owner may have written late; one that is not registered any more is left alone.
        if let Err(KvError::Conflict { revision, .. }) = written
            && lease.is_valid()
            && self.checker.directory.service(name).is_some()
        {
            written = kv.update(&key, &watched.record, revision).await;
        }
        match written {
            Ok(revision) => {
                (watched.revision, watched.kept) = (revision, true);
                watched.kept_at = self.checker.ctx.clock.now();
                Ok(())
            }
            Err(KvError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn tick(&mut self, lease: &Lease) -> anyhow::Result<()> {
        let connects = self.checker.ctx.bus.link().borrow().connects;
        if connects != std::mem::replace(&mut self.connects, connects) {
            self.checker.directory.hear_all();
        }
        self.expire().await;
        let now = self.checker.ctx.clock.now();
        for name in self.unkept() {
            if self.services.get(&name).is_some_and(|watched| now - watched.kept_at >= KEPT_EVERY) {
                self.keep(&name, lease).await?;
            }
        }
        self.say(now).await;
        Ok(())
    }

    /// Takes out what was not heard of within its lease.
    async fn expire(&mut self) {
        let now = self.checker.ctx.clock.now();
        let is_over = |known: &Known| {
            let lease = known.service.lease_ms.map(Duration::from_millis);
            let heard = self.checker.directory.heard(&known.service.name);
            lease.zip(heard).is_some_and(|(lease, (at, _))| now - at >= lease)
        };
        let over = self.services.values().map(|watched| watched.known.clone()).filter(|known| is_over(known));
        for known in over.collect::<Vec<_>>() {
            let name = known.service.name.as_str();
            info!(service = name, "a service was not heard of within its lease, and is deregistered");
            if let Err(error) = self.checker.registry.expire(&known).await {
                warn!(service = name, %error, "a service whose lease is over cannot be deregistered yet");
            }
        }
    }

    /// A certificate that is not valid any more by then expires soon.
    fn soon_ms(&self) -> u64 {
        let within = self.checker.config.check.certificate.0.as_millis();
        self.checker.ctx.clock.now_ms().saturating_add(u64::try_from(within).unwrap_or(u64::MAX))
    }

    /// Says what rules can look at: what has changed at once, all of it every while.
    async fn say(&mut self, now: Instant) {
        let mut current: BTreeMap<(&'static str, String), bool> = BTreeMap::new();
        let soon_ms = self.soon_ms();
        for (name, watched) in &self.services {
            let parts = watched.known.instances.iter().map(|instance| {
                watched.record.instances.get(&instance.url).map_or(Health::Unknown, |found| found.health)
            });
            current.insert(("service_down", name.clone()), Health::of_parts(parts) == Health::Down);
            let open = watched.known.breaker.status().state != BreakerState::Closed;
            current.insert(("breaker_open", name.clone()), open);
            let ends = watched.record.instances.values().filter_map(|found| found.certificate_ends_ms).min();
            if let Some(ends_ms) = ends {
                current.insert(("certificate_expiring", name.clone()), ends_ms <= soon_ms);
            }
        }
        // What is gone is not wrong any more.
        let gone = self.said.iter().filter(|(key, wrong)| **wrong && !current.contains_key(*key));
        let gone: Vec<_> = gone.map(|(key, _)| (key.clone(), false)).collect();
        let all = now - self.said_at >= SAID_EVERY;
        let news = current
            .iter()
            .filter(|(key, wrong)| all || self.said.get(*key).copied().unwrap_or(false) != **wrong);
        let news: Vec<_> = news.map(|(key, wrong)| (key.clone(), *wrong)).chain(gone).collect();
        for (part, some) in news.chunks(MOST_READINGS).enumerate() {
            if let Err(error) = self.checker.publish(self.index, part, some).await {
                warn!(%error, "what rules look at about services cannot be said yet");
                return;
            }
        }
        if all {
            self.said_at = now;
        }
        self.said = current;
    }
}
