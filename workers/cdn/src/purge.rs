//! One purge at one provider: as it was asked for, how far it is, and what became of it.

use std::sync::Arc;

use keelson_schemas::cdn::{PurgeOutcome, PurgeState};

use crate::batch::Key;
use crate::selector::Selector;
use crate::url::EdgeUrl;

/// The names of calls that an outcome carries at most.
const MOST_REQUEST_IDS: usize = 10;

/// A purge as it was asked for, in what the provider can purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The sequence of the message that asks.
    pub key: Key,
    /// The same for every provider and every time the message is read.
    pub id: String,
    /// The operation, if a command asks.
    pub operation: Option<String>,
    /// What changed, if an event asks.
    pub asset: Option<String>,
    /// Who asked.
    pub requested_by: String,
    /// Unix milliseconds at which the message was stored.
    pub caused_at_ms: u64,
    /// What is sent.
    pub selectors: Vec<Selector>,
    /// Whether copies may be served stale while they are fetched anew.
    pub soft: bool,
    /// What is looked at afterwards.
    pub checks: Vec<EdgeUrl>,
    /// Why that is not all there is to look at.
    pub unseen: Option<String>,
    /// What of it cannot be done here.
    pub refused: Option<String>,
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Purge {
    pub request: Arc<Request>,
    /// How often all of it was sent, or is being sent.
    pub rounds: u32,
    /// Selectors of this round that were not acknowledged yet.
    pub open: usize,
    /// URLs of this look that were not judged yet.
    pub looking: usize,
    pub stale: Option<String>,
    pub unseen: Option<String>,
    pub refused: Option<String>,
    pub request_ids: Vec<String>,
    pub acknowledged_after_ms: Option<u64>,
}

impl Purge {
    pub fn new(request: Request) -> Self {
        let (unseen, refused) = (request.unseen.clone(), request.refused.clone());
        Self {
            request: Arc::new(request),
            rounds: 0,
            open: 0,
            looking: 0,
            stale: None,
            unseen,
            refused,
            request_ids: Vec::new(),
            acknowledged_after_ms: None,
        }
    }

    pub fn has_all(&self) -> bool {
        self.request.selectors.contains(&Selector::All)
    }

    /// It was in a call, which may hold several of its selectors.
    pub fn called(&mut self, request_id: &Option<String>) {
        let Some(id) = request_id else { return };
        if self.request_ids.len() < MOST_REQUEST_IDS && self.request_ids.last() != Some(id) {
            self.request_ids.push(id.clone());
        }
    }

    /// How it ended, when nothing follows.
    pub fn end(&self) -> (PurgeState, Option<String>) {
        match (&self.refused, &self.stale, &self.unseen) {
            (Some(reason), ..) => (PurgeState::Failed, Some(reason.clone())),
            (_, Some(reason), _) => (PurgeState::Stale, Some(reason.clone())),
            (.., Some(reason)) => (PurgeState::Unverifiable, Some(reason.clone())),
            _ => (PurgeState::Verified, None),
        }
    }

    pub fn outcome(&self, provider: &str, now_ms: u64) -> PurgeOutcome {
        let (state, reason) = self.end();
        let after = now_ms.saturating_sub(self.request.caused_at_ms);
        PurgeOutcome {
            purge: self.request.id.clone(),
            operation: self.request.operation.clone(),
            asset: self.request.asset.clone(),
            provider: provider.to_owned(),
            state,
            selectors: self.request.selectors.len() as u64,
            attempts: self.rounds,
            request_ids: self.request_ids.clone(),
            caused_at_ms: self.request.caused_at_ms,
            acknowledged_after_ms: self.acknowledged_after_ms,
            fresh_after_ms: (state == PurgeState::Verified).then_some(after),
            reason,
        }
    }
}
