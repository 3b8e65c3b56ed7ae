//! What the worker can be told to do.

use std::sync::Arc;

use keelson_kit::command::{Attempt, CommandHandler};
use keelson_kit::failure::Failure;
use keelson_kit::kv::KvError;
use keelson_kit::query::Refusal;
use keelson_schemas::services::{Deregister, Deregistered, Register, Registered, Reset, Service, Trip, Why};

use crate::address::Rules;
use crate::breakers::{Breakers, Switch};
use crate::config::ServicesConfig;
use crate::directory::Known;
use crate::http::Names;
use crate::registration;
use crate::registry::{RegisterError, Registry};

/// What handlers need, and those who check commands before they are accepted. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    /// Who changes what is registered.
    pub registry: Registry,
    /// All breakers.
    pub breakers: Breakers,
    /// How things are by default.
    pub config: Arc<ServicesConfig>,
    /// What may be connected to.
    pub rules: Rules,
    /// Who resolves names.
    pub names: Names,
}

/// Obeys `keelson.cmd.services.register`.
pub struct RegisterHandler(pub Desk);
/// Obeys `keelson.cmd.services.deregister`.
pub struct DeregisterHandler(pub Desk);
/// Obeys `keelson.cmd.services.trip`.
pub struct TripHandler(pub Desk);
/// Obeys `keelson.cmd.services.reset`.
pub struct ResetHandler(pub Desk);

impl Desk {
    /// The service that is asked for. A host that cannot be resolved now is none that leads to where nobody may go.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn read(&self, register: &Register) -> Result<Service, String> {
        let service = registration::read(register, &self.config.check, self.rules)?;
        for url in &service.instances {
            let target = self.rules.target(url)?;
            let Some((host, _)) = target.host() else { continue };
            if let Err(error) = self.names.addresses(host).await
                && error.kind() == std::io::ErrorKind::PermissionDenied
            {
                return Err(format!("url: {error}"));
            }
        }
        Ok(service)
    }

    /// Whether a registration would be obeyed.
    ///
    /// # Errors
    /// Why not.
    pub async fn check_register(self, register: Register) -> Result<(), Refusal> {
        let service = self.read(&register).await.map_err(|error| Refusal::new(422, error))?;
        let checked = self.registry.check(&service, register.replace);
        checked.map_err(|error| Refusal::new(422, error.to_string()))
    }

    /// Whether there is such a service.
    ///
    /// # Errors
    /// Why not.
    pub async fn check_known(self, name: String) -> Result<(), Refusal> {
        self.known(&name).await?;
        Ok(())
    }

    /// Whether there is such a service, or such an instance of it.
    ///
    /// # Errors
    /// Why not.
    pub async fn check_switch(self, name: String, instance: Option<String>) -> Result<(), Refusal> {
        self.switch(&name, instance.as_deref()).await?;
        Ok(())
    }

    /// A service by its name, as it is registered now, with whichever replica.
    ///
    /// # Errors
    /// There is none, or nobody can tell.
    pub async fn known(&self, name: &str) -> Result<Arc<Known>, Unfound> {
        registration::name(name).map_err(Unfound::Unnamed)?;
        let known = self.registry.directory.current(name).await?;
        known.ok_or_else(|| Unfound::Missing(format!("no service is registered as {name:?}")))
    }

    /// The breaker of a service, or of one of its instances.
    ///
    /// # Errors
    /// As [`Desk::known`].
    pub async fn switch(&self, name: &str, instance: Option<&str>) -> Result<Arc<Switch>, Unfound> {
        let known = self.known(name).await?;
        let Some(url) = instance else { return Ok(known.breaker.clone()) };
        let named = self.rules.target(url).map(|target| target.to_string()).unwrap_or_default();
        let instance = known.instances.iter().find(|instance| instance.url == named);
        let missing = || Unfound::Missing(format!("{name} has no instance {url:?}"));
        instance.map(|instance| instance.breaker.clone()).ok_or_else(missing)
    }
}

/// Why there is no service, or no instance, to do something with.
#[derive(Debug, thiserror::Error)]
pub enum Unfound {
    /// Its name is none.
    #[error("{0}")]
    Unnamed(String),
    /// There is no such thing.
    #[error("{0}")]
    Missing(String),
    /// Nobody can tell now.
    #[error(transparent)]
    Kv(#[from] KvError),
}

impl From<Unfound> for Refusal {
    fn from(unfound: Unfound) -> Self {
        let status = match unfound {
            Unfound::Unnamed(_) => 422,
            Unfound::Missing(_) => 404,
            Unfound::Kv(_) => 503,
        };
        Self::new(status, unfound.to_string())
    }
}

impl From<Unfound> for Failure {
    fn from(unfound: Unfound) -> Self {
        match unfound {
            Unfound::Kv(error) => error.into(),
            unfound => Self::decline(unfound),
        }
    }
}

impl CommandHandler for RegisterHandler {
    type Command = Register;
    type Outcome = Registered;

    async fn run(&self, register: Register, attempt: &Attempt) -> Result<Registered, Failure> {
        let service = Service {
            registered_by: attempt.requested_by.clone(),
            registered_at_ms: self.0.registry.clock.now_ms(),
            ..self.0.read(&register).await.map_err(Failure::decline)?
        };
        match self.0.registry.register(&service, register.replace).await {
            Ok(changed) => Ok(Registered { service, changed }),
            Err(RegisterError::Kv(error)) => Err(error.into()),
            Err(error) => Err(Failure::decline(error)),
        }
    }
}

impl CommandHandler for DeregisterHandler {
    type Command = Deregister;
    type Outcome = Deregister;

    async fn run(&self, command: Deregister, attempt: &Attempt) -> Result<Deregister, Failure> {
        registration::name(&command.name).map_err(Failure::decline)?;
        let was_there = self.0.registry.deregister(&command.name).await?;
        // After a crash in its midst it is not there any more, and that is what was asked for.
        if !was_there && attempt.number == 1 {
            return Err(Failure::decline(format!("no service is registered as {:?}", command.name)));
        }
        let event = Deregistered {
            name: command.name.clone(),
            why: Why::Command,
            by: Some(attempt.requested_by.clone()),
        };
        self.0.registry.announcer.said("deregistered", attempt.consequence("deregistered"), &event).await?;
        Ok(command)
    }
}

impl CommandHandler for TripHandler {
    type Command = Trip;
    type Outcome = Trip;

    async fn run(&self, trip: Trip, attempt: &Attempt) -> Result<Trip, Failure> {
        let switch = self.0.switch(&trip.name, trip.instance.as_deref()).await?;
        let reason = match trip.reason.is_empty() {
            true => format!("forced by {}", attempt.requested_by),
            false => format!("forced by {}: {}", attempt.requested_by, trip.reason),
        };
        self.0.breakers.set(&switch, Some(trip.to), Some(reason)).await?;
        Ok(trip)
    }
}

impl CommandHandler for ResetHandler {
    type Command = Reset;
    type Outcome = Reset;

    async fn run(&self, reset: Reset, _: &Attempt) -> Result<Reset, Failure> {
        let switch = self.0.switch(&reset.name, reset.instance.as_deref()).await?;
        let mut switches = vec![switch];
        if reset.instance.is_none() {
            let known = self.0.known(&reset.name).await?;
            switches.extend(known.instances.iter().map(|instance| instance.breaker.clone()));
        }
        for switch in switches {
            self.0.breakers.set(&switch, None, None).await?;
        }
        Ok(reset)
    }
}
