//! Reading a stream in order: every message of a filter after a sequence, each once, none left out, for as long as it takes.
//!
//! Beneath is a consumer without acks that lives in the server's memory. It may vanish, and messages on their way may be lost
//! with a connection; so the number of each delivery is checked, and on any trouble (a gap, missed heartbeats, another link, a
//! deleted consumer) a new consumer begins after the last message that was handed out.

mod subscription;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::bus::{ApiError, Bus, Link};
use crate::incoming::Stored;
use crate::retry::{Backoff, Schedule};
use subscription::{Subscription, Trouble};

/// Reopening: work has to resume within five seconds, so the waits stay well below.
const REOPEN: Schedule =
    Schedule { first: std::time::Duration::from_millis(50), longest: std::time::Duration::from_secs(1) };

/// When the end is waited for and nothing comes for so long, it is asked whether something will: messages may have been removed before they were delivered.
const RECOUNT: std::time::Duration = std::time::Duration::from_millis(250);

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first message after this sequence; 0 is the oldest there is.
    After(u64),
    /// With the first message that the stream took at or after this Unix millisecond.
    Since(u64),
    /// With the newest message of each subject, then whatever comes.
    LastPerSubject,
}

/// What to read.
#[derive(Debug, Clone)]
pub struct FollowOptions {
    /// The stream.
    pub stream: String,
    /// A subject, perhaps with wildcards.
    pub filter: String,
    /// Further subjects, none of which overlaps with another.
    pub and: Vec<String>,
    /// Where to begin.
    pub start: Start,
    /// Messages asked for at once; up to half as many again lie in memory.
    pub max_messages: usize,
    /// Bytes asked for at once, likewise; at least the server's `max_payload`.
    pub max_bytes: usize,
}

impl FollowOptions {
    /// Settings for throughput: at most 4096 messages or 9 MiB at once.
    pub fn new(stream: impl Into<String>, filter: impl Into<String>, start: Start) -> Self {
        let (stream, filter) = (stream.into(), filter.into());
        Self { stream, filter, and: Vec::new(), start, max_messages: 4096, max_bytes: 9 << 20 }
    }

    /// And this subject, in the one order of the stream.
    #[must_use]
    pub fn and(mut self, filter: impl Into<String>) -> Self {
        self.and.push(filter.into());
        self
    }
}

/// Why reading cannot go on: everything else heals by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The stream was deleted and made again, or lost its end: sequences no longer mean what they meant.
    #[error("stream {stream} is not the one that was read up to {read}: {reason}")]
    Replaced {
        /// The stream.
        stream: String,
        /// The last sequence handed out.
        read: u64,
        /// How that is known.
        reason: String,
    },
    /// The server refuses the consumer.
    #[error("stream {stream} cannot be read: {reason}")]
    Refused {
        /// The stream.
        stream: String,
        /// What the server said.
        reason: String,
    },
}

/// A reader. [`Follow::next`] may be dropped at any await point without losing anything.
pub struct Follow {
    bus: Bus,
    options: FollowOptions,
    progress: Progress,
    link: watch::Receiver<Link>,
    waits: Backoff,
    state: State,
}

/// What was read so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// The last sequence handed out; None before the first one of a start that names no sequence.
    read: Option<u64>,
    /// When the stream was made; None before it was first seen.
    stream_created_ms: Option<i64>,
}

enum State {
    Opening(BoxFuture<'static, Result<Subscription, OpenError>>),
    Open(Box<Subscription>),
    Over(FollowError),
}

/// Why a subscription could not be opened.
pub(crate) enum OpenError {
    Passing(ApiError),
    Final(FollowError),
}

impl Bus {
    /// Reads a stream in order.
    pub fn follow(&self, options: FollowOptions) -> Follow {
        let read = match options.start {
            Start::After(sequence) => Some(sequence),
            Start::Since(_) | Start::LastPerSubject => None,
        };
        let progress = Progress { read, stream_created_ms: None };
        let state = State::Opening(open(self, &options, progress, None));
        Follow { bus: self.clone(), link: self.link(), waits: Backoff::new(REOPEN), options, progress, state }
    }
}

impl Follow {
    /// The next message, however long that takes.
    pub async fn next(&mut self) -> Result<Stored, FollowError> {
        loop {
            if let Some(message) = self.advance(false).await? {
                return Ok(message);
            }
        }
    }

    /// The next message, or None when there is none behind the last one at present.
    pub async fn next_if_any(&mut self) -> Result<Option<Stored>, FollowError> {
        self.advance(true).await
    }

    /// The next message if it has arrived already.
    pub fn ready(&mut self) -> Option<Result<Stored, FollowError>> {
        let State::Open(subscription) = &mut self.state else { return None };
        let found = subscription.message().now_or_never()?;
        self.taken(found).transpose()
    }

    /// The last sequence handed out, or where reading began.
    pub fn position(&self) -> u64 {
        self.progress.read.unwrap_or_default()
    }

    /// Whether, as far as is known, nothing waits behind the last message.
    pub fn is_caught_up(&self) -> bool {
        matches!(&self.state, State::Open(subscription) if subscription.pending == 0)
    }

    /// How many messages wait behind the last one, as far as is known.
    pub fn behind(&self) -> u64 {
        match &self.state {
            State::Open(subscription) => subscription.pending,
            State::Opening(_) | State::Over(_) => 0,
        }
    }

    /// One step; None when it gave no message. With `stop_at_end`, None means that the end is reached.
    async fn advance(&mut self, stop_at_end: bool) -> Result<Option<Stored>, FollowError> {
        loop {
            let found = match &mut self.state {
                State::Over(error) => return Err(error.clone()),
                State::Opening(opening) => {
                    let opened = opening.await;
                    self.opened(opened);
                    continue;
                }
                State::Open(subscription) if stop_at_end && subscription.pending == 0 => return Ok(None),
                State::Open(subscription) => {
                    let this = subscription.link;
                    let found = tokio::select! {
                        biased;
                        found = subscription.message() => Some(found),
                        _ = self.link.wait_for(|link| *link != this) => Some(Err(Trouble::OtherLink)),
                        () = tokio::time::sleep(RECOUNT), if stop_at_end => None,
                    };
                    match found {
                        Some(found) => found,
                        None => match subscription.recount(&self.bus, &self.options.stream).await {
                            Ok(()) => continue,
                            Err(error) => Err(Trouble::Library(error.to_string())),
                        },
                    }
                }
            };
            if let Some(message) = self.taken(found)? {
                return Ok(Some(message));
            }
        }
    }

    fn opened(&mut self, opened: Result<Subscription, OpenError>) {
        match opened {
            Ok(subscription) => {
                self.progress.stream_created_ms = Some(subscription.stream_created_ms);
                self.state = State::Open(Box::new(subscription));
            }
            Err(OpenError::Final(error)) => self.state = State::Over(error),
            Err(OpenError::Passing(error)) => {
                debug!(stream = %self.options.stream, error = %error, "a stream cannot be read yet");
                self.reopen(true);
            }
        }
    }

    fn taken(&mut self, found: Result<Stored, Trouble>) -> Result<Option<Stored>, FollowError> {
        match found {
            Ok(message) => {
                self.progress.read = Some(message.sequence);
                self.waits.reset();
                Ok(Some(message))
            }
            Err(trouble) => {
                warn!(stream = %self.options.stream, filter = %self.options.filter, after = self.position(), reason = %trouble, "reading a stream begins anew after the last message");
                self.reopen(!matches!(trouble, Trouble::OtherLink));
                Ok(None)
            }
        }
    }

    fn reopen(&mut self, after_a_wait: bool) {
        let wait = after_a_wait.then(|| self.waits.next_wait());
        self.state = State::Opening(open(&self.bus, &self.options, self.progress, wait));
    }
}

fn open(
    bus: &Bus,
    options: &FollowOptions,
    progress: Progress,
    wait: Option<std::time::Duration>,
) -> BoxFuture<'static, Result<Subscription, OpenError>> {
    let (bus, options) = (bus.clone(), options.clone());
    async move {
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
        }
        bus.connected().await;
        Subscription::open(&bus, &options, progress).await
    }
    .boxed()
}
