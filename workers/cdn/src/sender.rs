//! The sender of one lane, for as long as this process holds its lease: reads what is asked for, sends it, sends it again, looks, tells. What is decided is
//! decided in [`crate::flow`].

mod begin;
mod keep;
mod take;
mod tell;

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use keelson_kit::fault;
use keelson_kit::follow::Follow;
use keelson_kit::lease::Lease;
use keelson_kit::role::Context;
use tracing::debug;

use crate::batch::Key;
use crate::board::Board;
use crate::flow::{Answer, Call, Flow, Look, Now, Sight};
use crate::index::Index;
use crate::intake::Intake;
use crate::keeper::Keeper;
use crate::ledger::{Ledger, LedgerError};
use crate::provider::Provider;
use crate::setup::{Lane, Setup};
use tell::Said;

/// The stream with what is asked for.
pub const STREAM: &str = "EVENTS";

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
    /// Where calls are written down that are to be made once only.
    ledger: Option<Ledger>,
    calls: FuturesUnordered<BoxFuture<'static, (u64, Result<Answer, Fenced>)>>,
    looks: FuturesUnordered<BoxFuture<'static, (Look, Sight)>>,
    reports: FuturesUnordered<BoxFuture<'static, Vec<Key>>>,
    keep_at: Instant,
    said: Said,
}

impl Tenure<'_> {
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
                Some((call, answer)) = self.calls.next(), if !self.calls.is_empty() => {
                    let Ok(answer) = answer else { return Ok(()) };
                    self.answered(call, answer);
                }
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
            let (provider, ledger) = (Arc::clone(&self.job.lane.provider), self.ledger.clone());
            fault::point("cdn.sending");
            self.calls.push(async move { (call.id, make(&call, &*provider, ledger.as_ref()).await) }.boxed());
        }
        while let Some(look) = self.flow.next_look(now) {
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

/// Another sender has been there.
struct Fenced;

/// Makes a call, once it is written down if it has to be.
async fn make(call: &Call, provider: &dyn Provider, ledger: Option<&Ledger>) -> Result<Answer, Fenced> {
    if let (Some(ledger), Some(record)) = (ledger, &call.record) {
        match ledger.write(&call.batch.reference, record).await {
            Ok(()) => {}
            Err(LedgerError::Fenced) => return Err(Fenced),
            Err(LedgerError::Refused(reason)) => return Ok(Answer::Refused(reason)),
        }
    }
    Ok(provider.send(&call.batch).await)
}
