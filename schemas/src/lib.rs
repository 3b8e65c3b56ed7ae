//! keelson-schemas
pub mod histogram;
pub mod limits;
pub mod slice;
pub mod telemetry;
pub mod totals;
