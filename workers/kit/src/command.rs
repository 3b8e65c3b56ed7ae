//! Commands: what a worker is asked to do. Every command is an operation; its record is asked before any effect, and ends in a
//! final state whatever happens.
//!
//! A worker has one durable consumer for all its commands, so that a verb it does not know is rejected instead of lying there.

mod attempt;
mod obey;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use keelson_bus_config::BusConfig;
use keelson_schemas::message::Command;
use serde::Serialize;
use serde_json::Value;

use crate::consume::ConsumeOptions;
use crate::failure::Failure;
use crate::incoming::Stored;
use crate::role::Context;
use obey::Obey;

pub use attempt::Attempt;
pub(crate) use obey::operation_id;

/// Obeys one type of command.
pub trait CommandHandler: Send + Sync + 'static {
    /// The command.
    type Command: Command;
    /// What it gives: the operation's `result`, at most a few hundred kilobytes as JSON.
    type Outcome: Serialize;

    /// Whether the effect may safely be had twice. If not, an attempt in whose midst the worker crashed leaves the operation
    /// `unknown`; a [`Failure::Retry`] from the handler still means that it may be tried again.
    const REPEATABLE: bool = true;

    /// Has the effect, durably, before it returns.
    fn run(
        &self,
        command: Self::Command,
        attempt: &Attempt,
    ) -> impl Future<Output = Result<Self::Outcome, Failure>> + Send;
}

/// The commands of one worker.
pub struct Commands {
    worker: &'static str,
    options: ConsumeOptions,
    handlers: BTreeMap<&'static str, Arc<dyn AnyHandler>>,
}

impl Commands {
    /// The commands of `worker`, none so far.
    pub fn of(worker: &'static str) -> Self {
        Self { worker, options: ConsumeOptions::default(), handlers: BTreeMap::new() }
    }

    /// With other options than the default ones.
    #[must_use]
    pub fn options(mut self, options: ConsumeOptions) -> Self {
        self.options = options;
        self
    }

    /// And this one.
    #[must_use]
    pub fn with<H: CommandHandler>(mut self, handler: H) -> Self {
        self.handlers.insert(H::Command::VERB, Arc::new(handler));
        self
    }

    fn handler(&self, verb: &str) -> Result<&Arc<dyn AnyHandler>, Failure> {
        self.handlers.get(verb).ok_or_else(|| {
            let known: Vec<_> = self.handlers.keys().copied().collect();
            Failure::reject(format!("{} knows no command {verb:?}, only {}", self.worker, known.join(", ")))
        })
    }
}

impl Context {
    /// Obeys the commands of a worker from its durable consumer, which bus-config names like the worker.
    pub fn obey(&self, commands: Commands) -> anyhow::Result<()> {
        let config = BusConfig::load()?;
        let missing = || anyhow::anyhow!("bus-config has no consumer {:?} on COMMANDS", commands.worker);
        let spec = config.consumer(commands.worker).ok_or_else(missing)?.clone();
        let options = commands.options;
        self.tasks.consume(&self.bus, spec, options, Obey::new(&self.bus, commands));
        Ok(())
    }
}

/// A [`CommandHandler`] without its types.
trait AnyHandler: Send + Sync {
    fn repeatable(&self) -> bool;
    fn run<'a>(&'a self, message: &'a Stored, attempt: &'a Attempt) -> BoxFuture<'a, Result<Value, Failure>>;
}

impl<H: CommandHandler> AnyHandler for H {
    fn repeatable(&self) -> bool {
        H::REPEATABLE
    }

    fn run<'a>(&'a self, message: &'a Stored, attempt: &'a Attempt) -> BoxFuture<'a, Result<Value, Failure>> {
        async move {
            let command: H::Command = message.decode()?;
            let outcome = CommandHandler::run(self, command, attempt).await?;
            serde_json::to_value(outcome)
                .map_err(|error| Failure::unknown(format!("it was done, but its result is no JSON: {error}")))
        }
        .boxed()
    }
}
