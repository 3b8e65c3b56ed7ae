//! The notifier's state, shared with those who answer questions about it and with those who keep an Alertmanager informed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keelson_schemas::alerting::{Alert, Alerts, Groups};

use super::dispatch::Dispatch;

/// What this process knows while it is the notifier; nothing before it has read back what is kept. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Desk(Arc<Mutex<Option<Dispatch>>>);

impl Desk {
    /// The answer to `keelson.qry.alerting.alerts` at a Unix millisecond.
    #[must_use]
    pub fn alerts(&self, now_ms: u64) -> Option<Alerts> {
        self.lock().as_ref().map(|dispatch| dispatch.views(now_ms))
    }

    /// The answer to `keelson.qry.alerting.groups`.
    #[must_use]
    pub fn groups(&self) -> Option<Groups> {
        self.lock().as_ref().map(Dispatch::group_views)
    }

    /// The alerts that are routed to a receiver, and fire or resolved of late.
    pub(super) fn routed_to(&self, receiver: &str, now_ms: u64) -> Vec<Alert> {
        let state = self.lock();
        state.iter().flat_map(|dispatch| dispatch.routed_to(receiver, now_ms)).cloned().collect()
    }

    /// Begins anew with what was read back.
    pub(super) fn replace(&self, dispatch: Option<Dispatch>) {
        *self.lock() = dispatch;
    }

    /// Works on the state. Nothing is awaited meanwhile.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Dispatch) -> T) -> Option<T> {
        self.lock().as_mut().map(work)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Dispatch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
