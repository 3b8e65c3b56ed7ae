//! Alertmanager's API v2 (github.com/prometheus/alertmanager, `api/v2/openapi.yaml` of 0.25): its shapes, its filters, and how what Keelson knows
//! is said in them. Pure; the routes are in `api/alertmanager.rs`.

pub mod filter;
pub mod shape;

pub use filter::{AlertFilter, BadMatcher, SilenceFilter};
