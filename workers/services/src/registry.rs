//! Changes to what is registered, by compare-and-set.

use keelson_kit::clock::Clock;
use keelson_kit::fault;
use keelson_kit::kv::{Entry, Kv, KvError};
use keelson_schemas::id;
use keelson_schemas::services::{Deregistered, Service, Why};

use crate::announce::Announcer;
use crate::breakers::Breakers;
use crate::directory::{Directory, Known, beat_key, health_key, service_key};

/// How many services there may be.
pub const MOST_SERVICES: usize = 5_000;
/// How often a change is tried against others who change the same service.
const MOST_CONFLICTS: u32 = 10;

/// Who changes what is registered. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    /// What is known.
    pub directory: Directory,
    /// What services have.
    pub breakers: Breakers,
    /// Who says what has changed.
    pub announcer: Announcer,
    /// The time.
    pub clock: Clock,
}

/// Why a service is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Another one has its name.
    #[error(
        "name: {0:?} is registered with other settings; set \"replace\" to put this in their place, or deregister it first"
    )]
    Taken(String),
    /// It cannot be registered at all.
    #[error("{0}")]
    Unfit(String),
    /// There are too many.
    #[error("name: there are {MOST_SERVICES} services already")]
    TooMany,
    /// The bucket could not be read or written.
    #[error(transparent)]
    Kv(#[from] KvError),
}

impl Registry {
    /// Whether a service could be registered, as far as is known here.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, service: &Service, replace: bool) -> Result<(), RegisterError> {
        match self.directory.service(&service.name) {
            Some(known) if !replace && !known.service.is_like(service) => {
                Err(RegisterError::Taken(service.name.clone()))
            }
            None if self.directory.count() >= MOST_SERVICES => Err(RegisterError::TooMany),
            _ => Ok(()),
        }
    }

    /// Registers a service; whether that changed anything. One that is registered already is only heard of.
    ///
    /// # Errors
    /// When its name is taken and may not be, or the bus does not take it.
    pub async fn register(&self, service: &Service, replace: bool) -> Result<bool, RegisterError> {
        let key = service_key(&service.name);
        let mut conflicts = 0;
        loop {
            let before: Option<Entry<Service>> = self.kv().get(&key).await?;
            let written = match before {
                None if self.directory.count() >= MOST_SERVICES => return Err(RegisterError::TooMany),
                None => self.kv().create(&key, service).await,
                Some(entry) if entry.value.is_like(service) => {
                    self.heard(&service.name).await?;
                    return Ok(false);
                }
                Some(entry) if replace => self.kv().update(&key, service, entry.revision).await,
                Some(_) => return Err(RegisterError::Taken(service.name.clone())),
            };
            match written {
                Ok(revision) => {
                    fault::point("services.registered");
                    self.directory.seen(revision).await;
                    let stays = |url: Option<&str>| {
                        url.is_none_or(|url| service.instances.iter().any(|known| known == url))
                    };
                    self.breakers.remove(&service.name, stays).await?;
                    return Ok(true);
                }
                Err(KvError::Conflict { .. }) if conflicts < MOST_CONFLICTS => conflicts += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Registers what nobody asked for: what the configuration names, what is found on the bus. What has its name from elsewhere stays.
    ///
    /// # Errors
    /// As [`Registry::register`].
    pub async fn by_itself(&self, service: &Service) -> Result<bool, RegisterError> {
        let before: Option<Entry<Service>> = self.kv().get(&service_key(&service.name)).await?;
        let replace = before.is_none_or(|entry| entry.value.source == service.source);
        self.register(service, replace).await
    }

    /// A service was heard of: its lease begins anew.
    ///
    /// # Errors
    /// When the bus does not take it.
    pub async fn heard(&self, name: &str) -> Result<(), KvError> {
        let revision = self.kv().put(&beat_key(name), &self.clock.now_ms()).await?;
        self.directory.seen(revision).await;
        Ok(())
    }

    /// Takes a service out, with all that is kept of it; whether it was there.
    ///
    /// # Errors
    /// When the bus does not take it, or somebody changes it meanwhile.
    pub async fn deregister(&self, name: &str) -> Result<bool, KvError> {
        let before: Option<Entry<Service>> = self.kv().get(&service_key(name)).await?;
        if let Some(entry) = &before {
            self.kv().delete(&service_key(name), Some(entry.revision)).await?;
            fault::point("services.deregistered");
        }
        self.clear(name).await?;
        Ok(before.is_some())
    }

    /// Takes a service out whose lease is over, as it was when that was seen. If it has changed since, it stays.
    ///
    /// # Errors
    /// When the bus does not take it.
    pub async fn expire(&self, known: &Known) -> Result<(), KvError> {
        let (name, revision) = (known.service.name.as_str(), known.revision);
        match self.kv().delete(&service_key(name), Some(revision)).await {
            Ok(()) => {}
            Err(KvError::Conflict { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        let event = Deregistered { name: name.to_owned(), why: Why::Expired, by: None };
        let at = known.service.registered_at_ms.to_string();
        let id = id::derive("services-deregistered", &[name, &revision.to_string(), &at]);
        self.announcer.say("deregistered", id, &event).await;
        self.clear(name).await
    }

    /// Removes what belongs to a service that is not there.
    async fn clear(&self, name: &str) -> Result<(), KvError> {
        for key in [health_key(name), beat_key(name)] {
            if self.kv().get_bytes(&key).await?.is_some() {
                self.kv().delete(&key, None).await?;
            }
        }
        self.breakers.remove(name, |_| false).await
    }

    fn kv(&self) -> &Kv {
        self.directory.kv()
    }
}
