//! Services of several partitions as one list. A service lies in one partition, but `__overflow__` may lie in many.

use std::collections::BTreeMap;

use keelson_schemas::histogram::Histogram;
use keelson_schemas::telemetry::{DbSeries, HttpSeries};
use keelson_schemas::totals::{InstanceReading, ServiceTotals, Tally};

/// Services by name, each with its series by what they have in common.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Merged(pub BTreeMap<String, Service>);

/// One service.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Service {
    /// Its requests.
    pub http: BTreeMap<HttpSeries, Requests>,
    /// Its database calls.
    pub db: BTreeMap<DbSeries, Calls>,
    /// The newest reading of each instance's machine.
    pub hosts: BTreeMap<String, InstanceReading>,
    /// Counts about the counting.
    pub tally: Tally,
}

/// Requests, counted.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Requests {
    /// How many.
    pub count: u64,
    /// Their durations, where known.
    pub latency: Histogram,
}

/// Database calls, counted.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Calls {
    /// How many.
    pub count: u64,
    /// How many of them were slow.
    pub slow: u64,
    /// Their durations, where known.
    pub latency: Histogram,
}

/// Puts the services of all partitions together.
pub fn merge(services: impl IntoIterator<Item = ServiceTotals>) -> Merged {
    let mut merged = Merged::default();
    for totals in services {
        merged.0.entry(totals.service.clone()).or_default().add(totals);
    }
    merged
}

impl Merged {
    /// Every machine, with the name of the service that reported it.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, &InstanceReading)> {
        self.0
            .iter()
            .flat_map(|(name, service)| service.hosts.values().map(move |host| (name.as_str(), host)))
    }
}

impl Service {
    fn add(&mut self, totals: ServiceTotals) {
        for total in totals.http {
            let requests = self.http.entry(total.series).or_default();
            requests.count += total.requests;
            requests.latency.merge(&total.latency);
        }
        for total in totals.db {
            let calls = self.db.entry(total.series).or_default();
            calls.count += total.calls;
            calls.slow += total.slow;
            calls.latency.merge(&total.latency);
        }
        for host in totals.hosts {
            let known =
                self.hosts.get(&host.instance).is_some_and(|known| known.reading.ts > host.reading.ts);
            if !known {
                self.hosts.insert(host.instance.clone(), host);
            }
        }
        self.tally.add(totals.tally);
    }
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn what_lies_in_two_partitions_is_summed_and_nothing_else() {
        let one = ServiceTotals::example();
        let other = ServiceTotals { service: "other".into(), ..one.clone() };
        let mut newer = one.clone();
        newer.hosts.iter_mut().for_each(|host| host.reading.ts += 1);
        let merged = merge([newer.clone(), other, one.clone()]);
        assert_eq!(merged.0.len(), 2);
        let alone = &merged.0["other"];
        let twice = &merged.0[&one.service];
        let sum = |service: &Service| service.http.values().map(|requests| requests.count).sum::<u64>();
        assert_eq!(sum(alone), one.http.iter().map(|total| total.requests).sum::<u64>());
        assert_eq!(sum(twice), 2 * sum(alone));
        assert_eq!(twice.tally.samples, 2 * one.tally.samples);
        assert_eq!(
            twice.hosts.values().cloned().collect::<Vec<_>>(),
            newer.hosts,
            "the newest reading stays"
        );
    }
}
