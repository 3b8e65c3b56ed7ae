//! keelson-schemas
pub mod alerting;
pub mod codec;
pub mod dead_letter;
pub mod envelope;
pub mod histogram;
pub mod id;
pub mod limits;
pub mod message;
pub mod operation;
pub mod slice;
pub mod subject;
pub mod telemetry;
pub mod totals;
