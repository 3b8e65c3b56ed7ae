//! The alerting worker, asked.

pub mod view;

use keelson_kit::bus::Bus;
use serde::de::DeserializeOwned;

use crate::ask;
use crate::problem::Problem;

/// Asks the replica that evaluates, or the one that notifies, for `alerts`, `groups` or `rules`.
///
/// # Errors
/// 503 when it does not answer.
pub async fn ask_owner<A: DeserializeOwned>(bus: &Bus, noun: &str) -> Result<A, Problem> {
    ask::owner(bus, "alerting", noun).await
}

/// Asks any replica, for `silences`.
///
/// # Errors
/// 503 when none answers.
pub async fn ask_any<A: DeserializeOwned>(bus: &Bus, noun: &str) -> Result<A, Problem> {
    ask::any(bus, "alerting", noun, &()).await
}
