//! What is registered and how it fares, as every replica knows it: a copy of the bucket `services`, kept up to date.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use keelson_kit::clock::Clock;
use keelson_kit::kv::{Change, Kv, KvError};
use keelson_kit::role::Context;
use keelson_schemas::id;
use keelson_schemas::services::{HealthChanged, Service};
use tokio::sync::watch;
use tracing::warn;

use crate::address::{Rules, Target};
use crate::allow::Rule;
use crate::announce::{Announcer, FRESH_MS};
use crate::breakers::{Breakers, Switch};
use crate::health;

/// The bucket.
pub const BUCKET: &str = "services";

/// What every replica knows. Cheap to clone.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    kv: Kv,
    clock: Clock,
    rules: Rules,
    breakers: Breakers,
    announcer: Announcer,
    known: RwLock<Contents>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Contents {
    services: BTreeMap<String, Arc<Known>>,
    health: HashMap<String, Kept>,
    beats: HashMap<String, Beat>,
    /// The newest revision that was seen.
    revision: u64,
}

/// A service, ready to be called.
pub struct Known {
    /// As it is registered.
    pub service: Service,
    /// The revision of its entry.
    pub revision: u64,
    /// What may be called.
    pub allow: Vec<Rule>,
    /// Its instances, in the order in which they were registered.
    pub instances: Vec<Instance>,
    /// Its breaker.
    pub breaker: Arc<Switch>,
}

/// An instance, ready to be called.
pub struct Instance {
    /// Its name: its URL.
    pub url: String,
    /// Where it is.
    pub target: Target,
    /// Its breaker.
    pub breaker: Arc<Switch>,
    /// Calls under way there.
    pub outstanding: Arc<AtomicU64>,
}

/// What checks found, with the revision of the entry.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// 0 when there is none.
    pub revision: u64,
    /// What they found.
    pub record: health::Record,
}

/// When a service was heard of last.
#[derive(Debug, Clone, Copy)]
struct Beat {
    revision: u64,
    at: Instant,
    at_ms: u64,
}

/// The key of a service.
#[must_use]
pub fn service_key(name: &str) -> String {
    format!("service.{name}")
}

/// The key of what checks found of it.
#[must_use]
pub fn health_key(name: &str) -> String {
    format!("health.{name}")
}

/// The key of its heartbeat.
#[must_use]
pub fn beat_key(name: &str) -> String {
    format!("beat.{name}")
}

impl Directory {
    /// Reads what is there, and keeps up with it from then on.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn open(
        ctx: &Context,
        rules: Rules,
        breakers: Breakers,
        announcer: Announcer,
    ) -> anyhow::Result<Self> {
        let kv = ctx.bus.kv(BUCKET);
        let directory = Self(Arc::new(Inner {
            kv: kv.clone(),
            clock: ctx.clock.clone(),
            rules,
            breakers,
            announcer,
            known: RwLock::default(),
            changed: watch::Sender::new(0),
        }));
        let copy = directory.clone();
        kv.keep_up(&ctx.tasks, move |change| {
            let copy = copy.clone();
            async move { copy.take(&change).await }
        })
        .await?;
        Ok(directory)
    }

    /// A service by its name, as far as this copy is.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<Arc<Known>> {
        self.known().services.get(name).cloned()
    }

    /// A service by its name, as the bucket has it now: what was registered with another replica a moment ago is there, what was deregistered is not.
    ///
    /// # Errors
    /// The bucket cannot be read, or this copy of it is too far behind.
    pub async fn current(&self, name: &str) -> Result<Option<Arc<Known>>, KvError> {
        let Some(entry) = self.0.kv.get_bytes(&service_key(name)).await? else { return Ok(None) };
        if self.seen(entry.revision).await {
            return Ok(self.service(name));
        }
        Err(KvError::Unavailable("the copy of the registered services is behind".to_owned()))
    }

    /// All services, by name.
    #[must_use]
    pub fn services(&self) -> Vec<Arc<Known>> {
        self.known().services.values().cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known().services.len()
    }

    /// What checks found of a service.
    #[must_use]
    pub fn health(&self, name: &str) -> Kept {
        self.known().health.get(name).cloned().unwrap_or_default()
    }

    /// What checks found, for a look at it that copies nothing.
    pub fn with_health<T>(&self, name: &str, look: impl FnOnce(Option<&health::Record>) -> T) -> T {
        look(self.known().health.get(name).map(|kept| &kept.record))
    }

    /// When a service was heard of last: by this process's clock, and by the wall clock of whoever heard it.
    #[must_use]
    pub fn heard(&self, name: &str) -> Option<(Instant, u64)> {
        self.known().beats.get(name).map(|beat| (beat.at, beat.at_ms))
    }

    /// Every lease begins anew: while the bus was away nobody could be heard.
    pub fn hear_all(&self) {
        let now = self.0.clock.now();
        self.writing().beats.values_mut().for_each(|beat| beat.at = now);
    }

    /// Changes whenever something is registered, deregistered or found.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Waits until a revision of the bucket has been seen here, so that who asked for a change finds it made; not for long. Whether it has been.
    pub async fn seen(&self, revision: u64) -> bool {
        let mut changes = self.changes();
        let seen = changes.wait_for(|seen| *seen >= revision);
        matches!(tokio::time::timeout(Duration::from_secs(2), seen).await, Ok(Ok(_)))
    }

    /// The bucket itself.
    #[must_use]
    pub fn kv(&self) -> &Kv {
        &self.0.kv
    }

    /// A key was written or deleted.
    async fn take(&self, change: &Change) {
        let taken = match change.key.split_once('.') {
            Some(("service", name)) => self.take_service(name, change).await,
            Some(("health", name)) => self.take_health(name, change).await,
            Some(("beat", name)) => self.take_beat(name, change),
            _ => Ok(()),
        };
        if let Err(reason) = taken {
            warn!(key = change.key, reason, "an entry in the bucket of services is passed over");
        }
        let mut known = self.writing();
        known.revision = known.revision.max(change.revision);
        let revision = known.revision;
        drop(known);
        self.0.changed.send_replace(revision);
    }

    async fn take_service(&self, name: &str, change: &Change) -> Result<(), String> {
        let Some(entry) = change.decode::<Service>().map_err(|error| error.to_string())? else {
            let mut known = self.writing();
            known.services.remove(name);
            known.beats.remove(name);
            drop(known);
            self.0.breakers.forget(name);
            return Ok(());
        };
        let is_new = self.service(name).is_none_or(|known| known.revision < entry.revision);
        if !is_new {
            return Ok(());
        }
        let known = self.ready(entry.value, entry.revision)?;
        let service = known.service.clone();
        self.heard_of(name, change.revision, service.registered_at_ms);
        self.writing().services.insert(name.to_owned(), Arc::new(known));
        if self.is_fresh(service.registered_at_ms) {
            let id = id::derive(
                "services-registered",
                &[name, &change.revision.to_string(), &service.registered_at_ms.to_string()],
            );
            self.0.announcer.say("registered", id, &service).await;
        }
        Ok(())
    }

    /// Whatever of it is known stays: calls under way are counted on.
    fn ready(&self, service: Service, revision: u64) -> Result<Known, String> {
        let before = self.service(&service.name);
        let outstanding = |url: &str| {
            let instance =
                before.as_ref().and_then(|known| known.instances.iter().find(|known| known.url == url));
            instance.map(|instance| instance.outstanding.clone()).unwrap_or_default()
        };
        let mut instances = Vec::new();
        for url in &service.instances {
            instances.push(Instance {
                target: self.0.rules.target(url)?,
                breaker: self.0.breakers.of(&service.name, Some(url)),
                outstanding: outstanding(url),
                url: url.clone(),
            });
        }
        let allow = service.allow.iter().map(|rule| Rule::parse(rule)).collect::<Result<_, _>>()?;
        Ok(Known { breaker: self.0.breakers.of(&service.name, None), allow, instances, revision, service })
    }

    async fn take_health(&self, name: &str, change: &Change) -> Result<(), String> {
        let Some(entry) = change.decode::<health::Record>().map_err(|error| error.to_string())? else {
            self.writing().health.remove(name);
            return Ok(());
        };
        let before = self.health(name);
        if before.revision >= entry.revision {
            return Ok(());
        }
        for (url, found) in &entry.value.instances {
            let known = before.record.instances.get(url).map_or(0, |before| before.number);
            if found.number > known && self.is_fresh(found.since_ms) {
                self.tell(name, url, found).await;
            }
        }
        self.writing().health.insert(name.to_owned(), Kept { revision: entry.revision, record: entry.value });
        Ok(())
    }

    async fn tell(&self, service: &str, url: &str, found: &health::Found) {
        let at = (found.number.to_string(), found.since_ms.to_string());
        let id = id::derive("services-health", &[service, url, &at.0, &at.1]);
        let event = HealthChanged {
            service: service.to_owned(),
            instance: url.to_owned(),
            health: found.health,
            before: found.before,
            reason: found.reason.clone(),
            at_ms: found.since_ms,
            number: found.number,
        };
        self.0.announcer.say(found.health.name(), id, &event).await;
    }

    fn take_beat(&self, name: &str, change: &Change) -> Result<(), String> {
        match change.decode::<u64>().map_err(|error| error.to_string())? {
            Some(entry) => self.heard_of(name, entry.revision, entry.value),
            None => drop(self.writing().beats.remove(name)),
        }
        Ok(())
    }

    fn heard_of(&self, name: &str, revision: u64, at_ms: u64) {
        let at = self.0.clock.now();
        let mut known = self.writing();
        let newer = known.beats.get(name).is_none_or(|beat| beat.revision < revision);
        if newer {
            known.beats.insert(name.to_owned(), Beat { revision, at, at_ms });
        }
    }

    fn is_fresh(&self, at_ms: u64) -> bool {
        self.0.clock.now_ms().saturating_sub(at_ms) < FRESH_MS
    }

    fn known(&self) -> RwLockReadGuard<'_, Contents> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> RwLockWriteGuard<'_, Contents> {
        self.0.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}
