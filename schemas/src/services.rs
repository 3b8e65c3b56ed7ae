//! What the services worker is told and says: what is registered, how it fares, its breakers, and calls.

mod answers;
mod call;
mod commands;
mod events;

pub use answers::{
    BreakerState, BreakerStatus, FindService, Health, InstanceStatus, Lease, ServiceStatus, ServiceSummary,
    Services, ServicesHealth, Uptime,
};
pub use call::{Attempt, Body, Call, CallAnswer, CallRefusal, CallReply, RefusedBecause};
pub use commands::{Check, Deregister, Force, Register, Registered, Reset, Trip, Urls};
pub use events::{BreakerChanged, Deregistered, HealthChanged, Service, Source, Why};
