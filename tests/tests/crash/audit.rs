//! The audit worker under blows: things happen, and everything that did is in one chain of seals that the verifier finds nothing wrong with.

use std::time::{Duration, Instant};

use keelson_tests::keelson::Separate;
use keelson_tests::place::Place;
use keelson_tests::seed;
use serde_json::Value;

use crate::blows::Blow;
use crate::cdn::changes::Changes;
use crate::deployment::{a_while, crash_at, start_audit, strike};
use crate::points;
use crate::run::{Plan, Rounds};

/// What is not sealed by then never is. Longer than a lease and any wait between two tries.
const PATIENCE: Duration = Duration::from_secs(60);
/// Blocks are small, so that blows meet every step of sealing one.
const CONFIG: &str =
    "[audit]\nkey = \"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\"\nseal_every = \"50ms\"\n";

/// Random blows, then each fault point so often; all that happened meanwhile has to be sealed.
pub async fn run(plan: Plan, hits: usize) {
    let mut all = start_audit(Place::new().configured(CONFIG)).await;
    let changes = Changes::start(&all.nats.url(), plan.seed).await;
    let (mut rng, mut rounds) = (seed::rng(plan.seed, 11_000), Rounds::default());
    for _ in 0..plan.rounds {
        a_while(&mut rng).await;
        let blow = Blow::random_at_audit(&mut rng);
        strike(&mut all, blow, &mut rng).await;
        rounds.count(blow.name());
    }
    for (passer, point) in points::of_audit() {
        for _ in 0..hits {
            a_while(&mut rng).await;
            if crash_at(&mut all, passer, point, &mut rng).await {
                rounds.count(point);
            }
        }
    }
    let (asked, garbage) = changes.stop().await;
    let report = sealed(&all, asked.len() as u64 + garbage).await;
    rounds.print();
    println!("{report}");
    points::assert_hit(points::of_audit(), &rounds, hits);
}

/// The report, once everything is sealed.
async fn sealed(all: &Separate, published: u64) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, said) = all.output(&["audit", "verify", "--json"]);
        let report: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!(report["wrong"], 0, "{report}");
        let number = |key: &str| report[key].as_u64().expect("a number");
        if number("unsealed") == 0 && number("entries") - number("seals") >= published {
            assert_eq!(number("entries") - number("seals"), published, "{report}");
            return report;
        }
        assert!(Instant::now() < deadline, "{published} were published: {report}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
