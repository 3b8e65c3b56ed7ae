//! What this part of the worker can be told to do: to silence, to end a silence, and to try a delivery again.

use std::sync::Arc;

use keelson_kit::clock::Clock;
use keelson_kit::command::{Attempt, CommandHandler};
use keelson_kit::failure::Failure;
use keelson_kit::kv::{Entry, Kv, KvError};
use keelson_kit::role::Context;
use keelson_schemas::alerting::{ExpireSilence, Notify, SetSilence, Silence};
use serde::Serialize;
use tokio::sync::watch;

use crate::loaded::Loaded;
use crate::silences::{self, change};

/// Obeys `keelson.cmd.alerting.silence`. The operation's result is the silence.
pub struct SetSilenceHandler(Kept);

/// Obeys `keelson.cmd.alerting.expire-silence`. The operation's result is the silence.
pub struct ExpireSilenceHandler(Kept);

/// Obeys `keelson.cmd.alerting.notify`, which comes from dead letters only.
pub struct NotifyHandler {
    loaded: watch::Receiver<Arc<Loaded>>,
}

/// The operation's result.
#[derive(Debug, Serialize)]
pub struct Notified {
    /// Who was told.
    pub receiver: String,
    /// In which way.
    pub integration: String,
}

impl SetSilenceHandler {
    /// On the context's bus.
    #[must_use]
    pub fn new(ctx: &Context) -> Self {
        Self(Kept::new(ctx))
    }

    /// Whether a command can be obeyed as things stand.
    ///
    /// # Errors
    /// What is wrong with it, or that it cannot be known now.
    pub async fn check(&self, command: &SetSilence) -> Result<(), Failure> {
        let former = self.former(command).await?.map(|former| former.value);
        let asking = change::Asking { operation: "", requested_by: "", now_ms: self.0.clock.now_ms() };
        change::set(command, former, &asking).map(drop).map_err(Failure::decline)
    }

    async fn former(&self, command: &SetSilence) -> Result<Option<Entry<Silence>>, Failure> {
        match &command.id {
            Some(id) => self.0.find(id).await.map(Some),
            None => Ok(None),
        }
    }
}

impl CommandHandler for SetSilenceHandler {
    type Command = SetSilence;
    type Outcome = Silence;

    /// First the new silence, then the end of the one it replaces: nothing gets through in between. A second attempt finds the new one, which has an id that follows
    /// from the operation.
    async fn run(&self, command: SetSilence, attempt: &Attempt) -> Result<Silence, Failure> {
        let former = self.former(&command).await?;
        let asking = change::Asking {
            operation: &attempt.operation,
            requested_by: &attempt.requested_by,
            now_ms: self.0.clock.now_ms(),
        };
        let revision = former.as_ref().map(|former| former.revision);
        let setting =
            change::set(&command, former.map(|former| former.value), &asking).map_err(Failure::decline)?;
        let silence = match revision.filter(|_| command.id.as_deref() == Some(&setting.silence.id)) {
            Some(revision) => self.0.update(setting.silence, revision).await?,
            None => self.0.create(setting.silence).await?,
        };
        if let (Some(ended), Some(revision)) = (setting.ended, revision) {
            self.0.update(ended, revision).await?;
        }
        Ok(silence)
    }
}

impl ExpireSilenceHandler {
    /// On the context's bus.
    #[must_use]
    pub fn new(ctx: &Context) -> Self {
        Self(Kept::new(ctx))
    }

    /// Whether the silence exists. One that is over may be ended again.
    ///
    /// # Errors
    /// It cannot be known now.
    pub async fn check(&self, command: &ExpireSilence) -> Result<bool, Failure> {
        Ok(self.0.look(&command.id).await?.is_some())
    }
}

impl CommandHandler for ExpireSilenceHandler {
    type Command = ExpireSilence;
    type Outcome = Silence;

    async fn run(&self, command: ExpireSilence, _attempt: &Attempt) -> Result<Silence, Failure> {
        let found = self.0.find(&command.id).await?;
        let ended = change::ended(found.value.clone(), self.0.clock.now_ms());
        if ended == found.value {
            return Ok(ended);
        }
        Ok(self.0.update(ended, found.revision).await?)
    }
}

impl NotifyHandler {
    /// To the receivers that were last loaded.
    #[must_use]
    pub fn new(loaded: watch::Receiver<Arc<Loaded>>) -> Self {
        Self { loaded }
    }
}

impl CommandHandler for NotifyHandler {
    type Command = Notify;
    type Outcome = Notified;

    async fn run(&self, command: Notify, _attempt: &Attempt) -> Result<Notified, Failure> {
        let receivers = self.loaded.borrow().receivers.clone();
        receivers.send(&command).await?;
        Ok(Notified { receiver: command.receiver, integration: command.integration })
    }
}

/// The bucket of silences.
struct Kept {
    kv: Kv,
    clock: Clock,
}

impl Kept {
    fn new(ctx: &Context) -> Self {
        Self { kv: ctx.bus.kv(silences::BUCKET), clock: ctx.clock.clone() }
    }

    async fn find(&self, id: &str) -> Result<Entry<Silence>, Failure> {
        let none = || Failure::decline(format!("there is no silence {id:?}"));
        self.look(id).await?.ok_or_else(none)
    }

    async fn look(&self, id: &str) -> Result<Option<Entry<Silence>>, KvError> {
        // What cannot be a key is none.
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Ok(None);
        }
        self.kv.get(id).await
    }

    async fn update(&self, silence: Silence, revision: u64) -> Result<Silence, KvError> {
        self.kv.update(&silence.id, &silence, revision).await?;
        Ok(silence)
    }

    /// The silence that an earlier attempt made stands.
    async fn create(&self, silence: Silence) -> Result<Silence, KvError> {
        let conflict = match self.kv.create(&silence.id, &silence).await {
            Ok(_) => return Ok(silence),
            Err(conflict @ KvError::Conflict { .. }) => conflict,
            Err(error) => return Err(error),
        };
        Ok(self.kv.get(&silence.id).await?.ok_or(conflict)?.value)
    }
}
