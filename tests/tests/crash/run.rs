//! A run: telemetry flows, blow follows blow, and in the end everything that Keelson shows is compared with what it accepted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keelson_tests::client::Client;
use keelson_tests::keelson::{READY_WITHIN, SHOWN_WITHIN, Up, bus_findings};
use keelson_tests::seed;
use keelson_tests::traffic::{Load, Traffic};
use keelson_tests::watcher::Watcher;

use crate::blows::Blow;
use crate::deployment::{a_while, crash_at, start, strike};
use crate::points;
use crate::report::Report;

/// What a run does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// Where all randomness comes from.
    pub seed: u64,
    /// Random blows.
    pub rounds: usize,
    /// Crashes at each fault point.
    pub hits: usize,
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
    }
    for (passer, point) in points::ALL.iter().copied() {
        for _ in 0..plan.hits {
            a_while(&mut rng).await;
            if crash_at(&mut all, passer, point, &mut rng).await {
                rounds.count(point);
            }
        }
    }
    flow.until(plan.samples).await;
    flow.finish(&all.client(), &all.nats.url(), plan.seed, rounds, SHOWN_WITHIN).await
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
    }
    flow.finish(&up.client(), &up.nats_url(), plan.seed, rounds, SHOWN_WITHIN).await
}

/// How often what was done.
#[derive(Default)]
pub struct Rounds(pub BTreeMap<&'static str, usize>);

impl Rounds {
    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

/// Telemetry, and a watch over the export.
pub struct Flow {
    traffic: Traffic,
    watcher: Watcher,
    began: Instant,
}

impl Flow {
    /// Starts both.
    pub fn start(client: &Client, seed: u64) -> Self {
        let traffic = Traffic::start(client, Load { seed, ..Load::default() });
        let watcher = Watcher::start(client, traffic.attempts());
        Self { traffic, watcher, began: Instant::now() }
    }

    /// Waits until so many samples were accepted.
    async fn until(&self, samples: u64) {
        while self.traffic.accepted() < samples {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends both and finds what is wrong; counts are waited for as long as `patience`.
    pub async fn finish(
        self,
        client: &Client,
        nats: &str,
        seed: u64,
        rounds: Rounds,
        patience: Duration,
    ) -> Report {
        let (sent, retries) = self.traffic.stop().await;
        let mut findings = client.export_findings(&sent, patience).await;
        let seen = self.watcher.end().await;
        findings.extend(seen.wrong.iter().map(|wrong| format!("scrape: {wrong}")));
        findings.extend(bus_findings(nats, &sent).await);
        Report { seed, took: self.began.elapsed(), rounds, samples: sent.requests(), retries, seen, findings }
    }
}
