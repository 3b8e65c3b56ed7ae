//! Campaigns in a simulated world: one key, messages that are late, lost or answered by nobody, candidates that stand
//! still, restart and leave. Every run follows from its seed, which a failure prints.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::campaign::{Action, Campaign, Candidate, Observation, Record, Standing, Written};
use super::*;

const CANDIDATES: usize = 3;
const TICK_MS: u64 = 50;
/// When a sender stops waiting for an answer.
const GIVEN_UP_MS: u64 = 1_000;
const TROUBLE_MS: u64 = 30_000;
/// After the trouble: a duration until it has run out, and some for the way.
const CALM_MS: u64 = 6_000;

struct World {
    rng: StdRng,
    start: Instant,
    now_ms: u64,
    register: Observation,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    candidates: Vec<Actor>,
    trouble: bool,
    epochs: Vec<(usize, u64)>,
}

struct Actor {
    campaign: Campaign,
    paused_until_ms: u64,
    /// What arrived while it stood still.
    inbox: Vec<Event>,
    incarnation: u64,
}

#[derive(Clone, Debug)]
enum Event {
    Tick(usize),
    Commit { from: usize, incarnation: u64, record: Record, expected: u64, answers: bool },
    Written { to: usize, incarnation: u64, outcome: Written },
    Fetch { from: usize, incarnation: u64, answered: bool },
    Fetched { to: usize, incarnation: u64, found: Option<Observation> },
    Watched { to: usize, seen: Observation },
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            start: Instant::now(),
            now_ms: 0,
            register: Observation { revision: 0, record: None },
            queue: BTreeMap::new(),
            queued: 0,
            candidates: Vec::new(),
            trouble: true,
            epochs: Vec::new(),
        };
        for index in 0..CANDIDATES {
            world.candidates.push(Actor::new(index, 0));
            world.after(index as u64, Event::Tick(index));
        }
        world
    }

    fn run(&mut self, until_ms: u64) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > until_ms {
                break;
            }
            self.now_ms = entry.key().0;
            let event = entry.remove();
            self.handle(event);
            self.check();
        }
        self.now_ms = until_ms;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Commit { from, incarnation, record, expected, answers } => {
                self.commit(from, incarnation, record, expected, answers);
            }
            Event::Fetch { from, incarnation, answered } => {
                let found = answered.then(|| self.register.clone());
                let delay = self.delay();
                self.after(delay, Event::Fetched { to: from, incarnation, found });
            }
            Event::Tick(index) => self.tick(index),
            Event::Written { to, .. } | Event::Fetched { to, .. } | Event::Watched { to, .. } => {
                self.deliver(to, event)
            }
        }
    }

    fn commit(&mut self, from: usize, incarnation: u64, record: Record, expected: u64, answers: bool) {
        let stands = expected == self.register.revision;
        if stands {
            self.register = Observation { revision: expected + 1, record: Some(record) };
            self.broadcast();
        }
        if answers {
            let outcome = if stands { Written::At(expected + 1) } else { Written::ReadToKnow };
            let delay = self.delay();
            self.after(delay, Event::Written { to: from, incarnation, outcome });
        }
    }

    fn broadcast(&mut self) {
        for to in 0..CANDIDATES {
            if !self.unlucky(0.3) {
                let (delay, seen) = (self.delay(), self.register.clone());
                self.after(delay, Event::Watched { to, seen });
            }
        }
    }

    fn tick(&mut self, index: usize) {
        self.after(TICK_MS, Event::Tick(index));
        self.mischief(index);
        if self.is_paused(index) {
            return;
        }
        for event in std::mem::take(&mut self.candidates[index].inbox) {
            self.deliver(index, event);
        }
        let now = self.now();
        let release = self.unlucky(0.002) && !self.candidates[index].campaign.is_writing();
        match release {
            true => self.release(index),
            false => {
                let action = self.candidates[index].campaign.next(now, true);
                self.send(index, action);
            }
        }
    }

    fn release(&mut self, from: usize) {
        let incarnation = self.candidates[from].incarnation;
        if let Action::Write { record, expected_revision: expected } =
            self.candidates[from].campaign.release()
        {
            let delay = self.delay();
            self.after(delay, Event::Commit { from, incarnation, record, expected, answers: false });
        }
    }

    fn mischief(&mut self, index: usize) {
        if self.unlucky(0.004) {
            self.candidates[index].paused_until_ms = self.now_ms + self.rng.random_range(100..8_000);
        }
        if self.unlucky(0.002) && !self.is_paused(index) {
            let incarnation = self.candidates[index].incarnation + 1;
            self.candidates[index] = Actor::new(index, incarnation);
        }
        if self.unlucky(0.0005) {
            self.register = Observation { revision: self.register.revision + 1, record: None };
            self.broadcast();
        }
    }

    fn deliver(&mut self, to: usize, event: Event) {
        if self.is_paused(to) {
            return self.candidates[to].inbox.push(event);
        }
        let now = self.now();
        let actor = &mut self.candidates[to];
        match event {
            Event::Written { incarnation, outcome, .. } if incarnation == actor.incarnation => {
                actor.campaign.written(outcome, now);
            }
            Event::Fetched { incarnation, found, .. } if incarnation == actor.incarnation => match found {
                Some(found) => actor.campaign.read(found, now),
                None => actor.campaign.read_failed(),
            },
            Event::Watched { seen, .. } => actor.campaign.observe(seen, now),
            _ => {}
        }
    }

    fn send(&mut self, from: usize, action: Action) {
        let incarnation = self.candidates[from].incarnation;
        let delay = self.delay();
        let answers = !self.unlucky(0.1) && delay < GIVEN_UP_MS;
        match action {
            Action::Nothing => {}
            Action::Write { record, expected_revision: expected } => {
                let arrives = answers || !self.unlucky(0.5);
                if arrives {
                    self.after(delay, Event::Commit { from, incarnation, record, expected, answers });
                }
                // A sender that gave up does not call back what is under way.
                if !answers {
                    let outcome = Written::ReadToKnow;
                    self.after(GIVEN_UP_MS, Event::Written { to: from, incarnation, outcome });
                }
            }
            Action::Read => self.after(delay, Event::Fetch { from, incarnation, answered: answers }),
        }
    }

    /// Never two valid at once, and the epoch rises with every change of holder.
    fn check(&mut self) {
        let now = self.now();
        let held = |actor: &Actor| match actor.campaign.standing() {
            Standing::Held { epoch, valid_until } => (now < valid_until).then_some(epoch),
            Standing::NotHeld => None,
        };
        let valid: Vec<(usize, u64)> = self
            .candidates
            .iter()
            .enumerate()
            .filter_map(|(index, actor)| Some((index, held(actor)?)))
            .collect();
        assert!(valid.len() <= 1, "valid at once at {} ms: {valid:?}", self.now_ms);
        let Some(holder) = valid.first() else { return };
        if self.epochs.last() != Some(holder) {
            let last = self.epochs.last().map_or(0, |(_, epoch)| *epoch);
            assert!(holder.1 >= last, "the epoch fell from {last} to {} at {} ms", holder.1, self.now_ms);
            assert!(
                self.epochs.iter().all(|(other, epoch)| other == &holder.0 || *epoch != holder.1),
                "an epoch with two holders"
            );
            self.epochs.push(*holder);
        }
    }

    fn is_held(&self) -> bool {
        let now = self.now();
        self.candidates.iter().any(|actor| {
            matches!(actor.campaign.standing(), Standing::Held { valid_until, .. } if now < valid_until)
        })
    }

    fn is_paused(&self, index: usize) -> bool {
        self.now_ms < self.candidates[index].paused_until_ms
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    fn after(&mut self, delay_ms: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((self.now_ms + delay_ms, self.queued), event);
    }

    /// Mostly quick, now and then so late that the lease has run out meanwhile.
    fn delay(&mut self) -> u64 {
        if self.unlucky(0.03) { self.rng.random_range(500..6_000) } else { self.rng.random_range(1..30) }
    }

    fn unlucky(&mut self, probability: f64) -> bool {
        self.trouble && self.rng.random_bool(probability)
    }
}

impl Actor {
    fn new(index: usize, incarnation: u64) -> Self {
        // A restarted node has its name again; another node has another.
        let candidate = Candidate { owner: format!("{index}.{incarnation}"), node: index.to_string() };
        let campaign = Campaign::new(candidate, Timing::default());
        Self { campaign, paused_until_ms: 0, inbox: Vec::new(), incarnation }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn never_two_are_valid_and_somebody_is_after_the_trouble(seed: u64) {
        let mut world = World::new(seed);
        world.run(TROUBLE_MS);
        world.trouble = false;
        for actor in &mut world.candidates {
            actor.paused_until_ms = 0;
        }
        // What is still under way arrives, and then a whole duration may have to pass.
        world.run(TROUBLE_MS + 6_000 + CALM_MS);
        prop_assert!(world.is_held(), "nobody holds it");
        prop_assert!(!world.epochs.is_empty());
    }
}

/// Too rare for chance to find: a first attempt is given up, its write arrives late, and meanwhile the same candidate,
/// after a pause, has tried again. Others have counted from the arrival; the second attempt must not count it as its own.
#[test]
fn a_late_write_of_an_attempt_that_was_given_up_is_not_taken_for_the_next_one() {
    let start = Instant::now();
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let me = Candidate { owner: "me".into(), node: "node".into() };
    let mut campaign = Campaign::new(me, Timing::default());
    campaign.observe(Observation { revision: 0, record: None }, at(0));
    let Action::Write { record: first, expected_revision: 0 } = campaign.next(at(0), true) else {
        panic!("a free lease was not tried for")
    };
    campaign.written(Written::ReadToKnow, at(1));
    assert_eq!(campaign.next(at(1), true), Action::Read);
    campaign.read(Observation { revision: 0, record: None }, at(1));
    assert!(matches!(campaign.next(at(9), true), Action::Write { .. }));
    campaign.observe(Observation { revision: 1, record: Some(first) }, at(9));
    assert_eq!(campaign.standing(), Standing::NotHeld);
}
