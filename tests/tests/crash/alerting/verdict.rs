//! What a run found: what was told, against what happened, against what is on the bus.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keelson_tests::alerting::SHORT_RULE;
use keelson_tests::webhook::Webhook;
use keelson_tests::{nats, transitions};

use crate::points;
use crate::run::Rounds;

/// Longer than an alert takes to fire or resolve, and than a notification takes to be tried again once: what should not come has time to come.
pub const AT_REST: Duration = Duration::from_secs(6);

/// Everything there is to say about a run.
pub struct Verdict {
    /// By which it can be had again.
    pub seed: u64,
    /// From the first service that went bad to the last comparison.
    pub took: Duration,
    /// Blows and fault points.
    pub rounds: Rounds,
    /// How often services went bad, and well again.
    pub firings: usize,
    /// What arrived, tries that were repeated included.
    pub posts: usize,
    /// Notifications of it, by key.
    pub told: usize,
    /// What is wrong.
    pub findings: Vec<String>,
}

impl Verdict {
    /// Prints everything, and fails when something is wrong.
    pub fn assert_sound(&self) {
        println!("--- alerting, seed {}, {:.0} s ---", self.seed, self.took.as_secs_f64());
        self.rounds.print();
        let Self { seed, firings, posts, told, findings, .. } = self;
        println!(
            "{firings} firings and as many resolves, {told} notifications in {posts} posts, {} findings",
            findings.len()
        );
        assert!(findings.is_empty(), "seed {seed}, {} findings:\n{}", findings.len(), findings.join("\n"));
        assert!(*firings > 0, "nothing fired");
    }

    /// Fails when a fault point of the alerting worker was hit less often than `times`.
    pub fn assert_every_point_was_hit(&self, times: usize) {
        points::assert_hit(points::of_alerting(), &self.rounds, times);
    }
}

/// What does not hold, when each service went bad so many times: each firing and each resolve is on the bus once and was told once; what the strict
/// receiver refused is a dead letter each, waited for as long as `patience`.
pub async fn findings(
    nats: &str,
    times: &BTreeMap<String, usize>,
    ops: &Webhook,
    strict: &Webhook,
    patience: Duration,
) -> Vec<String> {
    let all = transitions::read_all(nats).await;
    let mut findings = transitions::order_findings(&all);
    for (service, times) in times {
        findings.extend(transitions::findings(&all, service, *times));
        findings.extend(of_service("ops", ops, service, *times));
        findings.extend(of_service("strict", strict, service, *times));
    }
    let changed = [ops, strict].map(Webhook::changed_keys).concat();
    findings.extend(changed.iter().map(|key| format!("{key} came with different alerts")));
    let expected = 2 * times.values().sum::<usize>() as u64;
    let letters = dead_letters(nats, expected, patience).await;
    findings.extend((letters != expected).then(|| format!("{letters} dead letters, {expected} expected")));
    findings
}

/// What a receiver was not told of a service, or more than once.
fn of_service(receiver: &str, hook: &Webhook, service: &str, times: usize) -> Vec<String> {
    let told = ["firing", "resolved"].map(|status| (status, hook.times(status, SHORT_RULE, service)));
    let wrong = told.into_iter().filter(|(_, told)| *told != times);
    wrong
        .map(|(status, told)| {
            format!("{service} was {status} {times} times and {receiver} was told so {told} times")
        })
        .collect()
}

/// How many dead letters there are, as soon as there are enough.
async fn dead_letters(nats: &str, enough: u64, patience: Duration) -> u64 {
    let deadline = Instant::now() + patience;
    loop {
        let letters = nats::messages_on(nats, "DEAD_LETTERS").await;
        if letters >= enough || Instant::now() >= deadline {
            return letters;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
