//! Delivering: at most one notification of a lane at a time, so that they arrive in their order, and a bounded number to each receiver, so that one that is slow
//! delays nobody else. What fails is tried again for more than an hour; what is refused, or too old by then, becomes a dead letter.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use keelson_kit::dead_letter;
use keelson_kit::failure::Failure;
use keelson_kit::fault;
use keelson_kit::lease::Lease;
use keelson_kit::publish::PublishError;
use keelson_kit::retry::{Schedule, wait_for_attempt};
use keelson_kit::role::Context;
use keelson_kit::trace;
use keelson_schemas::alerting::{Notify, Signals};
use keelson_schemas::envelope::TraceContext;
use tracing::{Instrument, Span, error, info, info_span, warn};

use super::dispatch::Dispatch;
use super::failures;
use super::group::{Group, GroupId};
use super::outbox::Done;
use crate::receivers::Receivers;

/// Deliveries to one receiver in one way at once.
const AT_ONCE: usize = 8;
/// Between tries of a delivery.
const TRIES: Schedule = Schedule { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
/// A notification that is older, and fails, is given up: long enough to outlive an hour's outage.
const GIVE_UP_AFTER_MS: u64 = 70 * 60 * 1000;
/// How long after a dead letter that the bus did not take everything is tried again.
const BURY_AGAIN_MS: u64 = 10_000;

/// Takes notifications to their receivers.
pub struct Courier {
    ctx: Context,
    lease: Lease,
    receivers: Arc<Receivers>,
    outlets: HashMap<Outlet, Traffic>,
    /// The lanes that are being delivered.
    under_way: BTreeSet<(GroupId, String)>,
    /// Tries that failed and were not told of yet.
    failures: BTreeMap<Outlet, u64>,
    is_closed: bool,
}

/// A receiver, and a way to it.
type Outlet = (String, String);

/// Deliveries by an outlet.
#[derive(Debug, Default)]
struct Traffic {
    under_way: usize,
    waiting: VecDeque<GroupId>,
    /// The same: whether a group waits is asked often.
    waits: HashSet<GroupId>,
}

/// Why a notification is given up.
pub struct GivenUp {
    reason: String,
    /// Whether it is not refused but too old: then the receiver is told of it anew.
    may_pass: bool,
}

/// A notification that is under way.
pub struct Parcel {
    group: GroupId,
    number: u64,
    notify: Notify,
}

impl Courier {
    /// With nothing under way.
    #[must_use]
    pub fn new(ctx: &Context, lease: &Lease, receivers: Arc<Receivers>) -> Self {
        Self {
            ctx: ctx.clone(),
            lease: lease.clone(),
            receivers,
            outlets: HashMap::new(),
            under_way: BTreeSet::new(),
            failures: BTreeMap::new(),
            is_closed: false,
        }
    }

    /// Takes up no more.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// The delivery of what is sealed in a lane, which is known to be written; none if it has to wait, or is under way.
    pub fn deliver(
        &mut self,
        id: &GroupId,
        group: &Group,
        integration: &str,
    ) -> Option<BoxFuture<'static, Done>> {
        let number = group.lanes.get(integration)?.sealed.as_ref()?.number;
        let place = (id.clone(), integration.to_owned());
        // One that was replaced must not go on for longer than it takes to see that.
        if self.is_closed || self.under_way.contains(&place) || !self.lease.is_valid() {
            return None;
        }
        let traffic = self.outlets.entry((group.receiver.clone(), integration.to_owned())).or_default();
        if !traffic.takes(id) {
            return None;
        }
        self.under_way.insert(place);
        let parcel = Parcel { group: id.clone(), number, notify: group.notification(id, integration)? };
        let span = span(&parcel.notify, group.trace(integration));
        let receivers = self.receivers.clone();
        let delivering = async move {
            fault::point("notify.delivering");
            let result = receivers.send(&parcel.notify).await;
            fault::point("notify.delivered");
            Done::Delivered(Box::new(parcel), result)
        };
        Some(delivering.instrument(span).boxed())
    }

    /// Takes in how a delivery went; what is refused, or too old, is to be buried.
    pub fn delivered(
        &mut self,
        dispatch: &mut Dispatch,
        parcel: Box<Parcel>,
        result: Result<(), Failure>,
    ) -> Option<BoxFuture<'static, Done>> {
        let now_ms = self.ctx.clock.now_ms();
        let Parcel { group, number, notify } = &*parcel;
        let lane = dispatch.group(group).and_then(|entry| entry.group.lanes.get(&notify.integration));
        let attempts = lane.map_or(0, |lane| lane.attempts) + 1;
        let since_ms = lane.and_then(|lane| lane.sealed.as_ref()).map_or(now_ms, |sealed| sealed.since_ms);
        if result.is_err() {
            *self.failures.entry(outlet(notify)).or_default() += 1;
        }
        match result {
            Ok(()) => {
                info!(
                    receiver = notify.receiver,
                    integration = notify.integration,
                    group.key = notify.group_key,
                    notification.key = notify.key,
                    alerts = notify.alerts.len(),
                    "notified"
                );
                dispatch.sealed(group, &notify.integration, *number, |lane, _| lane.delivered(now_ms));
            }
            Err(Failure::Retry { after, reason }) if now_ms < since_ms.saturating_add(GIVE_UP_AFTER_MS) => {
                warn!(
                    receiver = notify.receiver,
                    integration = notify.integration,
                    group.key = notify.group_key,
                    attempts,
                    reason,
                    "a notification could not be delivered; trying again"
                );
                let wait = after.unwrap_or_else(|| wait_for_attempt(TRIES, attempts));
                let again_ms = now_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                dispatch
                    .sealed(group, &notify.integration, *number, |lane, _| lane.failed(&reason, again_ms));
            }
            Err(failure) => {
                let may_pass = matches!(failure, Failure::Retry { .. });
                return Some(self.bury(parcel, GivenUp { reason: failure.to_string(), may_pass }, attempts));
            }
        }
        self.over(&parcel);
        None
    }

    /// Dead-letters a notification. Until that is done nothing else of its lane is delivered.
    fn bury(&self, parcel: Box<Parcel>, given_up: GivenUp, attempts: u32) -> BoxFuture<'static, Done> {
        let notify = &parcel.notify;
        error!(
            receiver = notify.receiver,
            integration = notify.integration,
            group.key = notify.group_key,
            attempts,
            reason = given_up.reason,
            "a notification is given up and dead-lettered"
        );
        let bus = self.ctx.bus.clone();
        let burying = async move {
            let notify = &parcel.notify;
            let said = format!("{} by {}: {}", notify.receiver, notify.integration, given_up.reason);
            let result = dead_letter::bury_command(&bus, &notify.key, notify, &said, attempts).await;
            fault::point("notify.dead-lettered");
            Done::Buried(parcel, given_up, result.map(drop))
        };
        burying.boxed()
    }

    /// Takes in whether a notification that is given up is a dead letter now.
    pub fn buried(
        &mut self,
        dispatch: &mut Dispatch,
        parcel: &Parcel,
        GivenUp { reason, may_pass }: &GivenUp,
        result: Result<(), PublishError>,
    ) {
        let now_ms = self.ctx.clock.now_ms();
        let again_ms = now_ms.saturating_add(BURY_AGAIN_MS);
        dispatch.sealed(
            &parcel.group,
            &parcel.notify.integration,
            parcel.number,
            |lane, changes| match result {
                Ok(()) if *may_pass => lane.tell_anew(reason, changes, now_ms),
                Ok(()) => lane.given_up(reason),
                Err(error) => {
                    lane.failed(&format!("{reason}; and it cannot be dead-lettered: {error}"), again_ms)
                }
            },
        );
        self.over(parcel);
    }

    fn over(&mut self, parcel: &Parcel) {
        self.under_way.remove(&(parcel.group.clone(), parcel.notify.integration.clone()));
        if let Some(traffic) = self.outlets.get_mut(&outlet(&parcel.notify)) {
            traffic.under_way = traffic.under_way.saturating_sub(1);
        }
    }

    /// A group that waits for a way that has room now.
    pub fn next_waiting(&mut self) -> Option<GroupId> {
        self.outlets.values_mut().find_map(Traffic::next)
    }

    /// How often delivering failed since this was last asked, for rules to look at.
    pub fn failures(&mut self) -> Signals {
        let now_ms = self.ctx.clock.now_ms();
        let reading = |((receiver, integration), count): (Outlet, u64)| {
            failures::reading(&receiver, &integration, count, now_ms)
        };
        Signals { readings: std::mem::take(&mut self.failures).into_iter().map(reading).collect() }
    }
}

impl Traffic {
    /// Whether there is room for one more; if not, its group waits for its turn.
    fn takes(&mut self, id: &GroupId) -> bool {
        let has_room = self.under_way < AT_ONCE;
        if has_room {
            self.under_way += 1;
        } else if self.waits.insert(id.clone()) {
            self.waiting.push_back(id.clone());
        }
        has_room
    }

    fn next(&mut self) -> Option<GroupId> {
        let next = if self.under_way < AT_ONCE { self.waiting.pop_front() } else { None };
        next.inspect(|id| _ = self.waits.remove(id))
    }
}

fn outlet(notify: &Notify) -> Outlet {
    (notify.receiver.clone(), notify.integration.clone())
}

/// The span of a delivery, if what led to it is traced.
fn span(notify: &Notify, trace: Option<&String>) -> Span {
    let Some(trace) = trace else { return Span::none() };
    let span = info_span!(parent: None, "notify", otel.name = %format!("notify {}", notify.receiver), otel.kind = "client", receiver = %notify.receiver, integration = %notify.integration, notification.key = %notify.key);
    trace::continue_from(&span, &TraceContext { traceparent: Some(trace.clone()), tracestate: None });
    span
}
