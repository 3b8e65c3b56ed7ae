//! The alerting worker, asked: what stands how. What it is told to do goes over [`crate::command`].

pub mod view;

use std::time::Duration;

use keelson_kit::bus::Bus;
use keelson_kit::query::{AskError, Refusal};
use keelson_schemas::message::Command;
use keelson_schemas::subject;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::{Kind, Problem};

/// How long the worker has to answer: longer than its leases take to change hands.
const WITHIN: Duration = Duration::from_secs(6);
/// How long it has to say whether it would obey a command. Without an answer the command is accepted, and ends rejected if it must.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

/// Asks the replica that evaluates, or the one that notifies, for `alerts`, `groups` or `rules`.
///
/// # Errors
/// 503 when it does not answer.
pub async fn ask_owner<A: DeserializeOwned>(bus: &Bus, noun: &str) -> Result<A, Problem> {
    let answer = bus.ask_owner(&subject::qry("alerting", noun), &(), WITHIN).await;
    answer.map_err(unanswered)
}

/// Asks any replica, for `silences`.
///
/// # Errors
/// 503 when none answers.
pub async fn ask_any<A: DeserializeOwned>(bus: &Bus, noun: &str) -> Result<A, Problem> {
    let answer = bus.ask(&subject::qry("alerting", noun), &(), WITHIN).await;
    answer.map_err(unanswered)
}

/// Asks whether a command has a meaning, before it is accepted: `keelson.qry.<worker>.check.<verb>`. That nobody answers is no objection.
///
/// # Errors
/// 400 with what is wrong, 404 when there is nothing that it could be about.
pub async fn check<C: Command + Serialize>(bus: &Bus, command: &C) -> Result<(), Problem> {
    let subject = subject::qry(C::WORKER, &format!("check.{}", C::VERB));
    match bus.ask::<C, serde::de::IgnoredAny>(&subject, command, CHECK_WITHIN).await {
        Err(AskError::Refused(Refusal { status: status @ 400..=499, reason })) => {
            let kind = if status == 404 { Kind::NotFound } else { Kind::Rejected };
            Err(Problem::new(kind, reason))
        }
        _ => Ok(()),
    }
}

fn unanswered(error: AskError) -> Problem {
    let advice = match &error {
        AskError::Unavailable => {
            return Problem::new(Kind::BusUnavailable, format!("{error}: ask again later"));
        }
        AskError::NoResponder { .. } => "is the alerting worker running (`keelson run alerting`)?",
        _ => "it may be changing hands: ask again",
    };
    Problem::new(Kind::NoAnswer, format!("the alerting worker does not answer: {error}; {advice}"))
}
