//! Watching one operation: its latest state first, its final state always.

use keelson_schemas::operation::Operation;

use super::{Operations, decode};
use crate::kv::{KvError, Watch};

/// The states of one operation, as they are seen.
pub struct OperationWatch {
    watch: Watch,
    over: bool,
}

impl Operations {
    /// Watches an operation. One that does not exist yet is waited for.
    pub fn watch(&self, id: &str) -> OperationWatch {
        OperationWatch { watch: self.kv.watch(id), over: false }
    }
}

impl OperationWatch {
    /// The next state; None after the final one, or when the record is gone.
    pub async fn next(&mut self) -> Result<Option<Operation>, KvError> {
        if self.over {
            return Ok(None);
        }
        let change = self.watch.next().await?;
        let operation = change.value.and_then(|value| decode(&value)).map(|record| record.operation);
        self.over = operation.as_ref().is_none_or(|operation| operation.state.is_final());
        Ok(operation)
    }

    /// The final state, however long that takes; None when the record is gone.
    pub async fn finished(&mut self) -> Result<Option<Operation>, KvError> {
        let mut last = None;
        while let Some(operation) = self.next().await? {
            last = Some(operation);
        }
        Ok(last)
    }
}
