//! How much may be on its way to the bus at once.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Messages without an ack. With acks after a millisecond this allows for millions a second.
const MAX_MESSAGES: usize = 4096;
/// Their bytes, in units of [`UNIT`]: 64 MiB.
const MAX_UNITS: usize = 64 * 1024;
const UNIT: usize = 1024;

/// Room for messages that are being published.
#[derive(Debug)]
pub(crate) struct InFlight {
    messages: Semaphore,
    units: Semaphore,
}

/// Room taken until dropped.
pub(crate) struct Room<'a> {
    _message: Option<SemaphorePermit<'a>>,
    _units: Option<SemaphorePermit<'a>>,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { messages: Semaphore::new(MAX_MESSAGES), units: Semaphore::new(MAX_UNITS) }
    }
}

impl InFlight {
    /// Waits for room for a message of `bytes`. One that is larger than all room takes all of it.
    pub(crate) async fn enter(&self, bytes: usize) -> Room<'_> {
        let units = u32::try_from(bytes.div_ceil(UNIT).clamp(1, MAX_UNITS)).unwrap_or(u32::MAX);
        // Neither semaphore is ever closed, so neither wait fails.
        Room {
            _message: self.messages.acquire().await.ok(),
            _units: self.units.acquire_many(units).await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn bytes_are_bounded_and_given_back() {
        let in_flight = InFlight::default();
        let all = in_flight.enter(usize::MAX).await;
        assert!(in_flight.enter(1).now_or_never().is_none());
        drop(all);
        assert!(in_flight.enter(1).now_or_never().is_some());
    }

    #[tokio::test]
    async fn messages_are_bounded() {
        let in_flight = InFlight::default();
        let mut rooms = Vec::new();
        for _ in 0..MAX_MESSAGES {
            rooms.push(in_flight.enter(1).await);
        }
        assert!(in_flight.enter(1).now_or_never().is_none());
    }
}
