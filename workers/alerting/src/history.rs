//! The transitions of all alerts on the bus, where a transition is published and thereby made true; and the alerts that they add up to.
//!
//! All of `keelson.evt.alerting.*` is one journal. A checkpoint is only a shorter way to fold it, and remembers how far the slices were evaluated
//! while nothing changed.

use std::collections::BTreeMap;

use keelson_kit::bus::Bus;
use keelson_kit::checkpoint::{Checkpoint, CheckpointError, Snapshot, pack, unpack};
use keelson_kit::fault;
use keelson_kit::journal::{Commit, Journal};
use keelson_kit::publish::Outgoing;
use keelson_kit::stream::StreamInfo;
use keelson_schemas::alerting::{Alert, AlertState, Transition};
use keelson_schemas::message::Message;
use keelson_schemas::{codec, id, subject};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

/// The stream that holds the transitions.
pub const STREAM: &str = "EVENTS";
/// The checkpoint's name.
const CHECKPOINT: &str = "alerting.evaluator";

/// The subject of a kind of transition; `*` for all of them. Nothing else is published there.
#[must_use]
pub fn subject_of(fact: &str) -> String {
    subject::evt("alerting", fact)
}

/// How far the rules were evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// When the stream of slices was made, Unix milliseconds: another time means that sequences begin anew.
    pub slices_made_ms: i64,
    /// Everything of it up to this sequence was evaluated.
    pub slices_through: u64,
    /// The time as of which the rules were last evaluated, Unix milliseconds; 0 when they never were.
    pub at_ms: u64,
}

/// The transitions, as their one writer knows them.
pub struct History {
    journal: Journal,
    checkpoint: Checkpoint,
    /// When the stream of transitions was made.
    made_ms: i64,
    alerts: BTreeMap<String, Alert>,
    /// Since when the conditions of some of them do not hold any more, Unix milliseconds.
    ceased_at_ms: BTreeMap<String, u64>,
    position: Position,
    kept: Position,
}

/// An alert as the checkpoint has it, and since when its condition does not hold any more, if it fires on though it does not.
type Kept<A> = (A, Option<u64>);

impl History {
    /// Reads back what is true, under the epoch of the writer's lease; none when a writer with a higher one has been there.
    ///
    /// # Errors
    /// The bus is away, or what is there is damaged.
    pub async fn open(bus: &Bus, epoch: u64) -> anyhow::Result<Option<Self>> {
        let checkpoint = match Checkpoint::claim(bus, CHECKPOINT, epoch).await {
            Err(CheckpointError::Fenced { epoch: newer, .. }) => {
                info!(lease.epoch = epoch, newer.epoch = newer, "fenced: another evaluator has been there");
                return Ok(None);
            }
            claimed => claimed?,
        };
        fault::point("history.claimed");
        let (alerts, position) = restore(&checkpoint).await?;
        let ceased = alerts.iter().filter_map(|(alert, at_ms)| Some((alert.fingerprint.clone(), (*at_ms)?)));
        let ceased_at_ms = ceased.collect();
        let made_ms = bus.stream_info(STREAM).await?.created_ms;
        let covered =
            if checkpoint.head().stream_created_ms == made_ms { checkpoint.head().sequence } else { 0 };
        let mut journal = Journal::after(bus, STREAM, subject_of("*"), covered);
        journal.read(covered.min(journal.end().await?));
        let mut history = Self {
            journal,
            checkpoint,
            made_ms,
            alerts: by_fingerprint(alerts),
            ceased_at_ms,
            position,
            kept: position,
        };
        history.read().await?;
        Ok(Some(history))
    }

    /// Pending and firing alerts.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }

    /// How far the rules were evaluated, as far as that is known.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Notes how far the rules were evaluated; it is kept at the next checkpoint or with the next transition.
    pub fn evaluated(&mut self, position: Position) {
        self.position = position;
    }

    /// Since when the conditions of alerts do not hold any more, though they fire: as it was at the last checkpoint, by fingerprint.
    #[must_use]
    pub fn ceased_at_ms(&self) -> &BTreeMap<String, u64> {
        &self.ceased_at_ms
    }

    /// Notes that; it is kept at the next checkpoint.
    pub fn ceased<'a>(&mut self, ceased_at_ms: impl Iterator<Item = (&'a String, u64)>) {
        self.ceased_at_ms = ceased_at_ms.map(|(fingerprint, at_ms)| (fingerprint.clone(), at_ms)).collect();
    }

    /// Publishes a transition behind the last one.
    pub async fn commit(&mut self, transition: &Transition) -> Commit {
        let body = match codec::encode(transition) {
            Ok(body) => body,
            Err(error) => return Commit::Refused(error.to_string()),
        };
        // With the epoch: of two writers that commit the same the second must not take the first's entry, which differs in its times, for its own.
        let (after, epoch) = (self.journal.last().to_string(), transition.epoch.to_string());
        let id =
            id::derive("transition", &[&transition.alert.fingerprint, &after, transition.fact(), &epoch]);
        let outgoing = Outgoing::new(subject_of(transition.fact()), id, Transition::TYPE, body);
        fault::point("transition.publishing");
        let commit = self.journal.commit(outgoing, transition.epoch).await;
        if let Commit::Done(_) = commit {
            fault::point("transition.published");
            self.fold(transition);
        }
        commit
    }

    /// Keeps the alerts and the position, if anything changed since the last time; false when another writer has claimed them.
    ///
    /// # Errors
    /// The bus is away or refuses. What was kept before still is.
    pub async fn keep(&mut self) -> anyhow::Result<bool> {
        if self.position == self.kept {
            return Ok(true);
        }
        match self.checkpoint.save(self.snapshot()?).await {
            Ok(()) => self.kept = self.position,
            Err(CheckpointError::Fenced { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// Folds what was published after the checkpoint.
    async fn read(&mut self) -> anyhow::Result<()> {
        let mut inbox = self.journal.follow();
        while let Some(message) = inbox.next_if_any().await? {
            match message.decode::<Transition>() {
                Ok(transition) => self.fold(&transition),
                Err(error) => {
                    warn!(subject = message.subject(), sequence = message.sequence, %error, "this is no transition and is passed over")
                }
            }
            self.journal.read(message.sequence);
        }
        Ok(())
    }

    fn fold(&mut self, transition: &Transition) {
        let Transition { alert, at_ms, slices_through, .. } = transition;
        fold(&mut self.alerts, alert);
        self.ceased_at_ms.remove(&alert.fingerprint);
        self.position.slices_through = self.position.slices_through.max(*slices_through);
        self.position.at_ms = self.position.at_ms.max(*at_ms);
    }

    fn snapshot(&self) -> Result<Snapshot, codec::EncodeError> {
        let kept = |(fingerprint, alert)| (alert, self.ceased_at_ms.get(fingerprint).copied());
        let alerts: Vec<Kept<&Alert>> = self.alerts.iter().map(kept).collect();
        Ok(Snapshot {
            sequence: self.journal.last(),
            stream_created_ms: self.made_ms,
            meta: codec::encode(&self.position)?.into(),
            chunks: pack(&alerts)?,
        })
    }
}

/// The alerts that are pending or fire, as who is not their writer knows them: by the writer's checkpoint, and the transitions that come after it.
#[derive(Debug, Default)]
pub struct Live {
    alerts: BTreeMap<String, Alert>,
    through: u64,
}

impl Live {
    /// By the writer's checkpoint, for the stream as it is; none without one.
    ///
    /// # Errors
    /// The bus is away, or the checkpoint is being replaced.
    pub async fn kept(bus: &Bus, stream: &StreamInfo) -> anyhow::Result<Option<Self>> {
        let Some((head, chunks)) = Checkpoint::read_all(bus, CHECKPOINT).await? else { return Ok(None) };
        // What is past the end is lost, and its sequences are used again.
        let is_of_it = head.stream_created_ms == stream.created_ms;
        let through = if is_of_it { head.sequence.min(stream.last_sequence) } else { 0 };
        Ok((!head.is_empty()).then_some(Self { alerts: by_fingerprint(unpack(&chunks)?), through }))
    }

    /// Takes in the transition at a sequence.
    pub fn take(&mut self, sequence: u64, transition: &Transition) {
        if sequence > self.through {
            self.through = sequence;
            fold(&mut self.alerts, &transition.alert);
        }
    }

    /// They, by their fingerprints.
    #[must_use]
    pub fn alerts(&self) -> &BTreeMap<String, Alert> {
        &self.alerts
    }
}

fn fold(alerts: &mut BTreeMap<String, Alert>, alert: &Alert) {
    match alert.state {
        AlertState::Pending | AlertState::Firing => {
            _ = alerts.insert(alert.fingerprint.clone(), alert.clone());
        }
        AlertState::Inactive | AlertState::Resolved => _ = alerts.remove(&alert.fingerprint),
    }
}

async fn restore(checkpoint: &Checkpoint) -> anyhow::Result<(Vec<Kept<Alert>>, Position)> {
    let head = checkpoint.head();
    if head.is_empty() {
        return Ok((Vec::new(), Position::default()));
    }
    let position = codec::decode(Some(codec::MSGPACK), &head.meta)?;
    Ok((unpack(&checkpoint.load().await?)?, position))
}

fn by_fingerprint(alerts: Vec<Kept<Alert>>) -> BTreeMap<String, Alert> {
    alerts.into_iter().map(|(alert, _)| (alert.fingerprint.clone(), alert)).collect()
}
