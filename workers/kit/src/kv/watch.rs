//! Watching keys: first what is there, then what changes.

use std::future::Future;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::{Entry, Kv, KvError, decode, is_deleted};
use crate::follow::{Follow, FollowError, FollowOptions, Start};
use crate::incoming::Stored;
use crate::tasks::Tasks;

/// A key that was written or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its revision.
    pub revision: u64,
    /// Its value; None when it was deleted.
    pub value: Option<Bytes>,
}

impl Change {
    /// The value, decoded; None when the key was deleted.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<Option<Entry<T>>, KvError> {
        let Some(value) = &self.value else { return Ok(None) };
        Ok(Some(Entry { revision: self.revision, value: decode(&self.key, value)? }))
    }
}

/// The keys of a filter: the newest state of each, then every change that is seen. Changes that follow each other faster than
/// the bucket keeps them may be seen as one.
pub struct Watch {
    follow: Follow,
    prefix: String,
}

impl Kv {
    /// Watches a key, or keys by wildcard (`a.*`, `>`).
    pub fn watch(&self, filter: &str) -> Watch {
        let prefix = format!("$KV.{}.", self.bucket);
        let options = FollowOptions::new(
            format!("KV_{}", self.bucket),
            format!("{prefix}{filter}"),
            Start::LastPerSubject,
        );
        Watch { follow: self.bus.follow(options), prefix }
    }

    /// Keeps a copy of the bucket up to date by handing every state and change to `take`, one after another. When this returns, all that was there has
    /// been taken; what follows is taken by a task. Should that fail, it begins anew with all that is there: by its revision `take` knows what it has had.
    pub async fn keep_up<F, Fut>(&self, tasks: &Tasks, take: F) -> Result<(), KvError>
    where
        F: Fn(Change) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut watch = self.watch(">");
        while let Some(change) = watch.next_if_any().await? {
            take(change).await;
        }
        let (mut first, kv, ended) = (Some(watch), self.clone(), tasks.clone());
        tasks.spawn(format!("copy of {}", self.bucket), move || {
            let watch = first.take().unwrap_or_else(|| kv.watch(">"));
            let (take, ended) = (take.clone(), ended.clone());
            async move {
                tokio::select! {
                    () = ended.cancelled() => Ok(()),
                    over = watch.hand_on(take) => over,
                }
            }
        });
        Ok(())
    }
}

impl Watch {
    /// The next state or change, however long that takes.
    pub async fn next(&mut self) -> Result<Change, KvError> {
        let message = self.follow.next().await;
        message.map(|message| self.change(message)).map_err(|error| self.over(&error))
    }

    /// The next state or change, or None when all there is has been seen.
    pub async fn next_if_any(&mut self) -> Result<Option<Change>, KvError> {
        let message = self.follow.next_if_any().await.map_err(|error| self.over(&error))?;
        Ok(message.map(|message| self.change(message)))
    }

    async fn hand_on<Fut: Future<Output = ()>>(mut self, take: impl Fn(Change) -> Fut) -> anyhow::Result<()> {
        loop {
            take(self.next().await?).await;
        }
    }

    fn change(&self, message: Stored) -> Change {
        let key = message.subject().strip_prefix(&self.prefix).unwrap_or(message.subject()).to_owned();
        let (revision, deleted) = (message.sequence, is_deleted(&message));
        Change { key, revision, value: (!deleted).then_some(message.payload) }
    }

    fn over(&self, error: &FollowError) -> KvError {
        KvError::Refused { key: self.prefix.clone(), reason: error.to_string() }
    }
}
