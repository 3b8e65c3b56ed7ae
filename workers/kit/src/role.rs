//! A role is what one worker crate is to the executable: a name, a section of the configuration, and a start. A new
//! worker is a new crate that implements [`Role`] and one line in the executable's list of [`AnyRole`]s.

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bus::Bus;
use crate::clock::Clock;
use crate::config::{ConfigError, ConfigSource, CoreConfig, section};
use crate::node::NodeId;
use crate::tasks::Tasks;

/// A worker. Implemented by a unit struct, `pub struct Metrics;`, in the worker's crate.
pub trait Role: Send + Sync + 'static {
    /// The role's name: of its section in keelson.toml, of its subjects, and in `keelson run NAME`.
    const NAME: &'static str;
    /// What it does, in one line for `keelson run --help`.
    const SUMMARY: &'static str;
    /// The section `[NAME]`. Every field has a default, so that each key can be checked on its own.
    type Config: DeserializeOwned + Serialize + Default + Send;

    /// Environment variables that set a key of the section: `("CDN_DOMAIN", "domain")`.
    fn env() -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// What types cannot say about a configuration; keys are within the section.
    fn validate(config: &Self::Config) -> Vec<ConfigError> {
        let _ = config;
        Vec::new()
    }

    /// Spawns the role's tasks through `ctx.tasks` and returns; an error here stops the process.
    fn start(config: Self::Config, ctx: Context) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What every role is given. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The way to NATS.
    pub bus: Bus,
    /// The time.
    pub clock: Clock,
    /// The supervisor under which the role spawns everything.
    pub tasks: Tasks,
    /// Who this process is.
    pub node: NodeId,
    /// What concerns more than one role: where HTTP listens, who may do what, where data lies.
    pub core: Arc<CoreConfig>,
    /// Where the configuration can be read again.
    pub config: ConfigSource,
}

/// A [`Role`] without its types, so that roles can stand in one list:
/// `static ROLES: &[&dyn AnyRole] = &[&Ingress, &Metrics];`
pub trait AnyRole: Send + Sync {
    /// [`Role::NAME`].
    fn name(&self) -> &'static str;
    /// [`Role::SUMMARY`].
    fn summary(&self) -> &'static str;
    /// [`Role::env`].
    fn env_keys(&self) -> &'static [(&'static str, &'static str)];
    /// The keys of a section that are unknown or have a wrong type; keys are within the section.
    fn type_errors(&self, section: &toml::Table) -> Vec<ConfigError>;
    /// Everything that is wrong with a section, [`Role::validate`] included.
    fn check(&self, section: &toml::Table) -> Vec<ConfigError>;
    /// The section as it takes effect: defaults filled in, secrets redacted.
    fn effective(&self, section: &toml::Table) -> toml::Table;
    /// Parses the section and calls [`Role::start`].
    fn launch(&self, section: toml::Table, ctx: Context) -> BoxFuture<'static, anyhow::Result<()>>;
}

impl<R: Role> AnyRole for R {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn summary(&self) -> &'static str {
        R::SUMMARY
    }

    fn env_keys(&self) -> &'static [(&'static str, &'static str)] {
        R::env()
    }

    fn type_errors(&self, table: &toml::Table) -> Vec<ConfigError> {
        section::parse::<R::Config>(table).err().unwrap_or_default()
    }

    fn check(&self, table: &toml::Table) -> Vec<ConfigError> {
        match section::parse::<R::Config>(table) {
            Ok(config) => R::validate(&config),
            Err(errors) => errors,
        }
    }

    fn effective(&self, table: &toml::Table) -> toml::Table {
        section::effective::<R::Config>(table)
    }

    fn launch(&self, table: toml::Table, ctx: Context) -> BoxFuture<'static, anyhow::Result<()>> {
        async move {
            let config = section::parse::<R::Config>(&table).map_err(|errors| {
                anyhow::anyhow!("section [{}]: {}", R::NAME, crate::config::ConfigErrors(errors))
            })?;
            R::start(config, ctx).await
        }
        .boxed()
    }
}
