//! What is committed of a partition, read back: its checkpoint, and the slices after it.

use keelson_kit::fault;
use keelson_schemas::slice::Slice;
use keelson_schemas::subject;
use tracing::{info, warn};

use crate::ledger::{self, Ledger};
use crate::partition::{Owner, STREAM};
use crate::snapshot::Snapshots;
use crate::state::Readiness;
use crate::windows::{self, Windows};

/// Where a new owner goes on.
pub struct Recovered {
    /// The end of the slices.
    pub ledger: Ledger,
    /// The checkpoints.
    pub snapshots: Snapshots,
    /// Which making of the telemetry stream sequences belong to.
    pub stream: u64,
    /// The last sequence of the telemetry stream that is in a slice.
    pub through: u64,
    /// The last sequence of the partition that was stored.
    pub stored: u64,
    /// Slices that no checkpoint covers.
    pub slices_read: u64,
}

/// Reads back what is committed into `owner.state`; none when an owner with a higher epoch has been there.
///
/// # Errors
/// The bus is away, or what is there cannot be read.
pub async fn recover(owner: &Owner, epoch: u64) -> anyhow::Result<Option<Recovered>> {
    let bus = &owner.ctx.bus;
    let Some((mut snapshots, totals)) = Snapshots::claim(bus, owner.partition, epoch).await? else {
        return Ok(None);
    };
    fault::point("recover.claimed");
    let generation = owner.state.replace(totals);
    let covered = snapshots.covered().slices;
    let mut ledger = Ledger::open(bus, owner.partition, covered).await?;
    let slices_read = read_slices(owner, &mut ledger).await?;
    let (stream, through) = begin(owner).await?;
    if owner.state.totals(|totals| totals.stream()) != stream {
        snapshots.covers_no_telemetry();
    }
    let stored =
        bus.last_message(STREAM, &subject::tel(owner.partition)).await?.map_or(0, |last| last.sequence);
    owner.state.ready(if stored > through {
        Readiness::At { stream, sequence: stored }
    } else {
        Readiness::Ready
    });
    info!(partition = %owner.partition, lease.epoch = epoch, through, slices = slices_read, "took over a partition");
    read_windows(owner, generation, covered);
    Ok(Some(Recovered { ledger, snapshots, stream, through, stored, slices_read }))
}

async fn read_slices(owner: &Owner, ledger: &mut Ledger) -> anyhow::Result<u64> {
    let mut inbox = ledger.follow();
    let mut read = 0;
    while let Some(message) = inbox.next_if_any().await? {
        let slice: Slice = message.decode()?;
        owner.state.apply(&slice, owner.ctx.clock.now_ms() / 1000)?;
        ledger.read(message.sequence);
        read += 1;
    }
    Ok(read)
}

/// The making of the telemetry stream and the sequence after which to count.
///
/// A stream that was made after the one in the totals begins at its beginning. One that lost its end (the machine lost power before the disk had it) uses sequences again that
/// the totals have: it goes on under a new name at the end that it has.
async fn begin(owner: &Owner) -> anyhow::Result<(u64, u64)> {
    let info = owner.ctx.bus.stream_info(STREAM).await?;
    let created = u64::try_from(info.created_ms).unwrap_or_default();
    let (known, through) = owner.state.totals(|totals| (totals.stream(), totals.through()));
    if fault::disabled("replay") {
        return Ok((known.max(created), info.last_sequence));
    }
    if created > known {
        return Ok((created, 0));
    }
    if info.last_sequence < through {
        warn!(partition = %owner.partition, counted = through, stored = info.last_sequence, "the telemetry stream lost its end; what was counted of it stands");
        return Ok((owner.ctx.clock.now_ms().max(known + 1), info.last_sequence));
    }
    Ok((known, through))
}

/// Folds the last hour's slices up to `through`, which the checkpoint covers, into the windows. It goes on beside the work: totals do not wait for it.
fn read_windows(owner: &Owner, generation: u64, through: u64) {
    let owner = owner.clone();
    let name = format!("windows of partition {}", owner.partition);
    let tasks = owner.ctx.tasks.clone();
    tasks.spawn_once(name, async move {
        let since_ms = owner.ctx.clock.now_ms().saturating_sub(windows::LONGEST_S * 1000);
        let mut inbox = ledger::follow_since(&owner.ctx.bus, owner.partition, since_ms);
        let mut windows = Windows::default();
        while let Some(message) = inbox.next_if_any().await?.filter(|message| message.sequence <= through) {
            windows.apply(&message.decode::<Slice>()?, owner.ctx.clock.now_ms() / 1000);
        }
        owner.state.complete_windows(generation, windows);
        Ok(())
    });
}
