//! What is kept, read back: the checkpoint with the alerts, the groups, the silences, and the transitions since.

use anyhow::Context as _;
use keelson_kit::bus::Bus;
use keelson_kit::checkpoint::{Checkpoint, CheckpointError, Head};
use keelson_kit::dead_letter;
use keelson_kit::fault;
use keelson_kit::follow::{Follow, FollowOptions, Start};
use keelson_kit::publish::PublishError;
use keelson_kit::role::Context;
use keelson_kit::stream::StreamInfo;
use keelson_schemas::alerting::Notify;
use keelson_schemas::codec;
use tracing::{error, info, warn};

use super::alerts::{Alerts, Known};
use super::config::NotifyConfig;
use super::dispatch::Dispatch;
use super::group::{Group, GroupId};
use super::intake;
use super::keeper::{CHECKPOINT, Keeper};
use super::outbox::{BUCKET, FENCE, Slot, key_of};
use crate::history::{Live, STREAM, subject_of};
use crate::silences::Silences;

/// More groups than these are not read back: each has a kilobyte at least, and the bucket 256 MiB.
const MOST_GROUPS: usize = 262_144;

/// Where a notifier goes on.
pub struct Recovered {
    /// The alerts and groups.
    pub dispatch: Dispatch,
    /// The checkpoint.
    pub keeper: Keeper,
    /// The revision of the fence behind which they are written.
    pub fence: u64,
    /// How they are written.
    pub slots: Vec<(GroupId, Slot)>,
    /// What comes after.
    pub inbox: Follow,
}

/// Reads back what is kept; none when a notifier with a higher epoch has been there.
///
/// # Errors
/// The bus is away, or what is there is damaged.
pub async fn recover(ctx: &Context, config: &NotifyConfig, epoch: u64) -> anyhow::Result<Option<Recovered>> {
    let bus = &ctx.bus;
    let checkpoint = match Checkpoint::claim(bus, CHECKPOINT, epoch).await {
        Err(CheckpointError::Fenced { epoch: newer, .. }) => {
            info!(lease.epoch = epoch, newer.epoch = newer, "fenced: another notifier has been there");
            return Ok(None);
        }
        claimed => claimed?,
    };
    let Some(fence) = bus.kv(BUCKET).raise_fence(FENCE, epoch).await? else { return Ok(None) };
    fault::point("notify.fenced");
    let Beginning { stream, through, mut live } = begin(ctx, &checkpoint).await?;
    let alerts = Alerts::restored(known(&checkpoint).await?, through);
    let mut dispatch = Dispatch::new(config, stream, alerts, Silences::load(bus).await?)?;
    let slots = groups(bus, &mut dispatch).await?;
    let mut inbox = bus.follow(FollowOptions::new(STREAM, subject_of("*"), Start::After(through)));
    let mut read = 0_u64;
    while let Some(message) = inbox.next_if_any().await? {
        let transition = intake::read(ctx, &message).await?;
        intake::take(&mut dispatch, &message, transition.as_ref(), ctx.clock.now_ms());
        if let (Some(live), Some(transition)) = (&mut live, &transition) {
            live.take(message.sequence, transition);
        }
        read += 1;
    }
    let lost = live.map_or(0, |live| dispatch.reconcile(live.alerts(), ctx.clock.now_ms()));
    if lost > 0 {
        warn!(
            alerts = lost,
            "transitions were lost with the stream of events; alerts are taken as the evaluator knows them"
        );
    }
    dispatch.place(ctx.clock.now_ms());
    info!(lease.epoch = epoch, through, groups = slots.len(), transitions = read, "notifies");
    Ok(Some(Recovered { dispatch, keeper: Keeper::new(checkpoint, through), fence, slots, inbox }))
}

/// Where the stream of transitions is gone on with.
struct Beginning {
    /// Which making of it.
    stream: u64,
    /// The sequence after which to go on.
    through: u64,
    /// Where transitions may have been lost: the alerts as the evaluator knows them.
    live: Option<Live>,
}

/// A stream that was made after the checkpoint begins at its beginning; one that lost its end uses sequences again that the groups have, and goes on under a new name.
async fn begin(ctx: &Context, checkpoint: &Checkpoint) -> anyhow::Result<Beginning> {
    let info = ctx.bus.stream_info(STREAM).await?;
    let (stream, through) = going_on(ctx, checkpoint.head(), &info);
    let is_whole = checkpoint.head().stream_created_ms == info.created_ms
        && info.first_sequence <= through + 1
        && checkpoint.head().sequence == through;
    let live = if is_whole { None } else { Live::kept(&ctx.bus, &info).await? };
    Ok(Beginning { stream, through, live })
}

fn going_on(ctx: &Context, head: &Head, info: &StreamInfo) -> (u64, u64) {
    let (made, known) = (unsigned(info.created_ms), unsigned(head.stream_created_ms));
    if made > known {
        return (made, 0);
    }
    if info.last_sequence < head.sequence {
        warn!(
            read = head.sequence,
            stored = info.last_sequence,
            "the stream of events lost its end; what was notified of it stands"
        );
        return (ctx.clock.now_ms().max(known + 1), info.last_sequence);
    }
    (known, head.sequence)
}

fn unsigned(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or_default()
}

async fn known(checkpoint: &Checkpoint) -> anyhow::Result<Vec<Known>> {
    let mut known = Vec::new();
    for chunk in checkpoint.load().await? {
        known.extend(
            codec::decode::<Vec<Known>>(Some(codec::MSGPACK), &chunk)
                .context("the alerts of the checkpoint")?,
        );
    }
    Ok(known)
}

/// Dead-letters what nobody can be told of any more.
async fn let_go(bus: &Bus, notify: &Notify) -> Result<(), PublishError> {
    let Notify { receiver, integration, .. } = notify;
    warn!(
        receiver,
        integration,
        group.key = notify.group_key,
        "a notification waits for a way that its receiver no longer has; it is dead-lettered"
    );
    let reason = format!("{receiver} is not told by {integration} any more");
    dead_letter::bury_command(bus, &notify.key, notify, &reason, 0).await.map(drop)
}

async fn groups(bus: &Bus, dispatch: &mut Dispatch) -> anyhow::Result<Vec<(GroupId, Slot)>> {
    let mut slots = Vec::new();
    for (key, entry) in bus.kv(BUCKET).list(&key_of("*"), MOST_GROUPS).await? {
        let id = GroupId(key.strip_prefix(&key_of("")).unwrap_or(&key).to_owned());
        match codec::decode::<Group>(Some(codec::MSGPACK), &entry.value) {
            Ok(group) => {
                slots.push((id.clone(), Slot::read(entry.revision, &group)));
                for notify in dispatch.restore(id, group) {
                    let_go(bus, &notify).await?;
                }
            }
            Err(error) => error!(group.id = %id.0, %error, "a group cannot be read and is passed over"),
        }
    }
    Ok(slots)
}
