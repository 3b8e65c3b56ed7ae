//! What a run found: what the providers were told, against what changed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use keelson_tests::fakes::{Fake, cloudflare, cloudfront, fastly, varnish};
use keelson_tests::nats;

use super::REBOUND;
use super::changes::Asked;
use crate::points;
use crate::run::Rounds;

/// How many findings are named.
const MOST_NAMED: usize = 20;

/// Everything there is to say about a run.
pub struct Verdict {
    /// By which it can be had again.
    pub seed: u64,
    /// From the first change to the last comparison.
    pub took: Duration,
    /// Blows and fault points.
    pub rounds: Rounds,
    /// Purges that were asked for.
    pub purges: usize,
    /// Messages that nobody can read.
    pub garbage: u64,
    /// Calls that the providers took.
    pub calls: usize,
    /// What is wrong.
    pub findings: Vec<String>,
}

impl Verdict {
    /// Prints everything, and fails when something is wrong.
    pub fn assert_sound(&self) {
        println!("--- CDN, seed {}, {:.0} s ---", self.seed, self.took.as_secs_f64());
        self.rounds.print();
        let Self { seed, purges, garbage, calls, findings, .. } = self;
        println!(
            "{purges} purges and {garbage} unreadable messages, {calls} calls, {} findings",
            findings.len()
        );
        assert!(findings.is_empty(), "seed {seed}, {} findings:\n{}", findings.len(), findings.join("\n"));
        assert!(*purges > 0, "nothing changed");
    }

    /// Fails when a fault point of the CDN worker was hit less often than `times`.
    pub fn assert_every_point_was_hit(&self, times: usize) {
        points::assert_hit(points::of_cdn(), &self.rounds, times);
    }
}

/// The providers of a run.
pub struct Providers([Provider; 4]);

struct Provider {
    name: &'static str,
    has_tags: bool,
    /// Whether each call is paid for.
    once: bool,
    fake: Fake,
}

impl Providers {
    /// Starts all.
    pub async fn start() -> Self {
        let of = |name, has_tags, fake| Provider { name, has_tags, once: name == "cloudfront", fake };
        Self([
            of("varnish", true, varnish::start().await),
            of("cloudflare", false, cloudflare::start().await),
            of("fastly", true, fastly::start().await),
            of("cloudfront", false, cloudfront::start().await),
        ])
    }

    /// Where they listen, in this order: Varnish, Cloudflare, Fastly, CloudFront.
    pub fn urls(&self) -> [&str; 4] {
        self.0.each_ref().map(|provider| provider.fake.url())
    }

    /// From now on they answer everything with this status; or as they should.
    pub fn answer_all(&self, status: Option<u16>) {
        self.0.iter().for_each(|provider| provider.fake.answer_all(status));
    }

    /// How many calls they took.
    pub fn calls(&self) -> usize {
        self.0.iter().map(Provider::calls).sum()
    }

    /// How many of them are paid for.
    pub fn calls_paid_for(&self) -> usize {
        self.0.iter().filter(|provider| provider.once).map(Provider::calls).sum()
    }

    /// Waits until each of these was told of so many of a kind, or found something wrong with how it was told.
    pub async fn know(&self, names: &[&str], kind: &str, count: usize, patience: Duration) {
        let deadline = Instant::now() + patience;
        let waits = |fake: &Fake| fake.kept().wrong.is_empty() && fake.seen(kind).len() < count;
        let meant = || self.0.iter().filter(|provider| names.contains(&provider.name));
        while meant().any(|provider| waits(&provider.fake)) {
            assert!(Instant::now() < deadline, "not everything came to {names:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What was wrong with calls.
    pub fn wrong(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(Provider::wrong)
    }

    /// What does not hold, and goes on not to hold for as long as `patience`: every purge was seen after it was asked for, and once more after the
    /// rebound, not more often where that is paid for; no call was over a limit; what nobody can read is a dead letter, once.
    pub async fn findings(
        &self,
        asked: &[Asked],
        garbage: u64,
        nats: &str,
        patience: Duration,
    ) -> Vec<String> {
        let deadline = Instant::now() + patience;
        loop {
            let mut findings: Vec<String> =
                self.0.iter().flat_map(|provider| provider.findings(asked)).collect();
            let letters = nats::messages_on(nats, "DEAD_LETTERS").await;
            if letters != garbage {
                findings.push(format!("{letters} dead letters, {garbage} expected"));
            }
            if findings.is_empty() || Instant::now() >= deadline {
                return findings;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

impl Provider {
    fn calls(&self) -> usize {
        self.fake.kept().calls.len()
    }

    fn findings(&self, asked: &[Asked]) -> Vec<String> {
        let seen = self.seen();
        let meant = asked.iter().filter(|asked| asked.kind == "files" || self.has_tags);
        let mut lost: Vec<String> = meant
            .filter_map(|asked| {
                let times = seen.get(asked.name.as_str()).map_or(&[][..], Vec::as_slice);
                Some(format!("{}: {} {}", self.name, asked.name, wrong(times, asked.at)?))
            })
            .collect();
        if self.once {
            lost.extend(made_too_often(&seen, asked).map(|finding| format!("{}: {finding}", self.name)));
        }
        // Those that never came before those that came once.
        lost.sort_by_key(|finding| finding.ends_with("again"));
        let more = lost.len().saturating_sub(MOST_NAMED);
        lost.truncate(MOST_NAMED);
        lost.extend((more > 0).then(|| format!("{}: and {more} more", self.name)));
        lost.extend(self.wrong());
        lost
    }

    fn wrong(&self) -> Vec<String> {
        self.fake.kept().wrong.iter().map(|wrong| format!("{}: {wrong}", self.name)).collect()
    }

    /// When what was named, by how it ends for every provider.
    fn seen(&self) -> HashMap<String, Vec<Instant>> {
        let mut seen: HashMap<String, Vec<Instant>> = HashMap::new();
        for call in &self.fake.kept().calls {
            for item in &call.items {
                let name = item.rfind("/v/").map_or(item.as_str(), |at| &item[at..]);
                seen.entry(name.to_owned()).or_default().push(call.at);
            }
        }
        seen
    }
}

/// What changed once, and was purged otherwise than once and again after the rebound.
fn made_too_often(seen: &HashMap<String, Vec<Instant>>, asked: &[Asked]) -> impl Iterator<Item = String> {
    let mut changes: HashMap<&str, usize> = HashMap::new();
    asked.iter().for_each(|asked| *changes.entry(&asked.name).or_default() += 1);
    let times =
        seen.iter().filter(move |(name, times)| times.len() > 2 && changes.get(name.as_str()) == Some(&1));
    times.map(|(name, times)| format!("{name} was purged {} times", times.len()))
}

/// What is wrong with a purge that was seen at these times and asked for at that.
fn wrong(times: &[Instant], asked: Instant) -> Option<&'static str> {
    let mut after = times.iter().filter(|time| **time >= asked);
    let Some(first) = after.next() else { return Some("was not purged") };
    after.all(|time| time.duration_since(*first) < REBOUND).then_some("was not purged again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_that_came_too_early_or_only_once_is_found() {
        let asked = Instant::now();
        let at = |ms: u64| asked + Duration::from_millis(ms);
        let before = asked.checked_sub(Duration::from_millis(1)).expect("the machine runs for longer");
        assert_eq!(wrong(&[], asked), Some("was not purged"));
        assert_eq!(wrong(&[before], asked), Some("was not purged"));
        assert_eq!(wrong(&[before, at(1), at(400)], asked), Some("was not purged again"));
        assert_eq!(wrong(&[at(1), at(501)], asked), None);
    }
}
