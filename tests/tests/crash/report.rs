//! What a run did and found, for people and for the verdict.

use std::time::Duration;

use keelson_tests::watcher::Seen;

use crate::points;
use crate::run::Rounds;

/// Everything there is to say about a run.
pub struct Report {
    /// By which it can be had again.
    pub seed: u64,
    /// From the first sample to the verdict.
    pub took: Duration,
    /// Blows and fault points.
    pub rounds: Rounds,
    /// Samples that were accepted.
    pub samples: u64,
    /// Commands that succeeded.
    pub obeyed: u64,
    /// Dead letters that there had to be.
    pub dead: u64,
    /// Requests that had to be repeated.
    pub retries: u64,
    /// What the watch over the export saw.
    pub seen: Seen,
    /// What is wrong.
    pub findings: Vec<String>,
}

impl Report {
    /// Prints everything, and fails when something is wrong.
    pub fn assert_sound(&self) {
        self.print();
        let seed = self.seed;
        assert!(
            self.findings.is_empty(),
            "seed {seed}, {} findings:\n{}",
            self.findings.len(),
            self.findings.join("\n")
        );
        assert!(self.seen.scrapes > 0, "nobody saw the export");
    }

    /// Fails when a fault point was hit less often than `times`.
    pub fn assert_every_point_was_hit(&self, times: usize) {
        points::assert_hit(points::of_telemetry(), &self.rounds, times);
    }

    fn print(&self) {
        println!("--- seed {}, {:.0} s ---", self.seed, self.took.as_secs_f64());
        self.rounds.print();
        let Seen { scrapes, unanswered, .. } = &self.seen;
        println!("{} samples accepted, {} requests repeated", self.samples, self.retries);
        println!("{} commands obeyed, {} dead letters expected", self.obeyed, self.dead);
        println!("{scrapes} scrapes answered, {unanswered} not; {} findings", self.findings.len());
    }
}
