//! Micro services on the bus: who answers `$SRV.INFO` is registered, and stays for as long as he answers, by a lease.
//!
//! One replica asks. Each micro service is one entry, however many instances it has, and is well when one of them answers `$SRV.PING.<name>`. Keelson's own
//! workers are left out: that they answer is looked at elsewhere. What somebody else registered under a name stays.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use keelson_kit::lease::Lease;
use keelson_kit::role::Context;
use keelson_schemas::services::{Register, Service, Source, Urls};
use serde::Deserialize;
use tracing::{debug, info, warn};

use crate::commands::Desk;
use crate::config::DiscoveryConfig;
use crate::registration;
use crate::registry::RegisterError;

/// Where all micro services of a bus answer, each of its instances for itself.
const EVERYBODY: &str = "$SRV.INFO";
/// How long they have for that.
const WITHIN: Duration = Duration::from_secs(1);
/// Instances that are listened to.
const MOST_ANSWERS: usize = 4_096;
/// What the names of Keelson's own begin with.
const OURS: &str = "keelson-";
/// How often a lease is renewed while it runs.
const RENEWALS: u32 = 3;

/// Who asks. Cheap to clone.
#[derive(Clone)]
pub struct Discoverer {
    /// The way to the bus, and the time.
    pub ctx: Context,
    /// Who registers.
    pub desk: Desk,
}

/// The part of an answer that is read.
#[derive(Deserialize)]
struct Info {
    name: String,
}

impl Discoverer {
    /// Asks until the lease is over.
    ///
    /// # Errors
    /// None: what cannot be registered now is tried again.
    pub async fn run(self, lease: Lease) -> anyhow::Result<()> {
        let mut passed_over = HashSet::new();
        loop {
            tokio::select! {
                biased;
                () = lease.over(&self.ctx.tasks) => return Ok(()),
                () = self.look(&mut passed_over) => {}
            }
            tokio::select! {
                biased;
                () = lease.over(&self.ctx.tasks) => return Ok(()),
                () = self.ctx.clock.sleep(self.config().interval.0) => {}
            }
        }
    }

    /// `passed_over` has the names that it was said of why they are not registered.
    async fn look(&self, passed_over: &mut HashSet<String>) {
        let answers = match self.ctx.bus.ask_all(EVERYBODY, WITHIN, MOST_ANSWERS).await {
            Ok(answers) => answers,
            Err(error) => return debug!(%error, "the micro services on the bus cannot be asked"),
        };
        let names = names(&answers);
        passed_over.retain(|name| names.contains(name));
        for name in names {
            match self.found(&name).await {
                Ok(true) => info!(service = name, "a micro service on the bus is registered"),
                Ok(false) => {}
                Err(RegisterError::Kv(error)) => {
                    warn!(service = name, %error, "a micro service on the bus cannot be registered yet");
                }
                Err(error) => {
                    if passed_over.insert(name.clone()) {
                        info!(service = name, %error, "a micro service on the bus is not registered");
                    }
                }
            }
        }
    }

    /// Registers one that was found, or renews its lease; whether that changed anything.
    async fn found(&self, name: &str) -> Result<bool, RegisterError> {
        let service = self.service(name).map_err(RegisterError::Unfit)?;
        if self.is_fresh(&service) {
            return Ok(false);
        }
        self.desk.registry.by_itself(&service).await
    }

    /// A micro service as it is registered.
    fn service(&self, name: &str) -> Result<Service, String> {
        let register = Register {
            name: name.to_owned(),
            url: Urls::One(format!("nats://$SRV.PING.{name}")),
            ..Register::default()
        };
        Ok(Service {
            lease_ms: u64::try_from(self.config().lease.0.as_millis()).ok(),
            source: Source::Bus,
            registered_by: "bus".to_owned(),
            registered_at_ms: self.ctx.clock.now_ms(),
            ..registration::read(&register, &self.desk.config.check, self.desk.rules)?
        })
    }

    /// Whether it is registered so, and was heard of a short while ago.
    fn is_fresh(&self, service: &Service) -> bool {
        let directory = &self.desk.registry.directory;
        let is_known = directory.service(&service.name).is_some_and(|known| known.service.is_like(service));
        let heard = directory.heard(&service.name).map(|(at, _)| self.ctx.clock.now() - at);
        is_known && heard.is_some_and(|since| since < self.config().lease.0 / RENEWALS)
    }

    fn config(&self) -> &DiscoveryConfig {
        &self.desk.config.discovery
    }
}

/// The names in what was answered, but for Keelson's own. What is no answer of a micro service is passed over.
fn names(answers: &[impl AsRef<[u8]>]) -> BTreeSet<String> {
    let read = answers.iter().filter_map(|answer| serde_json::from_slice::<Info>(answer.as_ref()).ok());
    read.map(|info| info.name).filter(|name| !name.starts_with(OURS)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_that_is_not_our_own_is_found_once() {
        let answers = [
            r#"{"type":"io.nats.micro.v1.info_response","name":"search","id":"1","version":"1.0.0","endpoints":[]}"#,
            r#"{"name":"search","id":"2"}"#,
            r#"{"name":"keelson-metrics","id":"3"}"#,
            r#"{"name":"audio","id":"4"}"#,
            r#"{"name":7}"#,
            "garbage",
            "",
        ];
        let found = names(&answers);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["audio", "search"]);
    }
}
