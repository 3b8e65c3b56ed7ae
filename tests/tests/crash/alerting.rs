//! Alerting under blows: services go bad and well again, and whoever is told has been told of each firing and of each resolve exactly once.

mod patients;
mod verdict;

use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_tests::alerting::{receiver, rules_of};
use keelson_tests::client::Client;
use keelson_tests::keelson::{READY_WITHIN, Up};
use keelson_tests::place::Place;
use keelson_tests::seed;
use keelson_tests::webhook::{Manner, Webhook};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::blows::{Blow, Job};
use crate::deployment::{a_while, crash_at, start_alerting, strike};
use crate::points;
use crate::run::{Plan, Rounds};
use patients::Patients;
use verdict::{AT_REST, Verdict};

/// Every second blow waits until somebody was told of something after the one before, but not longer than this.
const RECOVERED_WITHIN: Duration = Duration::from_secs(15);

/// A transition that nobody was told of by then is missed. Longer than any wait between two tries of a delivery.
const PATIENCE: Duration = Duration::from_secs(120);
/// Without its safeguards it may be that nothing comes, which is not waited for long.
const SABOTAGED_PATIENCE: Duration = Duration::from_secs(20);

/// A run over separate processes.
pub async fn separate(plan: Plan) -> Verdict {
    let course = Course::begin(plan.seed).await;
    let mut all = start_alerting("", &course.config()).await;
    let mut rng = seed::rng(plan.seed, 4_000);
    let course = course.on(&all.client(), PATIENCE);
    let mut rounds = Rounds::default();
    for _ in 0..plan.rounds {
        a_while(&mut rng).await;
        let blow = Blow::random_at_alerting(&mut rng);
        strike(&mut all, blow, &mut rng).await;
        rounds.count(blow.name());
        course.recovered_or_not(&mut rng).await;
    }
    course.end(&all.nats.url(), rounds).await
}

/// A run over `keelson up`, killed as a whole.
pub async fn whole(plan: Plan) -> Verdict {
    let course = Course::begin(plan.seed).await;
    let mut up = Up::start_in(Place::new().configured(&course.config())).await;
    let mut rng = seed::rng(plan.seed, 5_000);
    let course = course.on(&up.client(), PATIENCE);
    let mut rounds = Rounds::default();
    for _ in 0..plan.rounds {
        a_while(&mut rng).await;
        up.restart().await;
        rounds.count("kill -9 keelson up");
        course.recovered_or_not(&mut rng).await;
    }
    course.end(&up.nats_url(), rounds).await
}

/// A run through all fault points of the alerting worker.
pub async fn at_points(plan: Plan) -> Verdict {
    let course = Course::begin(plan.seed).await;
    let mut all = start_alerting("", &course.config()).await;
    let mut rng = seed::rng(plan.seed, 6_000);
    let course = course.on(&all.client(), PATIENCE);
    let mut rounds = Rounds::default();
    for (passer, point) in points::of_alerting() {
        for _ in 0..plan.rounds {
            a_while(&mut rng).await;
            if crash_at(&mut all, passer, point, &mut rng).await {
                rounds.count(point);
            }
        }
    }
    course.end(&all.nats.url(), rounds).await
}

/// A short run with safeguards switched off, or with none.
pub async fn sabotaged(safeguards: &str) -> Verdict {
    let seed = seed::seed();
    let course = Course::begin(seed).await;
    let mut all = start_alerting(safeguards, &course.config()).await;
    let mut rng = seed::rng(seed, 7_000);
    let course = course.on(&all.client(), if safeguards.is_empty() { PATIENCE } else { SABOTAGED_PATIENCE });
    let mut rounds = Rounds::default();
    let blows =
        [Blow::StopActive(Job::Evaluator), Blow::StopActive(Job::Notifier), Blow::KillActive(Job::Notifier)];
    for blow in blows {
        course.recovered().await;
        strike(&mut all, blow, &mut rng).await;
        rounds.count(blow.name());
    }
    course.end(&all.nats.url(), rounds).await
}

/// The receivers of a run, and the services whose course they follow.
struct Course<P> {
    seed: u64,
    began: Instant,
    ops: Arc<Webhook>,
    strict: Webhook,
    patients: P,
}

impl Course<()> {
    /// The receivers: one that at times refuses a notification or loses its answer, and loses its first in any case, so that no run goes without a
    /// notification that comes again; and one that answers everything with a refusal.
    async fn begin(seed: u64) -> Self {
        let (ops, strict) = (Webhook::start().await, Webhook::start().await);
        let mut rng = seed::rng(seed, 4_001);
        let mut first = true;
        ops.behave_by(move || match rng.random_range(0..100) {
            _ if std::mem::take(&mut first) => Manner::Lose(500),
            0..10 => Manner::Lose(500),
            10..15 => Manner::Refuse(503),
            _ => Manner::Take,
        });
        strict.behave(Manner::Lose(400));
        Self { seed, began: Instant::now(), ops: Arc::new(ops), strict, patients: () }
    }

    /// One alert a group, so that each notification tells of one; none is held for going up and down.
    fn config(&self) -> String {
        let receivers = receiver("ops", &self.ops) + &receiver("strict", &self.strict);
        let timing = "[alerting.route]\ngroup_interval = \"1s\"\n[alerting.flap]\nfired = 0\n";
        rules_of("short.toml") + timing + &receivers
    }

    fn on(self, client: &Client, patience: Duration) -> Course<Patients> {
        let patients = Patients::start(client, &self.ops, self.seed, patience);
        let Self { seed, began, ops, strict, .. } = self;
        Course { seed, began, ops, strict, patients }
    }
}

impl Course<Patients> {
    async fn recovered_or_not(&self, rng: &mut StdRng) {
        if rng.random_bool(0.5) {
            self.recovered().await;
        }
    }

    /// Waits until somebody was told of something.
    async fn recovered(&self) {
        let (before, deadline) = (self.ops.deduplicated().len(), Instant::now() + RECOVERED_WITHIN);
        while self.ops.deduplicated().len() == before && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lets every service end well, waits until nothing comes any more, and compares.
    async fn end(self, nats: &str, rounds: Rounds) -> Verdict {
        let (times, mut findings) = self.patients.stop().await;
        tokio::time::sleep(AT_REST).await;
        findings.extend(verdict::findings(nats, &times, &self.ops, &self.strict, READY_WITHIN).await);
        let (posts, told) = (self.ops.posts().len(), self.ops.deduplicated().len());
        let firings = times.values().sum();
        Verdict { seed: self.seed, took: self.began.elapsed(), rounds, firings, posts, told, findings }
    }
}
