//! How every lane stands, put together from those who own them.

use std::time::Duration;

use futures::future::join_all;
use keelson_kit::bus::Bus;
use keelson_schemas::cdn::{CdnStatus, ProviderStatus};
use keelson_schemas::subject;

use crate::board::LaneStatus;
use crate::setup::Setup;

/// How long the sender of a lane may take to answer.
const WITHIN: Duration = Duration::from_millis(1_500);

/// The noun under which the sender of a lane is asked.
#[must_use]
pub fn noun(lane: &str) -> String {
    format!("lane.{lane}")
}

/// How a lane stands; nothing when nobody sends for it now.
pub async fn of_lane(bus: &Bus, lane: &str) -> LaneStatus {
    bus.ask_owner(&subject::qry("cdn", &noun(lane)), &(), WITHIN).await.unwrap_or_default()
}

/// How all lanes stand.
pub async fn of_all(bus: &Bus, setup: &Setup) -> CdnStatus {
    let lanes = setup.lanes.iter().map(|lane| async {
        let status = of_lane(bus, &lane.name).await.status;
        status.unwrap_or_else(|| nobody(&lane.name))
    });
    CdnStatus { configured: setup.is_configured(), note: note(setup), providers: join_all(lanes).await }
}

fn note(setup: &Setup) -> Option<String> {
    let whole = if setup.is_configured() { "not wholly configured" } else { "not configured" };
    (!setup.missing.is_empty()).then(|| format!("{whole}: {}", setup.missing.join("; ")))
}

fn nobody(lane: &str) -> ProviderStatus {
    ProviderStatus {
        provider: lane.to_owned(),
        health: Default::default(),
        error: Some("nobody sends to it now".to_owned()),
        since_ms: 0,
        quota_left: None,
        waiting: 0,
        under_way: 0,
        behind: 0,
        time_to_fresh: Default::default(),
        recent: Vec::new(),
    }
}
