//! What was counted, asked of the owners of all partitions and put together. All or nothing: a number that lacks a partition would be
//! a smaller one, which Prometheus takes for a reset.

pub mod export;
pub mod merge;
pub mod state;
pub mod summary;

use std::time::Duration;

use futures::future::try_join_all;
use keelson_kit::bus::Bus;
use keelson_kit::query::AskError;
use keelson_schemas::subject::{self, Partition};
use serde::de::DeserializeOwned;

use crate::problem::{Kind, Problem};

/// How long the owner of a partition has to answer. Shorter than Prometheus' default timeout of a scrape (10 s), longer than a
/// partition takes to change hands.
const WITHIN: Duration = Duration::from_secs(6);

/// Asks every partition's owner for `noun` (`export`, `summary`).
///
/// # Errors
/// 503 when one of them does not answer.
pub async fn ask_all<A: DeserializeOwned>(bus: &Bus, noun: &str) -> Result<Vec<A>, Problem> {
    try_join_all(Partition::all().map(|partition| ask(bus, noun, partition))).await
}

async fn ask<A: DeserializeOwned>(bus: &Bus, noun: &str, partition: Partition) -> Result<A, Problem> {
    let subject = subject::qry("metrics", &format!("{noun}.{partition}"));
    bus.ask_owner(&subject, &(), WITHIN).await.map_err(|error| unanswered(partition, &error))
}

fn unanswered(partition: Partition, error: &AskError) -> Problem {
    let (kind, advice) = match error {
        AskError::Unavailable => (Kind::BusUnavailable, "ask again later"),
        AskError::NoResponder { .. } => {
            (Kind::NoAnswer, "is the metrics worker running (`keelson run metrics`)?")
        }
        _ => (Kind::NoAnswer, "it may be changing hands: ask again"),
    };
    Problem::new(
        kind,
        format!(
            "the owner of partition {partition} does not answer, and a sum without it would be wrong: {error}; {advice}"
        ),
    )
}
