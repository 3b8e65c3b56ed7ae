//! The records of commands, in the bucket `operations`: made before the command is published, asked before any effect.

pub mod life;
mod submit;
mod watch;

use keelson_schemas::operation::{Operation, OperationRecord, Progress, State};
use serde_json::Value;

use crate::bus::Bus;
use crate::kv::{Entry, Kv, KvError, Watch};
use life::{Beginning, Claim};

pub use submit::{Submission, SubmitError};
pub use watch::OperationWatch;

/// The bucket.
pub const BUCKET: &str = "operations";
/// Who asked, when it is not known: anybody may publish a command by hand.
pub const UNVERIFIED: &str = "unverified";
/// Writers that meet at one record are its worker, its sweeper and its submitter; more rounds than these are not expected.
const CAS_ROUNDS: u32 = 16;

/// The records of commands.
#[derive(Debug, Clone)]
pub struct Operations {
    bus: Bus,
    kv: Kv,
}

impl Bus {
    /// The records of commands.
    pub fn operations(&self) -> Operations {
        Operations { bus: self.clone(), kv: self.kv(BUCKET) }
    }
}

impl Operations {
    /// An operation as everyone may see it.
    pub async fn get(&self, id: &str) -> Result<Option<Operation>, KvError> {
        Ok(self.record(id).await?.map(|entry| entry.value.operation))
    }

    /// The newest state of up to `limit` operations, most recently changed first. Reads all records: for people, not for
    /// programs.
    pub async fn list(&self, limit: usize) -> Result<Vec<Operation>, KvError> {
        const MOST: usize = 100_000;
        let entries = self.kv.list(">", MOST).await?;
        let newest = entries.into_iter().rev().take(limit);
        let decoded = newest.filter_map(|(_, entry)| decode(&entry.value));
        Ok(decoded.map(|record| record.operation).collect())
    }

    /// Says how far a running operation is. What is over stays as it is.
    pub async fn progress(&self, id: &str, progress: Progress) -> Result<(), KvError> {
        let now = self.bus.timestamp();
        self.change(id, |record| life::progressed(record, progress.clone(), now)).await
    }

    pub(crate) async fn record(&self, id: &str) -> Result<Option<Entry<OperationRecord>>, KvError> {
        self.kv.get(id).await
    }

    /// Asks the record, before any effect, whether the effect is to be had.
    pub(crate) async fn begin(&self, id: &str, claim: &Claim<'_>) -> Result<Beginning, KvError> {
        let mut round = 0;
        loop {
            round += 1;
            let found = self.record(id).await?;
            let revision = found.as_ref().map(|entry| entry.revision);
            let (beginning, write) = life::begin(found.map(|entry| entry.value), claim, self.bus.timestamp());
            let Some(write) = write else { return Ok(beginning) };
            let written = match revision {
                Some(revision) => self.kv.update(id, &write, revision).await,
                None => self.kv.create(id, &write).await,
            };
            match written {
                Err(KvError::Conflict { .. }) if round < CAS_ROUNDS => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(beginning),
            }
        }
    }

    /// Notes that an attempt failed and another will follow.
    pub(crate) async fn attempt_failed(&self, id: &str, reason: &str) -> Result<(), KvError> {
        let now = self.bus.timestamp();
        self.change(id, |record| life::attempt_failed(record, reason, now)).await
    }

    /// Ends an operation. One that is over stays as it is.
    pub(crate) async fn finish(
        &self,
        id: &str,
        state: State,
        end: Result<Value, String>,
    ) -> Result<(), KvError> {
        let now = self.bus.timestamp();
        self.change(id, |record| life::finished(record, state, end.clone(), now)).await
    }

    /// Changes a record by compare-and-set; `change` gives None where nothing is to be changed.
    pub(crate) async fn change(
        &self,
        id: &str,
        change: impl Fn(OperationRecord) -> Option<OperationRecord>,
    ) -> Result<(), KvError> {
        let mut round = 0;
        loop {
            round += 1;
            let Some(found) = self.record(id).await? else { return Ok(()) };
            let Some(next) = change(found.value) else { return Ok(()) };
            match self.kv.update(id, &next, found.revision).await {
                Err(KvError::Conflict { .. }) if round < CAS_ROUNDS => {}
                done => return done.map(drop),
            }
        }
    }

    /// Every record, and every change of one.
    pub(crate) fn watch_all(&self) -> Watch {
        self.kv.watch(">")
    }
}

/// A record, or None for what is none: one bad value must not hide the others.
pub(crate) fn decode(value: &[u8]) -> Option<OperationRecord> {
    keelson_schemas::codec::decode(None, value).ok()
}
