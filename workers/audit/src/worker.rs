//! The role: one replica seals, by a lease.

use std::future::ready;

use keelson_kit::config::ConfigError;
use keelson_kit::lease::{GroupSpec, Owned, Timing};
use keelson_kit::query::Queries;
use keelson_kit::role::{Context, Role};
use tokio::sync::watch;
use tracing::info;

use crate::chain::Chain;
use crate::config::{AuditConfig, ENV};
use crate::key;
use crate::sealer::Sealer;

/// The audit worker.
pub struct Audit;

impl Role for Audit {
    const NAME: &'static str = "audit";
    const SUMMARY: &'static str =
        "seals what was commanded and what happened, so that it can be proven to be what it was";
    type Config = AuditConfig;

    fn env() -> &'static [(&'static str, &'static str)] {
        ENV
    }

    fn validate(config: &Self::Config) -> Vec<ConfigError> {
        config.errors()
    }

    async fn start(config: Self::Config, ctx: Context) -> anyhow::Result<()> {
        let dir = ctx.config.dir();
        let (key, mut trusted) = (config.signer(&dir)?, config.trusted(&dir)?);
        match &key {
            Some(key) => info!(key = key::text(key.verifying_key().as_bytes()), "the audit trail is signed"),
            None => {
                info!("the audit trail is sealed, and not signed: there is no audit.key");
                // Who signs nothing goes on with a chain that nobody signs; the verifier says so.
                trusted.clear();
            }
        }
        let owned = Owned::default();
        let seal_every = config.seal_every.0;
        let sealer = Sealer { ctx: ctx.clone(), key, trusted, seal_every, owned: owned.clone() };
        ctx.answer(queries(owned)).await?;
        let keys = vec!["sealer".to_owned()];
        let spec = GroupSpec { name: Self::NAME.to_owned(), keys, timing: Timing::default() };
        ctx.own(spec, move |lease| sealer.clone().run(lease));
        Ok(())
    }
}

/// How far the trail is sealed, which its sealer knows.
fn queries(owned: Owned<watch::Receiver<Chain>>) -> Queries {
    Queries::of(Audit::NAME).exclusive("status", move |()| {
        ready(Ok(owned.answer(0, |chain: &watch::Receiver<Chain>, _| Some(chain.borrow().status()))))
    })
}
