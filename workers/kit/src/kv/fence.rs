//! A key that its holders raise one after another, so that only the last of them can write what it guards ([`Kv::put_bytes_guarded`]).

use serde::{Deserialize, Serialize};

use super::{Kv, KvError};

/// How often it is tried while another raises it.
const ATTEMPTS: usize = 16;

/// What the key says.
#[derive(Serialize, Deserialize)]
struct Fence {
    /// The epoch of the lease of who raised it.
    epoch: u64,
}

impl Kv {
    /// Keeps everybody else from writing what the key `fence` guards, from now on, also what was on its way before; gives the key's revision, or none when a holder
    /// with a higher epoch has raised it.
    ///
    /// # Errors
    /// The bus is away.
    pub async fn raise_fence(&self, fence: &str, epoch: u64) -> Result<Option<u64>, KvError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let found = self.get::<Fence>(fence).await?;
            if found.as_ref().is_some_and(|found| found.value.epoch > epoch) {
                return Ok(None);
            }
            let raised = match found {
                Some(found) => self.update(fence, &Fence { epoch }, found.revision).await,
                None => self.create(fence, &Fence { epoch }).await,
            };
            match raised {
                Err(KvError::Conflict { .. }) if attempts < ATTEMPTS => {}
                raised => return raised.map(Some),
            }
        }
    }
}
