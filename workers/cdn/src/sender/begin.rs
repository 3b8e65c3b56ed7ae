//! How a sender begins: from what its predecessor kept, a little before it.

use std::time::Duration;

use futures::FutureExt;
use futures::stream::FuturesUnordered;
use keelson_kit::fault;
use keelson_kit::follow::{FollowOptions, Start};
use keelson_kit::lease::Lease;
use tracing::{info, warn};

use super::keep::OLD_CALLS;
use super::tell::Said;
use super::{Job, STREAM, Tenure};
use crate::flow::{Flow, Position};
use crate::index::Index;
use crate::intake::{self, Intake};
use crate::keeper::Keeper;
use crate::ledger::{self, Ledger};

/// How far back a lane begins that never was: what was published while everything started is not left out.
const FIRST_LOOK_BACK: Duration = Duration::from_secs(600);
/// How many of the stream's messages before the first that is not done are read once more, to learn which URLs a tag covers and what they serve. Reading them
/// takes a moment before a new sender sends anything.
const LEARN_BACK: u64 = 100_000;

impl<'a> Tenure<'a> {
    pub(super) async fn begin(job: &'a Job, lease: &'a Lease) -> anyhow::Result<Option<Self>> {
        let (bus, lane) = (&job.ctx.bus, &job.lane);
        let Some(site) = job.setup.site.clone() else { return Ok(None) };
        let stream = bus.stream_info(STREAM).await?;
        let Some(keeper) = Keeper::open(bus, &lane.name, lease.epoch(), stream.created_ms).await? else {
            return Ok(None);
        };
        let limits = if fault::disabled("limits") { lane.limits.unmetered() } else { lane.limits };
        let opened = match limits.once {
            true => {
                let opened = Ledger::open(bus, &job.ctx.clock, &lane.name, lease.epoch(), stream.created_ms);
                let Some(opened) = opened.await? else { return Ok(None) };
                Some(opened)
            }
            false => None,
        };
        let position = what_is_left(
            keeper.kept().position.clone(),
            stream.first_sequence,
            stream.last_sequence,
            &lane.name,
        );
        let (start, first) = start(&position, job.ctx.clock.now_ms());
        info!(
            cdn.lane = lane.name,
            lease.epoch = lease.epoch(),
            after = first,
            open = position.open.len(),
            "sends purges"
        );
        let now = job.now();
        let is_known = position.read >= keeper.kept().position.read;
        let mut flow = Flow::new(&lane.name, limits, job.setup.policy(), position);
        flow.go_on_within(&keeper.kept().full_at_ms, now);
        let ledger = opened.map(|(ledger, calls)| {
            match is_known {
                true => flow.resume(ledger::read(calls, &site, &lane.name)),
                // They are for messages of another stream.
                false => {
                    let calls = calls.into_iter().map(|(reference, _)| reference).collect();
                    job.ctx.tasks.spawn_once(OLD_CALLS, ledger.clone().remove(calls).map(Ok));
                }
            }
            ledger
        });
        Ok(Some(Self {
            flow,
            ledger,
            index: Index::default(),
            intake: Intake {
                site,
                names: [lane.name.clone(), lane.provider_name.to_owned()],
                limits,
                stream_created_ms: stream.created_ms,
            },
            inbox: bus.follow(FollowOptions::new(STREAM, intake::changed(), start).and(intake::requested())),
            keeper: Some(keeper),
            keeping: FuturesUnordered::new(),
            calls: FuturesUnordered::new(),
            looks: FuturesUnordered::new(),
            reports: FuturesUnordered::new(),
            keep_at: now.at,
            said: Said { down: false, at: now.at },
            job,
            lease,
        }))
    }
}

/// Without what the stream has forgotten: nobody knows any more what it asked for.
fn what_is_left(position: Position, first: u64, last: u64, lane: &str) -> Position {
    let Position { read, mut open } = position;
    open.retain(|sequence| *sequence >= first);
    if read + 1 < first && read > 0 {
        warn!(
            cdn.lane = lane,
            through = read,
            first,
            "the stream has forgotten messages that this lane never read: purge everything there"
        );
    }
    // A stream that ends before what was read is another one.
    if read > last { Position::default() } else { Position { read, open } }
}

/// Where reading begins. Messages that are done are only learned from.
fn start(position: &Position, now_ms: u64) -> (Start, u64) {
    let first = position.open.first().map_or(position.read, |first| first - 1).saturating_sub(LEARN_BACK);
    let look_back = u64::try_from(FIRST_LOOK_BACK.as_millis()).unwrap_or(u64::MAX);
    match position.read {
        0 => (Start::Since(now_ms.saturating_sub(look_back)), 0),
        _ => (Start::After(first), first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_begins_far_enough_back_to_learn() {
        let at = |read: u64, open: &[u64]| start(&Position { read, open: open.to_vec() }, 700_000);
        assert_eq!(at(0, &[]), (Start::Since(100_000), 0));
        assert_eq!(at(9, &[]), (Start::After(0), 0));
        assert_eq!(at(LEARN_BACK + 9, &[]), (Start::After(9), 9));
        assert_eq!(at(LEARN_BACK + 9, &[LEARN_BACK + 5]), (Start::After(4), 4));
    }
}
