//! The answering side.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use async_nats::HeaderMap;
use async_nats::service::{Request, Service, ServiceExt, endpoint::Endpoint};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use keelson_schemas::envelope::{CONTENT_TYPE, TRACEPARENT, TRACESTATE, TraceContext};
use keelson_schemas::{codec, subject};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{Instrument, Span, debug, error, info_span, warn};
use uuid::Uuid;

use super::answered::Answered as Questions;
use super::parts::{PART, cut, label};
use super::{ACCEPT, Refusal};
use crate::bus::Bus;
use crate::incoming::Headers;
use crate::role::Context;
use crate::tasks::{Tasks, panic_message};
use crate::trace;

/// Questions that one endpoint works on at once, unless it says otherwise; more wait in the subscription.
const AT_ONCE: usize = 64;
/// The same for what only an owner answers: that is large, and the same question may come again while it is answered.
const AT_ONCE_EXCLUSIVE: usize = 1;

/// An answer as it will be sent; None is silence.
type Answered = Result<Option<Bytes>, Refusal>;
type Handler = Arc<dyn Fn(Bytes, Option<String>, Format) -> BoxFuture<'static, Answered> + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    MsgPack,
    Json,
}

/// The questions that one worker answers.
pub struct Queries {
    worker: &'static str,
    endpoints: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    noun: String,
    /// Whether every instance is asked rather than one of them.
    exclusive: bool,
    /// How many of these questions are worked on at once.
    at_once: usize,
    handler: Handler,
}

impl Queries {
    /// The questions of `worker`, none so far.
    pub fn of(worker: &'static str) -> Self {
        Self { worker, endpoints: Vec::new() }
    }

    /// A question that any replica answers; each is put to one of them. An empty body is taken for `null`.
    #[must_use]
    pub fn with<Q, A, F, Fut>(self, noun: impl Into<String>, answer: F) -> Self
    where
        Q: DeserializeOwned + Send + 'static,
        A: Serialize,
        F: Fn(Q) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<A, Refusal>> + Send + 'static,
    {
        self.at_once(AT_ONCE, noun, answer)
    }

    /// [`Queries::with`], with a bound of one's own on how many of these questions are worked on at once: for those whose answers wait for somebody else.
    #[must_use]
    pub fn at_once<Q, A, F, Fut>(self, at_once: usize, noun: impl Into<String>, answer: F) -> Self
    where
        Q: DeserializeOwned + Send + 'static,
        A: Serialize,
        F: Fn(Q) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<A, Refusal>> + Send + 'static,
    {
        let answer = move |question| answer(question).map(|answer| answer.map(Some));
        self.add(noun.into(), at_once, false, answer)
    }

    /// A question that only one replica may answer, such as the owner of a partition: it is put to all of them, and those
    /// that may not stay silent by `None`. A replica that is stopped can so swallow no question meant for its successor.
    #[must_use]
    pub fn exclusive<Q, A, F, Fut>(self, noun: impl Into<String>, answer: F) -> Self
    where
        Q: DeserializeOwned + Send + 'static,
        A: Serialize,
        F: Fn(Q) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<A>, Refusal>> + Send + 'static,
    {
        self.add(noun.into(), AT_ONCE_EXCLUSIVE, true, answer)
    }

    fn add<Q, A, F, Fut>(mut self, noun: String, at_once: usize, exclusive: bool, answer: F) -> Self
    where
        Q: DeserializeOwned + Send + 'static,
        A: Serialize,
        F: Fn(Q) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<A>, Refusal>> + Send + 'static,
    {
        let handler: Handler =
            Arc::new(move |body, content_type, format| match decode(&body, content_type.as_deref()) {
                Ok(question) => answer(question).map(move |answer| encode(answer?, format)).boxed(),
                Err(refusal) => std::future::ready(Err(refusal)).boxed(),
            });
        self.endpoints.push(Entry { noun, exclusive, at_once, handler });
        self
    }
}

fn decode<Q: DeserializeOwned>(body: &[u8], content_type: Option<&str>) -> Result<Q, Refusal> {
    let question = if body.is_empty() {
        codec::decode(Some(codec::JSON), b"null")
    } else {
        codec::decode(content_type, body)
    };
    Ok(question?)
}

fn encode<A: Serialize>(answer: Option<A>, format: Format) -> Answered {
    let Some(answer) = answer else { return Ok(None) };
    let encoded = match format {
        Format::MsgPack => codec::encode(&answer).map_err(|error| error.to_string()),
        Format::Json => serde_json::to_vec(&answer).map_err(|error| error.to_string()),
    };
    let unwritable = |error| Refusal::new(500, format!("the answer cannot be written: {error}"));
    encoded.map(|bytes| Some(bytes.into())).map_err(unwritable)
}

impl Context {
    /// Answers the questions of a worker until `self.tasks` is cancelled. When this returns, it can be asked.
    ///
    /// # Errors
    /// When the bus does not take the subscriptions.
    pub async fn answer(&self, queries: Queries) -> anyhow::Result<()> {
        let name = format!("keelson-{}", queries.worker);
        let started = self.bus.client().service_builder().start(name, env!("CARGO_PKG_VERSION")).await;
        let service = Arc::new(started.map_err(|error| anyhow!(error)).context("start a micro service")?);
        for entry in queries.endpoints {
            let desk = Desk {
                subject: subject::qry(queries.worker, &entry.noun),
                entry,
                service: service.clone(),
                bus: self.bus.clone(),
                answered: Arc::default(),
            };
            desk.open(&self.tasks).await?;
        }
        self.bus.round_trip().await.context("subscribe")
    }
}

/// Where one question is answered.
#[derive(Clone)]
struct Desk {
    subject: String,
    entry: Entry,
    service: Arc<Service>,
    bus: Bus,
    answered: Arc<Questions>,
}

impl Desk {
    async fn open(self, tasks: &Tasks) -> anyhow::Result<()> {
        let mut first = Some(self.subscribe().await?);
        let (group, name) = (tasks.clone(), format!("answer {}", self.subject));
        tasks.spawn(name, move || {
            let (desk, group, endpoint) = (self.clone(), group.clone(), first.take());
            async move {
                let endpoint = match endpoint {
                    Some(endpoint) => endpoint,
                    None => desk.subscribe().await?,
                };
                desk.serve(endpoint, &group).await
            }
        });
        Ok(())
    }

    async fn subscribe(&self) -> anyhow::Result<Endpoint> {
        let queue_group = match self.entry.exclusive {
            true => Uuid::new_v4().simple().to_string(),
            false => "q".to_owned(),
        };
        let name = self.entry.noun.replace('.', "-");
        let endpoint =
            self.service.endpoint_builder().name(name).queue_group(queue_group).add(&self.subject).await;
        endpoint.map_err(|error| anyhow!(error)).with_context(|| format!("subscribe to {}", self.subject))
    }

    async fn serve(&self, mut endpoint: Endpoint, tasks: &Tasks) -> anyhow::Result<()> {
        let room = Arc::new(Semaphore::new(self.entry.at_once));
        let mut working = JoinSet::new();
        loop {
            let permit = room.clone().acquire_owned().await?;
            let request = tokio::select! {
                () = tasks.cancelled() => break,
                request = endpoint.next() => request.context("the subscription ended")?,
            };
            while working.try_join_next().is_some() {}
            let (desk, span) = (self.clone(), self.span(&request));
            working.spawn(
                async move {
                    desk.attend(request).await;
                    drop(permit);
                }
                .instrument(span),
            );
        }
        // Whoever asks from now on finds another; who has asked gets an answer.
        let _ = endpoint.stop().await;
        while working.join_next().await.is_some() {}
        Ok(())
    }

    fn span(&self, request: &Request) -> Span {
        let span = info_span!("answer", otel.name = %format!("answer {}", self.subject), otel.kind = "server", messaging.destination.name = %self.subject);
        let headers = Headers::new(request.message.headers.clone());
        let owned = |name| headers.get(name).map(str::to_owned);
        trace::continue_from(
            &span,
            &TraceContext { traceparent: owned(TRACEPARENT), tracestate: owned(TRACESTATE) },
        );
        span
    }

    async fn attend(&self, request: Request) {
        let question = self.question(&request);
        if self.entry.exclusive && self.answered.has(&question) {
            return;
        }
        let headers = Headers::new(request.message.headers.clone());
        let format = match headers.get(ACCEPT) {
            Some(accept) if accept.contains(codec::MSGPACK) => Format::MsgPack,
            _ => Format::Json,
        };
        let content_type = headers.get(CONTENT_TYPE).map(str::to_owned);
        let body = request.message.payload.clone();
        // The handler is called inside, so that a panic before its first await is caught too.
        let answer = AssertUnwindSafe(async { (self.entry.handler)(body, content_type, format).await });
        let answer = answer.catch_unwind().await.unwrap_or_else(|panic| {
            error!(subject = %self.subject, panic = %panic_message(&*panic), "answering a question panicked");
            Err(Refusal::new(500, "the answerer failed; its log says why"))
        });
        let spoke = !matches!(answer, Ok(None));
        match self.respond(&request, answer, format).await {
            Ok(()) if spoke => self.answered.note(question),
            Ok(()) => {}
            Err(error) => debug!(subject = %self.subject, %error, "an answer could not be sent"),
        }
    }

    /// Names it among all. What was answered over another connection may have been lost with that.
    fn question(&self, request: &Request) -> String {
        let inbox = request.message.reply.as_deref().unwrap_or_default();
        format!("{inbox} {}", self.bus.link().borrow().connects)
    }

    async fn respond(&self, request: &Request, answer: Answered, format: Format) -> anyhow::Result<()> {
        let answer = match answer {
            Ok(None) => return Ok(()),
            Ok(Some(answer)) => answer,
            Err(refusal) => return refuse(request, refusal).await,
        };
        let Some(parts) = cut(&answer) else {
            warn!(bytes = answer.len(), "an answer is too large to be sent");
            return refuse(request, Refusal::new(500, "the answer is too large")).await;
        };
        let id = Uuid::new_v4().simple().to_string();
        for (index, part) in parts.iter().enumerate() {
            let mut headers = HeaderMap::new();
            headers
                .insert(CONTENT_TYPE, if format == Format::MsgPack { codec::MSGPACK } else { codec::JSON });
            headers.insert(PART, label(&id, index, parts.len()));
            self.send(request, part.clone(), headers, index + 1 == parts.len()).await?;
        }
        Ok(())
    }

    /// The last part goes through the service, which counts it for `$SRV.STATS`.
    async fn send(
        &self,
        request: &Request,
        part: Bytes,
        headers: HeaderMap,
        last: bool,
    ) -> anyhow::Result<()> {
        if last {
            return Ok(request.respond_with_headers(Ok(part), headers).await?);
        }
        let reply = request.message.reply.clone().context("the question names nobody to answer to")?;
        Ok(self.bus.client().publish_with_headers(reply, headers, part).await?)
    }
}

async fn refuse(request: &Request, refusal: Refusal) -> anyhow::Result<()> {
    // A header holds one line.
    let status = refusal.reason.replace(['\r', '\n'], " ");
    let error = async_nats::service::error::Error { status, code: refusal.status.into() };
    Ok(request.respond(Err(error)).await?)
}
