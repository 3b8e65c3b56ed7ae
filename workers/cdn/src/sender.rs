//! The sender of one lane, for as long as this process holds its lease: reads what is asked for, sends it, sends it again, looks, tells. What is decided is
//! decided in [`crate::flow`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use keelson_kit::fault;
use keelson_kit::follow::{Follow, FollowOptions, Start};
use keelson_kit::incoming::Stored;
use keelson_kit::lease::Lease;
use keelson_kit::publish::PublishError;
use keelson_kit::role::Context;
use tracing::{debug, info, warn};

use crate::batch::Key;
use crate::board::Board;
use crate::flow::{Answer, Flow, Look, Now, Position, Sight};
use crate::health::Health;
use crate::index::Index;
use crate::intake::{self, Intake};
use crate::keeper::Keeper;
use crate::report;
use crate::setup::{Lane, Setup};

/// The stream with what is asked for.
pub const STREAM: &str = "EVENTS";
/// How far back a lane begins that never was: what was published while everything started is not left out.
const FIRST_LOOK_BACK: Duration = Duration::from_secs(600);
/// How many of the stream's messages before the first that is not done are read once more, to learn which URLs a tag covers and what they serve. Reading them
/// takes a moment before a new sender sends anything.
const LEARN_BACK: u64 = 100_000;
/// How often the position is kept.
const KEEP_EVERY: Duration = Duration::from_millis(250);
/// How often it is said that a provider is down, for as long as it is.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Messages about ended purges under way at once. While there are so many, more collect for the next.
const REPORTS_AT_ONCE: usize = 4;
/// Messages on their way past which nothing is read: each that nobody can read becomes one.
const MOST_REPORTS: usize = 64;
/// Messages that are taken before calls are looked at again.
const MOST_AT_A_TIME: usize = 256;

/// What is needed to be a sender.
#[derive(Clone)]
pub struct Job {
    /// The role's context.
    pub ctx: Context,
    /// What the configuration amounts to.
    pub setup: Arc<Setup>,
    /// The lane.
    pub lane: Lane,
    /// Where it is told how the lane stands.
    pub board: Board,
}

impl Job {
    /// Works until the lease is lost or the process shuts down.
    ///
    /// # Errors
    /// Something failed that only a fresh start may mend.
    pub async fn run(&self, lease: &Lease) -> anyhow::Result<()> {
        let begun = tokio::select! {
            biased;
            () = lease.over(&self.ctx.tasks) => return Ok(()),
            begun = Tenure::begin(self, lease) => begun?,
        };
        match begun {
            Some(mut tenure) => tenure.work().await,
            None => Ok(()),
        }
    }

    fn now(&self) -> Now {
        Now { at: self.ctx.clock.now(), ms: self.ctx.clock.now_ms() }
    }
}

struct Tenure<'a> {
    job: &'a Job,
    lease: &'a Lease,
    flow: Flow,
    index: Index,
    intake: Intake,
    inbox: Follow,
    /// None while it is keeping.
    keeper: Option<Keeper>,
    keeping: FuturesUnordered<BoxFuture<'static, (Keeper, anyhow::Result<bool>)>>,
    calls: FuturesUnordered<BoxFuture<'static, (u64, Answer)>>,
    looks: FuturesUnordered<BoxFuture<'static, (Look, Sight)>>,
    reports: FuturesUnordered<BoxFuture<'static, Vec<Key>>>,
    keep_at: Instant,
    said: Said,
}

/// What was last said about the provider.
struct Said {
    down: bool,
    at: Instant,
}

impl<'a> Tenure<'a> {
    async fn begin(job: &'a Job, lease: &'a Lease) -> anyhow::Result<Option<Self>> {
        let (bus, lane) = (&job.ctx.bus, &job.lane);
        let Some(site) = job.setup.site.clone() else { return Ok(None) };
        let stream = bus.stream_info(STREAM).await?;
        let Some(keeper) = Keeper::open(bus, &lane.name, lease.epoch(), stream.created_ms).await? else {
            return Ok(None);
        };
        let position =
            what_is_left(keeper.kept().clone(), stream.first_sequence, stream.last_sequence, &lane.name);
        let (start, first) = start(&position, job.ctx.clock.now_ms());
        info!(
            cdn.lane = lane.name,
            lease.epoch = lease.epoch(),
            after = first,
            open = position.open.len(),
            "sends purges"
        );
        let now = job.ctx.clock.now();
        Ok(Some(Self {
            flow: Flow::new(&lane.name, lane.limits, job.setup.policy(), position),
            index: Index::default(),
            intake: Intake {
                site,
                names: [lane.name.clone(), lane.provider_name.to_owned()],
                limits: lane.limits,
                stream_created_ms: stream.created_ms,
            },
            inbox: bus.follow(FollowOptions::new(STREAM, intake::changed(), start).and(intake::requested())),
            keeper: Some(keeper),
            keeping: FuturesUnordered::new(),
            calls: FuturesUnordered::new(),
            looks: FuturesUnordered::new(),
            reports: FuturesUnordered::new(),
            keep_at: now,
            said: Said { down: false, at: now },
            job,
            lease,
        }))
    }

    async fn work(&mut self) -> anyhow::Result<()> {
        let clock = self.job.ctx.clock.clone();
        loop {
            let now = self.job.now();
            self.flow.pass_time(now);
            self.send(now);
            self.report()?;
            let due = self.flow.due(now).map_or(self.keep_at, |due| due.min(self.keep_at));
            tokio::select! {
                biased;
                () = self.lease.over(&self.job.ctx.tasks) => return self.leave().await,
                Some((call, answer)) = self.calls.next(), if !self.calls.is_empty() => self.answered(call, answer),
                Some((look, sight)) = self.looks.next(), if !self.looks.is_empty() => {
                    self.flow.looked(look, sight, self.job.now());
                }
                Some(keys) = self.reports.next(), if !self.reports.is_empty() => {
                    fault::point("cdn.told");
                    self.flow.told(&keys);
                }
                Some((keeper, kept)) = self.keeping.next(), if !self.keeping.is_empty() => {
                    if !self.kept(keeper, kept) {
                        return Ok(());
                    }
                }
                message = self.inbox.next(), if self.may_read() => self.take_all(message?)?,
                () = clock.sleep_until(due) => {}
            }
            if clock.now() >= self.keep_at {
                self.tell();
                self.keep();
            }
        }
    }

    /// Makes the calls and looks that are due. Without a valid lease another sender may be making them.
    fn send(&mut self, now: Now) {
        if !self.lease.is_valid() {
            return;
        }
        while let Some(call) = self.flow.next_call(now) {
            let provider = Arc::clone(&self.job.lane.provider);
            fault::point("cdn.sending");
            self.calls.push(async move { (call.id, provider.send(&call.batch).await) }.boxed());
        }
        while let Some(look) = self.flow.next_look() {
            let edge = self.job.lane.edge.clone();
            self.looks.push(
                async move {
                    let sight = edge.look(&look.url, look.expected.as_deref()).await;
                    (look, sight)
                }
                .boxed(),
            );
        }
    }

    fn answered(&mut self, call: u64, answer: Answer) {
        fault::point("cdn.sent");
        if let Some(reason) = answer.reason() {
            debug!(cdn.lane = self.job.lane.name, reason, "a purge was not taken");
        }
        self.flow.answered(call, answer, self.job.now());
    }

    /// Takes a message, and whatever has arrived with it.
    fn take_all(&mut self, first: Stored) -> anyhow::Result<()> {
        self.take(&first);
        for _ in 1..MOST_AT_A_TIME {
            if !self.may_read() {
                break;
            }
            let Some(message) = self.inbox.ready() else { break };
            self.take(&message?);
        }
        Ok(())
    }

    fn take(&mut self, message: &Stored) {
        let key = message.sequence;
        let said = match self.intake.read(message) {
            Ok(said) => said,
            Err(error) if self.flow.wants(key) => return self.bury(message, &error.to_string()),
            Err(_) => return self.flow.pass(key),
        };
        if said.is_event() {
            self.index.learn(said.selectors());
            self.flow.learn(key, said.selectors(), said.version.as_ref());
        }
        let wanted = match self.flow.wants(key) {
            true => self.intake.wanted(said, key, message.time_ms, &self.index),
            false => None,
        };
        match wanted {
            Some(request) => self.flow.take(request, self.job.now()),
            None => self.flow.pass(key),
        }
    }

    /// What nobody can read is done once its dead letter is stored.
    fn bury(&mut self, message: &Stored, reason: &str) {
        warn!(
            subject = message.subject(),
            sequence = message.sequence,
            reason,
            "this asks for no purge that can be read: it becomes a dead letter"
        );
        self.flow.set_aside(message.sequence);
        let bus = self.job.ctx.bus.clone();
        self.reports.push(report::bury(bus, message.clone(), reason.to_owned()).boxed());
    }

    fn may_read(&self) -> bool {
        self.flow.has_room() && self.reports.len() < MOST_REPORTS
    }

    /// Says what has ended.
    fn report(&mut self) -> Result<(), PublishError> {
        if self.reports.len() >= REPORTS_AT_ONCE {
            return Ok(());
        }
        let ended = self.flow.ended();
        if ended.is_empty() {
            return Ok(());
        }
        fault::point("cdn.telling");
        let (bus, lane) = (&self.job.ctx.bus, &self.job.lane.name);
        for (request, outcome) in &ended {
            self.job.board.ended(outcome, &request.requested_by);
        }
        let readings = report::readings(lane, &ended, self.job.ctx.clock.now_ms());
        if !readings.is_empty() {
            self.signal(readings);
        }
        for report in report::reports(lane, ended)? {
            self.reports.push(report.say(bus.clone()).boxed());
        }
        Ok(())
    }

    fn signal(&self, readings: Vec<keelson_schemas::alerting::Reading>) {
        let (ctx, lane) = (self.job.ctx.clone(), self.job.lane.name.clone());
        self.job.ctx.tasks.spawn_once("signals of cdn", async move {
            let outgoing = report::signals(&lane, readings, ctx.clock.now_ms())?;
            ctx.bus.publish_within(&outgoing, SAY_AGAIN).await?;
            Ok(())
        });
    }

    /// Keeps the position, beside the work: a bus that is away must not hold up what is to be sent.
    fn keep(&mut self) {
        self.keep_at = self.job.ctx.clock.now() + KEEP_EVERY;
        let Some(mut keeper) = self.keeper.take() else { return };
        let position = self.position();
        self.keeping.push(
            async move {
                let kept = keeper.keep(position).await;
                (keeper, kept)
            }
            .boxed(),
        );
    }

    fn position(&self) -> Position {
        let position = self.flow.position();
        if fault::disabled("open") { Position { open: Vec::new(), ..position } } else { position }
    }

    /// False when another sender has been there.
    fn kept(&mut self, keeper: Keeper, kept: anyhow::Result<bool>) -> bool {
        fault::point("cdn.kept");
        self.keeper = Some(keeper);
        kept.unwrap_or_else(|error| {
            debug!(cdn.lane = self.job.lane.name, error = %format!("{error:#}"), "the position cannot be kept now");
            true
        })
    }

    fn tell(&mut self) {
        let (now, lane) = (self.job.now(), &self.job.lane.name);
        self.job.board.tell(lane, &self.flow, self.inbox.behind(), now.at);
        let (down, reason) = match self.flow.standing().health() {
            Health::Down(reason) | Health::Refused(reason) => (true, reason.as_str()),
            Health::Unknown | Health::Up => (false, ""),
        };
        let changed = down != self.said.down;
        if changed || (down && now.at >= self.said.at + SAY_AGAIN) {
            match (changed, down) {
                (true, true) => warn!(cdn.lane = lane, reason, "the provider takes no purges"),
                (true, false) => info!(cdn.lane = lane, "the provider takes purges again"),
                _ => {}
            }
            self.said = Said { down, at: now.at };
            self.signal(vec![report::reading("cdn_provider_down", lane, f64::from(u8::from(down)), now.ms)]);
        }
    }

    /// What was sent is not waited for: the next sender does again what has not ended.
    async fn leave(&mut self) -> anyhow::Result<()> {
        while let Some((keeper, kept)) = self.keeping.next().await {
            if !self.kept(keeper, kept) {
                return Ok(());
            }
        }
        self.keep();
        while self.keeping.next().await.is_some() {}
        Ok(())
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
