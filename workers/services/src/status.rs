//! How services fare, put together from what is registered, found, and open.

use std::sync::atomic::Ordering;

use jiff::Timestamp;
use keelson_schemas::services::{Health, InstanceStatus, Lease, ServiceStatus, Services, ServicesHealth};

use crate::directory::{Directory, Instance, Known};
use crate::health::Found;

/// All services.
#[must_use]
pub fn of_all(directory: &Directory, now_ms: u64) -> Services {
    let services = directory.services();
    Services { services: services.iter().map(|known| of(directory, known, now_ms)).collect() }
}

/// All services, in short.
#[must_use]
pub fn in_short(directory: &Directory, now_ms: u64) -> ServicesHealth {
    let services: Vec<_> = of_all(directory, now_ms).services.iter().map(ServiceStatus::summary).collect();
    ServicesHealth { health: Health::of_parts(services.iter().map(|service| service.health)), services }
}

/// One of them.
#[must_use]
pub fn of(directory: &Directory, known: &Known, now_ms: u64) -> ServiceStatus {
    let service = &known.service;
    let found = directory.health(&service.name).record;
    let instances: Vec<InstanceStatus> = known
        .instances
        .iter()
        .map(|instance| of_instance(instance, found.instances.get(&instance.url), now_ms))
        .collect();
    let heard = directory.heard(&service.name);
    ServiceStatus {
        name: service.name.clone(),
        health: Health::of_parts(instances.iter().map(|instance| instance.health)),
        breaker: known.breaker.status(),
        instances,
        health_path: service.health.clone(),
        allow: service.allow.clone(),
        lease: service
            .lease_ms
            .map(|ms| Lease { seconds: ms as f64 / 1e3, heard_at: heard.and_then(|(_, at_ms)| at(at_ms)) }),
        source: service.source,
        registered_by: service.registered_by.clone(),
        registered_at: at(service.registered_at_ms),
    }
}

fn of_instance(instance: &Instance, found: Option<&Found>, now_ms: u64) -> InstanceStatus {
    let checked = found.filter(|found| found.checked_at_ms > 0);
    InstanceStatus {
        url: instance.url.clone(),
        health: found.map_or_else(Health::default, |found| found.health),
        since: found.and_then(|found| at(found.since_ms)),
        reason: found.and_then(|found| found.reason.clone()),
        checked_at: checked.and_then(|found| at(found.checked_at_ms)),
        latency_ms: checked.map(|found| found.latency_us as f64 / 1e3),
        certificate_ends: checked.and_then(|found| at(found.certificate_ends_ms?)),
        breaker: instance.breaker.status(),
        outstanding: instance.outstanding.load(Ordering::Relaxed),
        uptime: found.map(|found| found.history.uptime(now_ms)).unwrap_or_default(),
    }
}

fn at(ms: u64) -> Option<Timestamp> {
    let ms = i64::try_from(ms).ok().filter(|ms| *ms > 0)?;
    Timestamp::from_millisecond(ms).ok()
}
