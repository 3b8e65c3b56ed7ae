//! The caretaker of the bus: what belongs to no worker in particular.
//!
//! Consumes: `keelson.cmd.steward.>`, the server's advisories, the bucket `operations`; answers `keelson.qry.steward.dead-letters`.
//! Publishes: dead letters, and again what was accepted or is redriven.
//! Keeps: nothing of its own.
//! On failure: another steward, or this one later, finds the same things undone and does them under the same ids.

mod advisories;
mod config;
mod redrive;
mod sweep;

use keelson_bus_config::BusConfig;
use keelson_schemas::dead_letter::{DeadLetters, ListDeadLetters};

use crate::bus::Bus;
use crate::command::Commands;
use crate::config::ConfigError;
use crate::consume::ConsumeOptions;
use crate::query::{Queries, Refusal};
use crate::role::{Context, Role};

pub use config::StewardConfig;
pub use redrive::Redriven;

/// The most dead letters in one answer.
const MAX_LISTED: u32 = 1000;

/// The role `steward`.
pub struct Steward;

impl Role for Steward {
    const NAME: &'static str = "steward";
    const SUMMARY: &'static str =
        "Takes care of the bus: publishes again what was accepted, collects dead letters, redrives them";
    type Config = StewardConfig;

    fn validate(config: &StewardConfig) -> Vec<ConfigError> {
        config.validate()
    }

    async fn start(config: StewardConfig, ctx: Context) -> anyhow::Result<()> {
        let data = BusConfig::load()?;
        let missing = || anyhow::anyhow!("bus-config has no consumer {:?}", advisories::CONSUMER);
        let spec = data.consumer(advisories::CONSUMER).ok_or_else(missing)?.clone();
        let options = ConsumeOptions { max_failures: u32::MAX, ..ConsumeOptions::default() };
        ctx.tasks.consume(&ctx.bus, spec, options, advisories::Collector::new(&ctx.bus));
        sweep::spawn(&ctx, config);
        ctx.answer(queries(&ctx.bus)).await?;
        ctx.obey(Commands::of(Self::NAME).with(redrive::RedriveHandler::new(&ctx.bus)))
    }
}

fn queries(bus: &Bus) -> Queries {
    let bus = bus.clone();
    Queries::of(Steward::NAME).with("dead-letters", move |question: Option<ListDeadLetters>| {
        let bus = bus.clone();
        async move { list(&bus, &question.unwrap_or_default()).await }
    })
}

async fn list(bus: &Bus, question: &ListDeadLetters) -> Result<DeadLetters, Refusal> {
    let letters = bus.dead_letters(question.after, question.limit.min(MAX_LISTED) as usize).await;
    letters.map(|letters| DeadLetters { letters }).map_err(|error| Refusal::new(404, error.to_string()))
}
