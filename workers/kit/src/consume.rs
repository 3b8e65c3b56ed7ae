//! Durable consumers, under supervision: whatever happens to the consumer, the stream, the server or the connection, work goes on
//! within five seconds of the bus being back.
//!
//! A message is acknowledged after its handler has returned, confirmed by the server. Messages are asked for one by one as
//! slots become free, so that none waits here while its acknowledgement is due, and a slow or bad message holds up nothing but
//! its own slot.

mod ack;
mod attempts;
mod attend;
mod puller;
mod verdict;
mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use keelson_bus_config::ConsumerSpec;
use keelson_schemas::id;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::bus::{Bus, Link};
use crate::failure::Failure;
use crate::incoming::Stored;
use crate::retry::{Backoff, Schedule};
use crate::tasks::Tasks;
use attend::{Arrival, Attendant};
use puller::Puller;
use watchdog::Watchdog;

pub(crate) use ack::BURIED;
pub use verdict::{Burial, BurialKind};

/// Reopening a consumer: at once the first time, then with growing waits well below the five seconds.
const REOPEN: Schedule = Schedule { first: Duration::from_millis(50), longest: Duration::from_secs(1) };

/// What a worker does with the messages of a consumer.
pub trait Handler: Send + Sync + 'static {
    /// Handles one message. It is acknowledged after `Ok`, so the effect and its record must be durable by then. It may
    /// come again after `Ok` too, when the acknowledgement was lost.
    fn handle(&self, delivery: &Delivery) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Told when a message is given up, after its dead letter is stored and before it is terminated; may be told again.
    fn buried(
        &self,
        delivery: &Delivery,
        burial: &Burial,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = (delivery, burial);
        async { Ok(()) }
    }
}

/// A message on its way through a handler.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The stream it is on.
    pub stream: String,
    /// The consumer it came through.
    pub consumer: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The message.
    pub message: Stored,
    /// When the stream took it, Unix nanoseconds: with the sequence it names the message even if the stream was made anew.
    pub stored_ns: u64,
}

impl Delivery {
    /// The message's id; one derived from its place, when it was published without.
    pub fn id(&self) -> String {
        let by_place = || id::derive("message", &[&self.stream, &self.place()]);
        self.message.headers.envelope().id.unwrap_or_else(by_place)
    }

    /// The id of what is published because of this message; `what` tells several consequences apart.
    pub fn consequence(&self, what: &str) -> String {
        id::consequence(&self.id(), what)
    }

    /// `<sequence>@<stored at, ns>`: the one place this message has for ever.
    pub fn place(&self) -> String {
        format!("{}@{}", self.message.sequence, self.stored_ns)
    }
}

/// How a consumer's messages are handled.
#[derive(Debug, Clone, Copy)]
pub struct ConsumeOptions {
    /// Messages handled at once.
    pub concurrency: usize,
    /// Failures after which a message is given up.
    pub max_failures: u32,
    /// The waits between attempts.
    pub retry: Schedule,
    /// How long one attempt may take.
    pub time_limit: Duration,
}

impl Default for ConsumeOptions {
    /// 16 at once; given up after 20 failures, about an hour; an attempt may take an hour.
    fn default() -> Self {
        Self {
            concurrency: 16,
            max_failures: 20,
            retry: Schedule::FAR,
            time_limit: Duration::from_secs(3600),
        }
    }
}

impl Tasks {
    /// Handles the messages of a durable consumer until these tasks are cancelled, as the supervised task `consume NAME`.
    pub fn consume<H: Handler>(&self, bus: &Bus, spec: ConsumerSpec, options: ConsumeOptions, handler: H) {
        let (bus, tasks, handler) = (bus.clone(), self.clone(), Arc::new(handler));
        self.spawn(format!("consume {}", spec.name), move || {
            let consumer = Consumer {
                attendant: Arc::new(Attendant::new(&bus, &spec, options, handler.clone())),
                link: bus.link(),
                bus: bus.clone(),
                spec: spec.clone(),
                options,
                tasks: tasks.clone(),
                handling: JoinSet::new(),
            };
            consumer.run()
        });
    }
}

enum Event {
    Arrived(Arrival),
    Handled,
    Stalled(String),
    Broken(String),
    Cancelled,
}

struct Consumer<H> {
    bus: Bus,
    link: watch::Receiver<Link>,
    spec: ConsumerSpec,
    options: ConsumeOptions,
    tasks: Tasks,
    attendant: Arc<Attendant<H>>,
    handling: JoinSet<()>,
}

/// Why a subscription was left.
enum Left {
    Cancelled,
    Trouble(String),
}

impl<H: Handler> Consumer<H> {
    async fn run(mut self) -> anyhow::Result<()> {
        let tasks = self.tasks.clone();
        let mut waits = Backoff::new(REOPEN);
        loop {
            let opened = tokio::select! {
                () = tasks.cancelled() => break,
                opened = Puller::open(&self.bus, &self.spec) => opened,
            };
            let reason = match opened {
                Err(reason) => reason,
                Ok(puller) => match self.pull(puller, &mut waits).await {
                    Left::Cancelled => break,
                    Left::Trouble(reason) => reason,
                },
            };
            let wait = waits.next_wait();
            debug!(consumer = %self.spec.name, reason, wait_ms = %wait.as_millis(), "a consumer is opened again");
            tokio::select! {
                () = tasks.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        while self.handling.join_next().await.is_some() {}
        Ok(())
    }

    async fn pull(&mut self, mut puller: Puller, waits: &mut Backoff) -> Left {
        let mut watchdog = Watchdog::new(&self.bus, &self.spec);
        loop {
            match self.wait(&mut puller, &mut watchdog).await {
                Event::Arrived(arrival) => {
                    waits.reset();
                    watchdog.progress();
                    let attendant = self.attendant.clone();
                    self.handling.spawn(async move { attendant.attend(arrival).await });
                }
                Event::Handled => watchdog.progress(),
                Event::Stalled(reason) => {
                    warn!(consumer = %self.spec.name, stream = %self.spec.stream, reason, "a consumer stalls");
                    if self.handling.is_empty() {
                        return Left::Trouble(reason);
                    }
                }
                Event::Broken(reason) => {
                    warn!(consumer = %self.spec.name, stream = %self.spec.stream, reason, "a consumer was interrupted");
                    return Left::Trouble(reason);
                }
                Event::Cancelled => {
                    puller.hand_back(&self.bus).await;
                    return Left::Cancelled;
                }
            }
        }
    }

    async fn wait(&mut self, puller: &mut Puller, watchdog: &mut Watchdog) -> Event {
        let (link, handling) = (puller.link(), self.handling.len());
        if let Err(reason) = puller.ask_for(self.options.concurrency.max(1).saturating_sub(handling)).await {
            return Event::Broken(reason);
        }
        tokio::select! {
            biased;
            () = self.tasks.cancelled() => Event::Cancelled,
            _ = self.link.wait_for(|now| *now != link) => Event::Broken("the connection was lost".into()),
            Some(_) = self.handling.join_next() => Event::Handled,
            arrived = puller.next() => arrived.map_or_else(Event::Broken, Event::Arrived),
            reason = watchdog.stalled(handling) => Event::Stalled(reason),
        }
    }
}
