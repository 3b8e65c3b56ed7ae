//! The services worker under blows: services are registered, tripped, reset, broken by failures and deregistered. What was said to be done is so in the end, at every
//! replica, and was told once.

mod lives;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keelson_tests::client::Client;
use keelson_tests::nats;
use keelson_tests::place::Place;
use keelson_tests::seed;
use serde_json::Value;

use crate::blows::Blow;
use crate::deployment::{a_while, crash_at, start_services, strike};
use crate::points;
use crate::run::{Plan, Rounds};
use lives::{Lived, Lives};

/// What is not so by then never is. Longer than a lease and any wait between two tries.
const PATIENCE: Duration = Duration::from_secs(60);
/// Breakers that are open stay so for the whole run, and no check tries them.
const CONFIG: &str = "[services.check]\ninterval = \"1h\"\n[services.breaker]\nopen_for = \"1h\"\n";
/// Either replica answers the same question: so often asked, both have.
const ASKED: usize = 24;

/// Random blows, then each fault point so often.
pub async fn run(plan: Plan, hits: usize) {
    let mut all = start_services(Place::new().configured(CONFIG)).await;
    let lives = Lives::start(all.client(), &all.nats.url(), plan.seed).await;
    let (mut rng, mut rounds) = (seed::rng(plan.seed, 12_000), Rounds::default());
    for _ in 0..plan.rounds {
        a_while(&mut rng).await;
        let blow = Blow::random_at_services(&mut rng);
        strike(&mut all, blow, &mut rng).await;
        rounds.count(blow.name());
    }
    for (passer, point) in points::of_services() {
        for _ in 0..hits {
            a_while(&mut rng).await;
            if crash_at(&mut all, passer, point, &mut rng).await {
                rounds.count(point);
            }
        }
    }
    let lived = lives.stop().await;
    rounds.print();
    println!("{:6} services, {} commands", lived.services.len(), lived.commands);
    assert_eq!(lived.wrong, [""; 0], "what was asked for was not done");
    everywhere(&all.client(), &lived).await;
    told(&all.nats.url(), &lived).await;
    points::assert_hit(points::of_services(), &rounds, hits);
}

/// Every replica knows what there is, and nothing else.
async fn everywhere(client: &Client, lived: &Lived) {
    let expected: BTreeMap<&str, &str> =
        lived.services.iter().filter_map(|(name, state)| Some((name.as_str(), (*state)?))).collect();
    let deadline = Instant::now() + PATIENCE;
    let mut agreed = 0;
    while agreed < ASKED {
        let (code, page) = client.get("/api/microservices/status").await;
        let services = page["services"].as_array().map(Vec::as_slice).unwrap_or_default();
        let found: BTreeMap<&str, &str> = services.iter().map(state_of).collect();
        let is_so = code.is_success() && found == expected;
        agreed = if is_so { agreed + 1 } else { 0 };
        if !is_so {
            let differs = |name: &&str| found.get(name) != expected.get(name);
            let wrong: Vec<_> = expected.keys().chain(found.keys()).copied().filter(differs).collect();
            assert!(Instant::now() < deadline, "{code}: {wrong:?} are not as they should be: {page}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn state_of(service: &Value) -> (&str, &str) {
    (service["name"].as_str().unwrap_or_default(), service["breaker"]["state"].as_str().unwrap_or_default())
}

/// Each that was registered was said to be once, and each that was deregistered too.
async fn told(url: &str, lived: &Lived) {
    let all = lived.services.keys().map(|name| (name.clone(), 1)).collect();
    let gone = lived.services.iter().filter(|(_, state)| state.is_none());
    let gone = gone.map(|(name, _)| (name.clone(), 1)).collect();
    for (fact, expected) in [("registered", all), ("deregistered", gone)] {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = names_on(url, &format!("keelson.evt.services.{fact}")).await;
            if said == expected {
                break;
            }
            let differs = |name: &&String| said.get(*name) != expected.get(*name);
            let wrong: Vec<_> = expected.keys().chain(said.keys()).filter(differs).collect();
            assert!(Instant::now() < deadline, "{fact}: said not once of {wrong:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// How often each name is in an event on a subject.
async fn names_on(url: &str, subject: &str) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for event in nats::stored(url, "EVENTS", subject).await {
        let event: Value = keelson_schemas::codec::decode(None, &event).expect("an event");
        *names.entry(event["name"].as_str().expect("a name").to_owned()).or_default() += 1;
    }
    names
}
