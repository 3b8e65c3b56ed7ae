//! The register of service names: at most 256 over all partitions, so it is shared through the bus.

use std::sync::{Mutex, PoisonError};

use keelson_kit::bus::Bus;
use keelson_kit::kv::{Kv, KvError};
use keelson_schemas::limits::MAX_SERVICES;
use rustc_hash::FxHashSet;

const BUCKET: &str = "registers";
const KEY: &str = "metrics.services";

/// The names that are admitted. None is ever taken off, so what was read stays true.
#[derive(Debug)]
pub struct Services {
    bucket: Kv,
    known: Mutex<FxHashSet<String>>,
}

impl Services {
    /// The register on this bus.
    #[must_use]
    pub fn on(bus: &Bus) -> Self {
        Self { bucket: bus.kv(BUCKET), known: Mutex::default() }
    }

    /// Whether a service is counted under its own name; a new one is entered if there is room.
    ///
    /// # Errors
    /// The bus is away, or refuses.
    pub async fn admit(&self, service: &str) -> Result<bool, KvError> {
        loop {
            if let Some(answer) = self.remembered(service) {
                return Ok(answer);
            }
            match self.enter(service).await {
                Err(KvError::Conflict { .. }) => {}
                done => return done.map(|()| self.remembered(service).unwrap_or(false)),
            }
        }
    }

    /// What is known without asking.
    fn remembered(&self, service: &str) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(service) {
            return Some(true);
        }
        (known.len() >= MAX_SERVICES).then_some(false)
    }

    /// Reads the register and enters the service if there is room.
    async fn enter(&self, service: &str) -> Result<(), KvError> {
        let entry = self.bucket.get::<Vec<String>>(KEY).await?;
        let (revision, mut names) =
            entry.map(|entry| (Some(entry.revision), entry.value)).unwrap_or_default();
        if names.len() < MAX_SERVICES && !names.iter().any(|name| name == service) {
            names.push(service.to_owned());
            match revision {
                Some(revision) => self.bucket.update(KEY, &names, revision).await?,
                None => self.bucket.create(KEY, &names).await?,
            };
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
        Ok(())
    }
}
