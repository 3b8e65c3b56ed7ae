//! A call to a service: to one of its instances, and to the next one where that may be.
//!
//! What comes first wins: no such service, its breaker is open, what is asked makes no sense or is not allowed, too many at once. Then instances are tried,
//! within one deadline: again only where a second time does no harm (the method says so, or an `Idempotency-Key`, or nothing was sent), only at an instance
//! that has not been tried, and only as far as the budget goes.

mod attempt;
mod request;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keelson_kit::clock::Clock;
use keelson_kit::kv::KvError;
use keelson_schemas::services::{
    Attempt, Call, CallAnswer, CallRefusal, CallReply, Force, Health, RefusedBecause,
};
use reqwest::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::attempt::{Answer, Fault, Sent};
use self::request::Request;
use crate::balance::{self, Candidate};
use crate::breaker::{Ended, Shut};
use crate::breakers::{Breakers, Permit, Switch};
use crate::budget::Budget;
use crate::config::CallConfig;
use crate::directory::{Directory, Instance, Known};
use crate::registration;

/// The longest that a call may take: within it the ingress, which asks, still answers.
pub const LONGEST: Duration = Duration::from_secs(25);
/// With less than this left nothing is tried again.
const WORTH_TRYING: Duration = Duration::from_millis(5);
/// When whoever finds too many calls under way may ask again.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// Calls services. Cheap to clone.
#[derive(Clone)]
pub struct Caller(Arc<Inner>);

struct Inner {
    directory: Directory,
    breakers: Breakers,
    client: Client,
    config: CallConfig,
    clock: Clock,
    turn: AtomicUsize,
    accounts: Mutex<HashMap<String, Arc<Account>>>,
}

/// What is counted of one service.
struct Account {
    budget: Mutex<Budget>,
    room: Arc<Semaphore>,
}

/// A call that has been let in.
struct Admitted {
    known: Arc<Known>,
    account: Arc<Account>,
    request: Request,
    deadline: Instant,
    _room: OwnedSemaphorePermit,
}

/// How the attempts at a call ended.
struct Outcome {
    last: Result<Answer, Fault>,
    instance: String,
    attempts: Vec<Attempt>,
}

impl Caller {
    /// Calls what is in the directory.
    #[must_use]
    pub fn new(
        directory: Directory,
        breakers: Breakers,
        client: Client,
        config: CallConfig,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner {
            directory,
            breakers,
            client,
            config,
            clock,
            turn: AtomicUsize::new(0),
            accounts: Mutex::default(),
        }))
    }

    /// Calls.
    ///
    /// # Errors
    /// Whether there is such a service cannot be told now.
    pub async fn call(&self, call: Call) -> Result<CallAnswer, KvError> {
        let known = self.find(&call.service).await?;
        Ok(match self.answer(&call, known).await {
            Ok(reply) => CallAnswer::Answered(reply),
            Err(refusal) => CallAnswer::Refused(refusal),
        })
    }

    /// The service. What this copy does not know may have been registered with another replica a moment ago.
    async fn find(&self, name: &str) -> Result<Option<Arc<Known>>, KvError> {
        match self.0.directory.service(name) {
            None if registration::name(name).is_ok() => self.0.directory.current(name).await,
            known => Ok(known),
        }
    }

    async fn answer(&self, call: &Call, known: Option<Arc<Known>>) -> Result<CallReply, CallRefusal> {
        let admitted = self.admit(call, known)?;
        let permit =
            self.0.breakers.admit(&admitted.known.breaker).map_err(|shut| open(&call.service, shut))?;
        let began = self.0.clock.now();
        let outcome = self.attempts(&admitted).await;
        let failed = match &outcome.last {
            Ok(answer) => answer.status >= 500,
            Err(fault) => fault.is_of_service(),
        };
        permit.ended(Ended { failed, took: self.0.clock.now() - began });
        outcome.told()
    }

    /// Everything that speaks against a call before it is made.
    fn admit(&self, call: &Call, known: Option<Arc<Known>>) -> Result<Admitted, CallRefusal> {
        let known = known.ok_or_else(|| {
            let named: String = call.service.chars().take(64).collect();
            refusal(RefusedBecause::NotRegistered, format!("no service is registered as {named:?}"))
        })?;
        known.breaker.would_admit().map_err(|shut| open(&call.service, shut))?;
        let request = Request::of(call, &known, &self.0.config)?;
        let account = self.account(&call.service);
        let room = account.room.clone().try_acquire_owned().map_err(|_| CallRefusal {
            retry_after_ms: Some(whole_ms(BUSY_FOR)),
            ..refusal(
                RefusedBecause::Busy,
                format!(
                    "{} calls to {} are under way, and no more may be (services.call.at_once)",
                    self.0.config.at_once, call.service
                ),
            )
        })?;
        account.budget.lock().unwrap_or_else(PoisonError::into_inner).called();
        let deadline = self.0.clock.now() + request.timeout;
        Ok(Admitted { known, account, request, deadline, _room: room })
    }

    async fn attempts(&self, call: &Admitted) -> Outcome {
        let instances = &call.known.instances;
        let mut tried = vec![false; instances.len()];
        let mut outcome =
            Outcome { last: Err(Fault::nobody()), instance: String::new(), attempts: Vec::new() };
        while let Some(place) = self.choose(instances, &tried, &call.known.service.name) {
            let Some(instance) = instances.get(place) else { break };
            tried[place] = true;
            let left = call.deadline.saturating_duration_since(self.0.clock.now());
            outcome.instance.clone_from(&instance.url);
            let (last, told) = self.attempt(instance, &call.request, left, outcome.attempts.len()).await;
            outcome.last = last;
            outcome.attempts.push(told);
            if !self.goes_on(call, &outcome.last, &tried) {
                break;
            }
        }
        outcome
    }

    /// Whether another instance is tried.
    fn goes_on(&self, call: &Admitted, last: &Result<Answer, Fault>, tried: &[bool]) -> bool {
        let (failed, sent) = match last {
            Ok(answer) => (answer.status >= 500, Sent::Yes),
            Err(fault) => (fault.is_of_service(), fault.sent),
        };
        let left = call.deadline.saturating_duration_since(self.0.clock.now());
        failed
            && (call.request.idempotent || sent == Sent::No)
            && tried.contains(&false)
            && left >= WORTH_TRYING
            && call.account.budget.lock().unwrap_or_else(PoisonError::into_inner).retry()
    }

    fn choose(&self, instances: &[Instance], tried: &[bool], service: &str) -> Option<usize> {
        let candidates: Vec<Candidate> = self.0.directory.with_health(service, |health| {
            let candidate = |(instance, tried): (&Instance, &bool)| Candidate {
                health: health
                    .and_then(|health| health.instances.get(&instance.url))
                    .map_or(Health::Unknown, |found| found.health),
                admits: instance.breaker.would_admit().is_ok(),
                barred: instance.breaker.forced() == Some(Force::Open),
                tried: *tried,
                outstanding: instance.outstanding.load(Ordering::Relaxed),
            };
            instances.iter().zip(tried).map(candidate).collect()
        });
        balance::choose(&candidates, self.0.turn.fetch_add(1, Ordering::Relaxed))
    }

    /// One attempt, and what is told of it.
    async fn attempt(
        &self,
        instance: &Instance,
        request: &Request,
        left: Duration,
        number: usize,
    ) -> (Result<Answer, Fault>, Attempt) {
        // None where the last instance is asked although its breaker is open.
        let permit = self.permit(&instance.breaker);
        let _under_way = UnderWay::at(instance);
        let began = self.0.clock.now();
        let made =
            attempt::make(&self.0.client, instance, request, left, number, self.0.config.max_response_bytes);
        let last = made.await;
        let took = self.0.clock.now() - began;
        let (status, error) = match &last {
            Ok(answer) => (Some(answer.status), None),
            Err(fault) => (fault.status, Some(fault.reason.clone())),
        };
        let failed = last.as_ref().map_or_else(Fault::is_of_service, |answer| answer.status >= 500);
        if let Some(permit) = permit {
            permit.ended(Ended { failed, took });
        }
        (last, Attempt { instance: instance.url.clone(), status, error, duration_ms: whole_ms(took) })
    }

    fn permit(&self, switch: &Arc<Switch>) -> Option<Permit> {
        self.0.breakers.admit(switch).ok()
    }

    fn account(&self, service: &str) -> Arc<Account> {
        let mut accounts = self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of services that are gone are left out now and then, so that there are never many more than services.
        if accounts.len() > 2 * self.0.directory.count() + 16 {
            accounts.retain(|name, _| self.0.directory.service(name).is_some());
        }
        let made = || {
            Arc::new(Account {
                budget: Mutex::new(Budget::of(self.0.config.retry_budget)),
                room: Arc::new(Semaphore::new(self.0.config.at_once)),
            })
        };
        accounts.entry(service.to_owned()).or_insert_with(made).clone()
    }
}

/// Counts a call while it is under way.
struct UnderWay<'a>(&'a Instance);

impl<'a> UnderWay<'a> {
    fn at(instance: &'a Instance) -> Self {
        instance.outstanding.fetch_add(1, Ordering::Relaxed);
        Self(instance)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Outcome {
    fn told(self) -> Result<CallReply, CallRefusal> {
        let Self { last, instance, attempts } = self;
        match last {
            Ok(Answer { status, headers, body }) => {
                Ok(CallReply { instance, status, headers, body, attempts })
            }
            Err(fault) => Err(CallRefusal { attempts, ..refusal(fault.because(), fault.reason) }),
        }
    }
}

fn open(service: &str, shut: Shut) -> CallRefusal {
    CallRefusal {
        retry_after_ms: Some(whole_ms(shut.retry_after)),
        ..refusal(
            RefusedBecause::BreakerOpen,
            format!("the breaker of {service} is open: it failed again and again, or was tripped"),
        )
    }
}

fn refusal(because: RefusedBecause, reason: impl Into<String>) -> CallRefusal {
    CallRefusal { because, reason: reason.into(), retry_after_ms: None, attempts: Vec::new() }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
