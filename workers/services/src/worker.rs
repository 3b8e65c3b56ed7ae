//! The role: every replica answers, obeys, and decides by its breakers; each shard of services is checked by one, by a lease.

use std::future::ready;
use std::sync::Arc;

use keelson_kit::command::Commands;
use keelson_kit::config::ConfigError;
use keelson_kit::lease::{GroupSpec, Timing};
use keelson_kit::query::{Queries, Refusal};
use keelson_kit::retry::{Backoff, Schedule};
use keelson_kit::role::{Context, Role};
use keelson_schemas::services::{Call, Deregister, FindService, Register, Reset, Service, Source, Trip};
use tracing::{info, warn};

use crate::address::Rules;
use crate::announce::Announcer;
use crate::breakers::Breakers;
use crate::call::Caller;
use crate::checker::{Checker, SHARDS};
use crate::commands::{DeregisterHandler, Desk, RegisterHandler, ResetHandler, TripHandler};
use crate::config::{ENV, ServicesConfig};
use crate::directory::Directory;
use crate::discovery::Discoverer;
use crate::http::Names;
use crate::probe::Prober;
use crate::recovery::Recovery;
use crate::registry::{RegisterError, Registry};
use crate::status;

/// Calls that one replica has under way at once; each service has its own bound within it.
const CALLS_AT_ONCE: usize = 4_096;

/// The services worker.
pub struct Services;

impl Role for Services {
    const NAME: &'static str = "services";
    const SUMMARY: &'static str =
        "knows which services there are, checks them, and calls them with breakers and failover";
    type Config = ServicesConfig;

    fn env() -> &'static [(&'static str, &'static str)] {
        ENV
    }

    fn validate(config: &Self::Config) -> Vec<ConfigError> {
        config.errors()
    }

    async fn start(config: Self::Config, ctx: Context) -> anyhow::Result<()> {
        let worker = Worker::open(config, ctx).await?;
        worker.ctx.answer(worker.queries()).await?;
        worker.ctx.obey(worker.commands())?;
        worker.own_shards();
        worker.discover();
        worker.recovery().spawn(&worker.ctx.tasks);
        worker.register_configured();
        Ok(())
    }
}

#[derive(Clone)]
struct Worker {
    ctx: Context,
    directory: Directory,
    desk: Desk,
    prober: Prober,
}

impl Worker {
    async fn open(config: ServicesConfig, ctx: Context) -> anyhow::Result<Self> {
        let rules = Rules { loopback: ctx.core.http.addr.ip().is_loopback() };
        let names = Names::of_system(rules);
        let announcer = Announcer::spawn(&ctx);
        let breakers = Breakers::open(&ctx, config.breaker.policy(), announcer.clone()).await?;
        let directory = Directory::open(&ctx, rules, breakers.clone(), announcer.clone()).await?;
        let prober = Prober { bus: ctx.bus.clone(), client: names.client()?, names: names.clone() };
        let registry = Registry {
            directory: directory.clone(),
            breakers: breakers.clone(),
            announcer,
            clock: ctx.clock.clone(),
        };
        let desk = Desk { registry, breakers, config: Arc::new(config), rules, names };
        Ok(Self { ctx, directory, desk, prober })
    }

    fn queries(&self) -> Queries {
        let of_all = (self.directory.clone(), self.ctx.clock.clone());
        let in_short = of_all.clone();
        let (of_one, clock) = (self.desk.clone(), self.ctx.clock.clone());
        let heard = self.desk.clone();
        let queries = Queries::of(Services::NAME)
            .with("list", move |()| ready(Ok(status::of_all(&of_all.0, of_all.1.now_ms()))))
            .with("health", move |()| ready(Ok(status::in_short(&in_short.0, in_short.1.now_ms()))))
            .with("status", move |question: FindService| {
                let (desk, now_ms) = (of_one.clone(), clock.now_ms());
                async move {
                    let known = desk.known(&question.name).await?;
                    Ok(status::of(&desk.registry.directory, &known, now_ms))
                }
            })
            .with("heartbeat", move |question: FindService| {
                let desk = heard.clone();
                async move {
                    desk.known(&question.name).await?;
                    let heard = desk.registry.heard(&question.name).await;
                    heard.map_err(|error| Refusal::new(503, error.to_string()))
                }
            });
        let caller = self.caller();
        let queries = queries.at_once(CALLS_AT_ONCE, "call", move |call: Call| {
            let caller = caller.clone();
            async move { caller.call(call).await.map_err(|error| Refusal::new(503, error.to_string())) }
        });
        self.with_checks(queries)
    }

    /// Whether commands have a meaning, asked before they are accepted.
    fn with_checks(&self, queries: Queries) -> Queries {
        let [of_register, of_deregister, of_trip, of_reset] = [(); 4].map(|()| self.desk.clone());
        queries
            .with("check.register", move |command: Register| of_register.clone().check_register(command))
            .with("check.deregister", move |command: Deregister| {
                of_deregister.clone().check_known(command.name)
            })
            .with("check.trip", move |command: Trip| {
                of_trip.clone().check_switch(command.name, command.instance)
            })
            .with("check.reset", move |command: Reset| {
                of_reset.clone().check_switch(command.name, command.instance)
            })
    }

    fn caller(&self) -> Caller {
        Caller::new(
            self.directory.clone(),
            self.desk.breakers.clone(),
            self.prober.client.clone(),
            self.desk.config.call.clone(),
            self.ctx.clock.clone(),
        )
    }

    fn recovery(&self) -> Recovery {
        Recovery {
            clock: self.ctx.clock.clone(),
            breakers: self.desk.breakers.clone(),
            directory: self.directory.clone(),
            prober: self.prober.clone(),
            config: self.desk.config.clone(),
        }
    }

    fn commands(&self) -> Commands {
        Commands::of(Services::NAME)
            .with(RegisterHandler(self.desk.clone()))
            .with(DeregisterHandler(self.desk.clone()))
            .with(TripHandler(self.desk.clone()))
            .with(ResetHandler(self.desk.clone()))
    }

    /// Checks each shard that falls to this process until it falls to another.
    fn own_shards(&self) {
        let keys = (0..SHARDS).map(|shard| shard.to_string()).collect();
        let spec = GroupSpec { name: "services.shard".to_owned(), keys, timing: Timing::default() };
        let checker = Checker {
            ctx: self.ctx.clone(),
            directory: self.directory.clone(),
            registry: self.desk.registry.clone(),
            prober: self.prober.clone(),
            reference: self.desk.config.reference(self.desk.rules),
            config: self.desk.config.clone(),
        };
        self.ctx.own(spec, move |lease| checker.clone().run(lease));
    }

    /// Registers the micro services on the bus while that falls to this process.
    fn discover(&self) {
        if !self.desk.config.discovery.enabled {
            return;
        }
        let spec = GroupSpec {
            name: "services.discovery".to_owned(),
            keys: vec!["bus".to_owned()],
            timing: Timing::default(),
        };
        let discoverer = Discoverer { ctx: self.ctx.clone(), desk: self.desk.clone() };
        self.ctx.own(spec, move |lease| discoverer.clone().run(lease));
    }

    /// Registers what the configuration names, for as long as it takes.
    fn register_configured(&self) {
        let (worker, tasks) = (self.clone(), self.ctx.tasks.clone());
        self.ctx.tasks.spawn_once("services that are configured", async move {
            for (key, register) in worker.desk.config.registrations() {
                let asked = worker.desk.read(&register).await;
                match asked {
                    Ok(service) => tokio::select! {
                        () = worker.configured(service) => {}
                        () = tasks.cancelled() => return Ok(()),
                    },
                    Err(error) => warn!("services.{key} is not registered: {error}"),
                }
            }
            Ok(())
        });
    }

    async fn configured(&self, service: Service) {
        let service = Service {
            source: Source::Configuration,
            registered_by: "configuration".to_owned(),
            registered_at_ms: self.ctx.clock.now_ms(),
            ..service
        };
        let mut waits = Backoff::new(Schedule::NEAR);
        loop {
            match self.desk.registry.by_itself(&service).await {
                Ok(true) => {
                    return info!(service = service.name, "a service of the configuration is registered");
                }
                Ok(false) => return,
                Err(RegisterError::Kv(error)) => {
                    warn!(service = service.name, %error, "a service cannot be registered yet");
                    self.ctx.clock.sleep(waits.next_wait()).await;
                }
                Err(error) => {
                    return warn!(service = service.name, %error, "a service of the configuration is not registered");
                }
            }
        }
    }
}
