//! A command's way: record asked, effect had, record ended, message acknowledged; in this order, since a crash may come anywhere.

use std::sync::Mutex;

use keelson_schemas::operation::State;
use keelson_schemas::{id, subject};
use serde_json::Value;
use tracing::{Span, debug, info, warn};

use super::{Attempt, Commands};
use crate::bus::{ApiError, Bus};
use crate::consume::{Burial, BurialKind, Delivery, Handler};
use crate::failure::Failure;
use crate::fault;
use crate::incoming::Stored;
use crate::operations::Operations;
use crate::operations::life::{Beginning, Claim};

/// Handles the commands of one worker.
pub(super) struct Obey {
    bus: Bus,
    operations: Operations,
    commands: Commands,
}

impl Obey {
    pub(super) fn new(bus: &Bus, commands: Commands) -> Self {
        Self { bus: bus.clone(), operations: bus.operations(), commands }
    }

    async fn begin(&self, id: &str, delivery: &Delivery, repeatable: bool) -> Result<Beginning, Failure> {
        let subject = delivery.message.subject();
        let (worker, verb) = subject::parse_cmd(subject).unwrap_or_default();
        let claim =
            Claim { id, kind: &format!("{worker}.{verb}"), subject, carrier: &delivery.place(), repeatable };
        Ok(self.operations.begin(id, &claim).await?)
    }

    async fn run(
        &self,
        id: &str,
        delivery: &Delivery,
        number: u32,
        requested_by: String,
    ) -> Result<Value, Failure> {
        let attempt = Attempt {
            operation: id.to_owned(),
            number,
            requested_by,
            operations: self.operations.clone(),
            last_progress: Mutex::default(),
        };
        self.commands.handler(verb(delivery))?.run(&delivery.message, &attempt).await
    }

    /// Records a failure after which the command is tried again; other failures are recorded when it is buried.
    async fn note(&self, id: &str, failure: Failure) -> Failure {
        if let Failure::Retry { reason, .. } = &failure
            && let Err(error) = self.operations.attempt_failed(id, reason).await
        {
            warn!(operation.id = id, error = %error, "a failed attempt could not be noted");
        }
        failure
    }
}

impl Handler for Obey {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let id = operation_id(&self.bus, &delivery.stream, &delivery.message).await?;
        Span::current().record("operation.id", &id);
        let repeatable = self.commands.handler(verb(delivery)).map_or(true, |handler| handler.repeatable());
        let (attempt, requested_by) = match self.begin(&id, delivery, repeatable).await? {
            Beginning::Run { attempt, requested_by } => (attempt, requested_by),
            Beginning::Over(state) => {
                debug!(operation.id = %id, operation.state = ?state, "a command came again after its end");
                return Ok(());
            }
            Beginning::Duplicate => {
                info!(operation.id = %id, sequence = delivery.message.sequence, "a second message of one operation is passed over");
                return Ok(());
            }
            Beginning::Unknown => {
                return Err(Failure::unknown("the worker stopped in the midst of an earlier attempt"));
            }
        };
        fault::point("command.begun");
        match self.run(&id, delivery, attempt, requested_by).await {
            Ok(result) => {
                fault::point("command.effected");
                self.operations.finish(&id, State::Succeeded, Ok(result)).await?;
                fault::point("command.recorded");
                info!(operation.id = %id, operation.kind = delivery.message.subject(), "a command was obeyed");
                Ok(())
            }
            Err(Failure::Decline { reason }) => {
                info!(operation.id = %id, operation.kind = delivery.message.subject(), reason, "a command was declined");
                Ok(self.operations.finish(&id, State::Rejected, Err(reason)).await?)
            }
            Err(failure) => Err(self.note(&id, failure).await),
        }
    }

    async fn buried(&self, delivery: &Delivery, burial: &Burial) -> Result<(), Failure> {
        let id = operation_id(&self.bus, &delivery.stream, &delivery.message).await?;
        // A command that crashed its worker before its record was made has none yet.
        if self.operations.record(&id).await?.is_none() {
            self.begin(&id, delivery, true).await?;
        }
        let state = match burial.kind {
            BurialKind::Rejected => State::Rejected,
            BurialKind::Exhausted | BurialKind::Crashed => State::Failed,
            BurialKind::Unknown => State::Unknown,
        };
        Ok(self.operations.finish(&id, state, Err(burial.reason.clone())).await?)
    }
}

/// The operation that a message carries: the one it names, else one by its place on the stream.
pub(crate) async fn operation_id(bus: &Bus, stream: &str, message: &Stored) -> Result<String, ApiError> {
    match message.headers.envelope().id {
        Some(named) if is_key(&named) => Ok(named),
        Some(other) => Ok(id::derive("foreign-operation", &[&other])),
        None => Ok(id::operation_by_hand(bus.stream_info(stream).await?.created_ms, message.sequence)),
    }
}

fn verb(delivery: &Delivery) -> &str {
    subject::parse_cmd(delivery.message.subject()).map_or("", |(_, verb)| verb)
}

/// Whether a foreign id can be the key of a record as it stands.
fn is_key(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 128
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_ids_are_keys_only_when_they_are_harmless() {
        for (id, fine) in
            [("a1-b_2", true), ("", false), ("a.b", false), ("a b", false), ("ü", false), (">", false)]
        {
            assert_eq!(is_key(id), fine, "{id:?}");
        }
        assert!(!is_key(&"a".repeat(129)));
    }
}
