//! How registered services stand: their instances and their breakers.

use keelson_schemas::services::{BreakerState, ServiceSummary, ServicesHealth};

use super::super::export::label;
use crate::exposition::{Family, Kind, Value};

/// A gauge of a service.
type OfService = (&'static str, &'static str, fn(&ServiceSummary) -> u64);

const OF_SERVICE: [OfService; 2] = [
    ("keelson_service_instances", "Instances of a registered service.", |service| service.instances),
    (
        "keelson_service_instances_up",
        "Instances of a registered service that checks found to be well.",
        |service| service.up,
    ),
];

const STATES: [BreakerState; 3] = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];

/// As metric families.
pub fn families(known: &ServicesHealth) -> Vec<Family> {
    let mut breakers = Family::new(
        "keelson_breaker_state",
        Kind::Gauge,
        "The breaker of a registered service: 1 for the state that it is in, 0 for the others.",
    );
    for service in &known.services {
        for state in STATES {
            let labels = vec![label("service_name", &service.name), label("state", state.name())];
            breakers.push(labels, Value::Gauge(f64::from(u8::from(service.breaker == state))));
        }
    }
    let gauges = OF_SERVICE.into_iter().map(|(name, help, read)| {
        let mut family = Family::new(name, Kind::Gauge, help);
        for service in &known.services {
            family.push(vec![label("service_name", &service.name)], Value::Gauge(read(service) as f64));
        }
        family
    });
    gauges.chain([breakers]).collect()
}
