//! Recovery without callers: a breaker that is half-open and called by nobody is tried with the service's own health check.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use keelson_kit::clock::Clock;
use keelson_kit::tasks::Tasks;

use crate::breaker::Ended;
use crate::breakers::{Breakers, Switch};
use crate::config::ServicesConfig;
use crate::directory::Directory;
use crate::probe::{Expected, Prober};

/// How often it is looked who is half-open.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long callers have the probes to themselves, at least; else a quarter of the time for which breakers are open.
const CALLERS_FIRST: Duration = Duration::from_secs(2);
/// Probes under way at once.
const AT_ONCE: usize = 64;

/// Who tries. Cheap to clone.
#[derive(Clone)]
pub struct Recovery {
    /// The time.
    pub clock: Clock,
    /// All breakers.
    pub breakers: Breakers,
    /// What is registered.
    pub directory: Directory,
    /// Who looks.
    pub prober: Prober,
    /// How.
    pub config: Arc<ServicesConfig>,
}

type Name = (String, Option<String>);

impl Recovery {
    /// Tries until the process ends.
    pub fn spawn(self, tasks: &Tasks) {
        let group = tasks.clone();
        tasks.spawn("recovery of breakers", move || {
            let (this, tasks) = (self.clone(), group.clone());
            async move {
                this.run(&tasks).await;
                Ok(())
            }
        });
    }

    async fn run(&self, tasks: &Tasks) {
        let mut under_way = FuturesUnordered::new();
        let mut busy: HashSet<Name> = HashSet::new();
        loop {
            tokio::select! {
                () = tasks.cancelled() => return,
                Some(name) = under_way.next() => drop(busy.remove(&name)),
                () = self.clock.sleep(LOOK_EVERY) => {
                    for switch in self.waiting() {
                        let name = name_of(&switch);
                        if busy.len() < AT_ONCE && busy.insert(name) {
                            under_way.push(self.clone().try_out(switch).boxed());
                        }
                    }
                }
            }
        }
    }

    fn waiting(&self) -> Vec<Arc<Switch>> {
        let (now, idle) = (self.clock.now(), CALLERS_FIRST.max(self.config.breaker.open_for.0 / 4));
        let mut all = self.breakers.all();
        all.retain(|switch| switch.probes_since().is_some_and(|since| now - since >= idle));
        all
    }

    async fn try_out(self, switch: Arc<Switch>) -> Name {
        let name = name_of(&switch);
        let Some(known) = self.directory.service(&name.0) else { return name };
        let wanted = |url: &str| name.1.as_deref().is_none_or(|instance| instance == url);
        let mut instances = known.instances.iter().filter(|instance| wanted(&instance.url));
        // Of a service whichever is not known to be ill, so that one that is up speaks for it.
        let well = |url: &str| {
            self.directory.with_health(&name.0, |health| {
                let found = health.and_then(|health| health.instances.get(url));
                found.is_none_or(|found| found.health != keelson_schemas::services::Health::Down)
            })
        };
        let chosen = instances.clone().find(|instance| well(&instance.url)).or_else(|| instances.next());
        let (Some(instance), Ok(permit)) = (chosen, self.breakers.admit(&switch)) else { return name };
        let expected = Expected::of(&known.service, self.config.check.timeout.0);
        let began = self.clock.now();
        let probed = self.prober.probe(&instance.target, &expected).await;
        permit.ended(Ended { failed: probed.is_err(), took: self.clock.now() - began });
        name
    }
}

fn name_of(switch: &Switch) -> Name {
    let (service, instance) = switch.of();
    (service.to_owned(), instance.map(str::to_owned))
}
