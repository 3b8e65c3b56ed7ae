//! Notices a consumer that has messages waiting and makes no progress, whatever the cause.

use std::time::Duration;

use keelson_bus_config::ConsumerSpec;
use tokio::time::Instant;

use crate::bus::Bus;

/// How long nothing may move before the server is asked whether anything waits, and how often after that.
const LOOK_AFTER: Duration = Duration::from_secs(30);

/// Watches one subscription.
pub(super) struct Watchdog {
    bus: Bus,
    spec: ConsumerSpec,
    next_look: Instant,
}

impl Watchdog {
    pub(super) fn new(bus: &Bus, spec: &ConsumerSpec) -> Self {
        Self { bus: bus.clone(), spec: spec.clone(), next_look: Instant::now() + LOOK_AFTER }
    }

    /// Something moved.
    pub(super) fn progress(&mut self) {
        self.next_look = Instant::now() + LOOK_AFTER;
    }

    /// Says what is wrong as soon as something is. May be dropped at any await point.
    pub(super) async fn stalled(&mut self, handling: usize) -> String {
        loop {
            tokio::time::sleep_until(self.next_look).await;
            let waiting = self.bus.consumer_pending(&self.spec.stream, &self.spec.name).await;
            self.progress();
            if let Some(reason) = waiting.ok().and_then(|waiting| verdict(waiting, handling)) {
                return reason;
            }
        }
    }
}

fn verdict(waiting: u64, handling: usize) -> Option<String> {
    let quiet = LOOK_AFTER.as_secs();
    match (waiting, handling) {
        (0, _) => None,
        (_, 0) => Some(format!("{waiting} messages wait and none has come for {quiet} s")),
        _ => {
            Some(format!("{waiting} messages wait behind {handling} that have been under way for {quiet} s"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waiting_messages_make_a_stall() {
        assert_eq!(verdict(0, 0), None);
        assert_eq!(verdict(0, 5), None);
        assert!(verdict(3, 0).is_some_and(|said| said.contains("3 messages wait")));
        assert!(verdict(3, 2).is_some_and(|said| said.contains("behind 2")));
    }
}
