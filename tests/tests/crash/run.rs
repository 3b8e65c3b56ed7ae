//! A run: telemetry flows, blow follows blow, and in the end everything that Keelson shows is compared with what it accepted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keelson_tests::client::Client;
use keelson_tests::commands::{self, Commands};
use keelson_tests::garbage::Garbage;
use keelson_tests::keelson::{READY_WITHIN, SHOWN_WITHIN, Up, bus_findings};
use keelson_tests::seed;
use keelson_tests::traffic::{Load, Traffic};
use keelson_tests::watcher::Watcher;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::blows::Blow;
use crate::deployment::{a_while, crash_at, start, strike};
use crate::points;
use crate::report::Report;

/// What a run does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// Where all randomness comes from.
    pub seed: u64,
    /// Random blows, or crashes at each fault point.
    pub rounds: usize,
    /// The run goes on without blows until so many samples were accepted.
    pub samples: u64,
}

/// A run over separate processes.
pub async fn separate(plan: Plan) -> Report {
    let mut all = start("").await;
    let mut rng = seed::rng(plan.seed, 1_000);
    let flow = Flow::start(&all.client(), plan.seed);
    let mut rounds = Rounds::default();
    for _ in 0..plan.rounds {
        a_while(&mut rng).await;
        let blow = Blow::random(&mut rng);
        strike(&mut all, blow, &mut rng).await;
        rounds.count(blow.name());
        recovered_or_not(&all.client(), &mut rng).await;
    }
    flow.until(plan.samples).await;
    flow.finish(&all.client(), &all.nats.url(), rounds, SHOWN_WITHIN).await
}

/// A run through all fault points. So that each is passed, commands and unreadable messages flow too, and both have to be exact.
pub async fn at_points(plan: Plan) -> Report {
    let mut all = start("").await;
    let mut rng = seed::rng(plan.seed, 1_500);
    let letter = commands::bury_a_good_one(&all.nats.url()).await;
    let mut flow = Flow::start(&all.client(), plan.seed);
    flow.commands = Some(Commands::start(&all.client(), letter));
    flow.garbage = Some(Garbage::start(&all.nats.url()).await);
    let mut rounds = Rounds::default();
    for (passer, point) in points::of_telemetry() {
        for _ in 0..plan.rounds {
            a_while(&mut rng).await;
            if crash_at(&mut all, passer, point, &mut rng).await {
                rounds.count(point);
            }
        }
    }
    flow.finish(&all.client(), &all.nats.url(), rounds, SHOWN_WITHIN).await
}

/// A run over `keelson up`, the process killed alone and as a whole with its nats-server, and the nats-server alone.
pub async fn whole(plan: Plan) -> Report {
    let mut up = Up::start().await;
    let mut rng = seed::rng(plan.seed, 2_000);
    let flow = Flow::start(&up.client(), plan.seed);
    let mut rounds = Rounds::default();
    for round in 0..plan.rounds {
        a_while(&mut rng).await;
        if round % 3 == 2 {
            let server = up.nats_server().expect("a private nats-server");
            nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGKILL).expect("it runs");
            rounds.count("kill -9 private nats-server");
            up.client().ready(READY_WITHIN).await;
        } else {
            up.restart().await;
            rounds.count("kill -9 keelson up");
        }
        recovered_or_not(&up.client(), &mut rng).await;
    }
    flow.finish(&up.client(), &up.nats_url(), rounds, SHOWN_WITHIN).await
}

/// Every second blow comes when all has recovered from the one before, the others while it recovers.
async fn recovered_or_not(client: &Client, rng: &mut StdRng) {
    if rng.random_bool(0.5) {
        client.scrape(READY_WITHIN).await;
    }
}

/// How often what was done.
#[derive(Default)]
pub struct Rounds(pub BTreeMap<&'static str, usize>);

impl Rounds {
    /// Counts one.
    pub fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// One line a kind, and how many in all.
    pub fn print(&self) {
        for (what, times) in &self.0 {
            println!("{times:6} x {what}");
        }
        println!("{:6} rounds in all", self.0.values().sum::<usize>());
    }
}

/// What flows, and a watch over the export.
pub struct Flow {
    seed: u64,
    began: Instant,
    traffic: Traffic,
    watcher: Watcher,
    commands: Option<Commands>,
    garbage: Option<Garbage>,
}

impl Flow {
    /// Starts telemetry and the watch.
    pub fn start(client: &Client, seed: u64) -> Self {
        let traffic = Traffic::start(client, Load { seed, ..Load::default() });
        let watcher = Watcher::start(client, traffic.attempts());
        Self { seed, began: Instant::now(), traffic, watcher, commands: None, garbage: None }
    }

    /// Waits until so many samples were accepted.
    async fn until(&self, samples: u64) {
        while self.traffic.accepted() < samples {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends everything and finds what is wrong; counts are waited for as long as `patience`.
    pub async fn finish(self, client: &Client, nats: &str, rounds: Rounds, patience: Duration) -> Report {
        let (mut sent, retries) = self.traffic.stop().await;
        let (mut findings, mut dead, mut obeyed) = (Vec::new(), 0, 0);
        if let Some(garbage) = self.garbage {
            dead += garbage.stop().await;
        }
        if let Some(commands) = self.commands {
            // The letter that all of them redrive.
            dead += 1;
            (obeyed, findings) = commands.stop(client).await;
            sent.add(std::iter::repeat_n(&commands::sample(), usize::try_from(obeyed).expect("fits")));
        }
        findings.extend(client.export_findings(&sent, patience).await);
        let seen = self.watcher.end().await;
        findings.extend(seen.wrong.iter().map(|wrong| format!("scrape: {wrong}")));
        findings.extend(bus_findings(nats, &sent, dead).await);
        let (seed, took, samples) = (self.seed, self.began.elapsed(), sent.requests());
        Report { seed, took, rounds, samples, obeyed, dead, retries, seen, findings }
    }
}
