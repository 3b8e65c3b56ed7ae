//! How a lane stands, as its sender tells those who answer questions about it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use keelson_schemas::cdn::{ProviderHealth, ProviderStatus, PurgeOutcome, PurgeState, RecentPurge};
use keelson_schemas::histogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::flow::{Flow, Position};
use crate::health::Health;

/// How many purges of late are shown.
const MOST_RECENT: usize = 50;

/// How a lane stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LaneStatus {
    /// What is shown of it; none before the sender has begun.
    pub status: Option<ProviderStatus>,
    /// Every message up to this one is done.
    pub done_through: u64,
}

/// A lane's standing. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    lane: LaneStatus,
    time_to_fresh: Histogram,
    recent: VecDeque<RecentPurge>,
}

impl Board {
    /// A purge has ended.
    pub fn ended(&self, outcome: &PurgeOutcome, requested_by: &str) {
        let mut told = self.told();
        if let (PurgeState::Verified, Some(ms)) = (outcome.state, outcome.fresh_after_ms) {
            told.time_to_fresh.record(ms.saturating_mul(1_000));
        }
        told.recent
            .push_front(RecentPurge { outcome: outcome.clone(), requested_by: requested_by.to_owned() });
        told.recent.truncate(MOST_RECENT);
    }

    /// How things stand now.
    pub fn tell(&self, lane: &str, flow: &Flow, behind: u64, now: Instant) {
        let standing = flow.standing();
        let (health, error) = match standing.health() {
            Health::Unknown => (ProviderHealth::Unknown, None),
            Health::Up => (ProviderHealth::Up, None),
            Health::Down(reason) => (ProviderHealth::Down, Some(reason.clone())),
            Health::Refused(reason) => (ProviderHealth::Refused, Some(reason.clone())),
        };
        let Position { read, open } = flow.position();
        let mut told = self.told();
        told.lane = LaneStatus {
            status: Some(ProviderStatus {
                provider: lane.to_owned(),
                health,
                error,
                since_ms: standing.since_ms(),
                quota_left: flow.quota_left(now),
                waiting: flow.waiting() as u64,
                under_way: flow.purges() as u64,
                behind,
                time_to_fresh: Histogram::default(),
                recent: Vec::new(),
            }),
            done_through: open.first().map_or(read, |first| first - 1),
        };
    }

    /// How it stands; None before the sender has begun.
    #[must_use]
    pub fn lane(&self) -> Option<LaneStatus> {
        let told = self.told();
        let status = told.lane.status.as_ref()?;
        let status = ProviderStatus {
            time_to_fresh: told.time_to_fresh.clone(),
            recent: told.recent.iter().cloned().collect(),
            ..status.clone()
        };
        Some(LaneStatus { status: Some(status), done_through: told.lane.done_through })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
