//! Workers, asked: how things stand, and whether a command has a meaning. What they are told to do goes over [`crate::command`].

use std::time::Duration;

use keelson_kit::bus::Bus;
use keelson_kit::query::{AskError, Refusal};
use keelson_schemas::message::Command;
use keelson_schemas::subject;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::{Kind, Problem};

/// How long a worker has to answer: longer than its leases take to change hands.
const WITHIN: Duration = Duration::from_secs(6);
/// How long it has to say whether it would obey a command. Without an answer the command is accepted, and ends rejected if it must.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

/// Asks the replica of a worker that owns what is asked about.
///
/// # Errors
/// 503 when it does not answer.
pub async fn owner<A: DeserializeOwned>(bus: &Bus, worker: &str, noun: &str) -> Result<A, Problem> {
    let answer = bus.ask_owner(&subject::qry(worker, noun), &(), WITHIN).await;
    answer.map_err(|error| unanswered(worker, error))
}

/// Asks any replica of a worker.
///
/// # Errors
/// 503 when none answers, 422 when the question has no meaning.
pub async fn any<Q: Serialize, A: DeserializeOwned>(
    bus: &Bus,
    worker: &str,
    noun: &str,
    question: &Q,
) -> Result<A, Problem> {
    within(bus, worker, noun, question, WITHIN).await
}

/// [`any`], of what takes its time.
///
/// # Errors
/// As [`any`].
pub async fn within<Q: Serialize, A: DeserializeOwned>(
    bus: &Bus,
    worker: &str,
    noun: &str,
    question: &Q,
    within: Duration,
) -> Result<A, Problem> {
    let answer = bus.ask(&subject::qry(worker, noun), question, within).await;
    answer.map_err(|error| unanswered(worker, error))
}

/// Asks whether a command has a meaning, before it is accepted: `keelson.qry.<worker>.check.<verb>`. That nobody answers is no objection.
///
/// # Errors
/// 400 or 422 with what is wrong, 404 when there is nothing that it could be about.
pub async fn check<C: Command + Serialize>(bus: &Bus, command: &C) -> Result<(), Problem> {
    let subject = subject::qry(C::WORKER, &format!("check.{}", C::VERB));
    match bus.ask::<C, serde::de::IgnoredAny>(&subject, command, CHECK_WITHIN).await {
        Err(AskError::Refused(refusal)) if refusal.status < 500 => Err(refused(refusal)),
        _ => Ok(()),
    }
}

fn refused(refusal: Refusal) -> Problem {
    let kind = match refusal.status {
        404 => Kind::NotFound,
        422 => Kind::InvalidField,
        _ => Kind::Rejected,
    };
    Problem::new(kind, refusal.reason)
}

fn unanswered(worker: &str, error: AskError) -> Problem {
    let advice = match &error {
        AskError::Unavailable => {
            return Problem::new(Kind::BusUnavailable, format!("{error}: ask again later"));
        }
        AskError::Refused(refusal) if refusal.status < 500 => return refused(refusal.clone()),
        AskError::Refused(refusal) => return Problem::new(Kind::NoAnswer, refusal.reason.clone()),
        AskError::NoResponder { .. } => format!("is the {worker} worker running (`keelson run {worker}`)?"),
        _ => "it may be changing hands: ask again".to_owned(),
    };
    Problem::new(Kind::NoAnswer, format!("the {worker} worker does not answer: {error}; {advice}"))
}
