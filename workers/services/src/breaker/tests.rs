use proptest::prelude::*;

use super::reference::{Model, Phase};
use super::*;

fn policy() -> Policy {
    Policy {
        failures: 5,
        open_for: Duration::from_secs(60),
        probes: 3,
        successes: 2,
        failure_rate: None,
        slow_rate: None,
        slow_after: Duration::from_secs(2),
        window: 100,
        least_calls: 20,
    }
}

const FAILED: Ended = Ended { failed: true, took: Duration::ZERO };
const SUCCEEDED: Ended = Ended { failed: false, took: Duration::ZERO };
const SLOW: Ended = Ended { failed: false, took: Duration::from_secs(2) };

/// A breaker and the time, which is set.
struct Scene {
    breaker: Breaker,
    now: Instant,
}

impl Scene {
    fn new(policy: Policy) -> Self {
        Self { breaker: Breaker::new(policy), now: Instant::now() }
    }

    fn calls(&mut self, calls: &[Ended]) -> &mut Self {
        for call in calls {
            let ticket = self.breaker.admit(self.now).unwrap();
            self.breaker.ended(ticket, *call, self.now);
        }
        self
    }

    fn later(&mut self, by: Duration) -> &mut Self {
        self.now += by;
        self
    }

    fn claim(&mut self) -> &mut Self {
        assert!(self.breaker.is_due(self.now));
        self.breaker.half_open();
        self
    }

    fn is(&mut self, state: BreakerState) -> &mut Self {
        assert_eq!(self.breaker.state(), state);
        self
    }
}

#[test]
fn five_failures_open_it_for_a_minute_and_two_probes_close_it() {
    let mut scene = Scene::new(policy());
    scene.calls(&[FAILED; 4]).is(BreakerState::Closed).calls(&[SUCCEEDED]);
    scene.calls(&[FAILED; 4]).is(BreakerState::Closed).calls(&[FAILED]).is(BreakerState::Open);
    assert_eq!(scene.breaker.reason(), Some("5 failures in a row"));
    assert_eq!(scene.breaker.failures(), 5);
    scene.later(Duration::from_millis(59_999));
    assert_eq!(scene.breaker.admit(scene.now), Err(Shut { retry_after: Duration::from_millis(1) }));
    assert!(!scene.breaker.is_due(scene.now));
    scene.later(Duration::from_millis(1)).claim().is(BreakerState::HalfOpen);
    scene.calls(&[SUCCEEDED]).is(BreakerState::HalfOpen).calls(&[SUCCEEDED]).is(BreakerState::Closed);
    scene.calls(&[FAILED; 4]).is(BreakerState::Closed).calls(&[FAILED]).is(BreakerState::Open);
}

#[test]
fn a_probe_that_fails_opens_it_for_as_long_again() {
    let mut scene = Scene::new(policy());
    scene.calls(&[FAILED; 5]).later(Duration::from_secs(60)).claim();
    scene.calls(&[SUCCEEDED, FAILED]).is(BreakerState::Open);
    scene.later(Duration::from_secs(59));
    assert_eq!(scene.breaker.admit(scene.now), Err(Shut { retry_after: Duration::from_secs(1) }));
    scene.later(Duration::from_secs(1)).claim().calls(&[SUCCEEDED; 2]).is(BreakerState::Closed);
}

#[test]
fn ten_thousand_callers_at_the_moment_of_half_open_are_three_probes() {
    let mut scene = Scene::new(policy());
    scene.calls(&[FAILED; 5]).later(Duration::from_secs(60)).claim();
    let let_through: Vec<Ticket> = (0..10_000).filter_map(|_| scene.breaker.admit(scene.now).ok()).collect();
    assert_eq!(let_through.len(), 3);
    scene.breaker.ended(let_through[0], SUCCEEDED, scene.now);
    assert!(scene.breaker.admit(scene.now).is_err(), "an ended probe makes no room for another");
    scene.breaker.given_back(let_through[1]);
    assert!(scene.breaker.admit(scene.now).is_ok(), "one that was not made does");
}

#[test]
fn calls_that_began_before_it_opened_change_nothing() {
    let mut scene = Scene::new(policy());
    let early: Vec<Ticket> = (0..10).map(|_| scene.breaker.admit(scene.now).unwrap()).collect();
    scene.calls(&[FAILED; 5]).later(Duration::from_secs(60)).claim();
    for ticket in &early {
        assert!(!scene.breaker.ended(*ticket, FAILED, scene.now));
        scene.breaker.given_back(*ticket);
    }
    scene.is(BreakerState::HalfOpen).calls(&[SUCCEEDED; 2]).is(BreakerState::Closed);
    assert!(!scene.breaker.ended(early[0], FAILED, scene.now));
    assert_eq!(scene.breaker.failures(), 0);
}

#[test]
fn shares_count_once_there_are_enough_calls() {
    let rates = Policy { failure_rate: Some(0.5), slow_rate: Some(0.8), ..policy() };
    let mut scene = Scene::new(rates.clone());
    for _ in 0..9 {
        scene.calls(&[FAILED, SUCCEEDED]);
    }
    scene.is(BreakerState::Closed).calls(&[SUCCEEDED]).is(BreakerState::Closed).calls(&[FAILED]);
    assert_eq!(scene.is(BreakerState::Open).breaker.reason(), Some("10 of 20 calls failed"));
    let mut scene = Scene::new(rates);
    scene.calls(&[SUCCEEDED; 4]).calls(&[SLOW; 15]).is(BreakerState::Closed).calls(&[SLOW]);
    assert_eq!(scene.is(BreakerState::Open).breaker.reason(), Some("16 of 20 calls were slow"));
}

#[test]
fn what_is_forced_stays_so_whatever_calls_come_to() {
    let mut scene = Scene::new(policy());
    scene.breaker.force(Force::Closed, None);
    scene.calls(&[FAILED; 50]).is(BreakerState::Closed);
    scene.breaker.force(Force::Open, Some("by hand".into()));
    scene.later(Duration::from_secs(3_600)).is(BreakerState::Open);
    assert!(scene.breaker.admit(scene.now).is_err() && !scene.breaker.is_due(scene.now));
    scene.breaker.close();
    scene.calls(&[FAILED; 4]).is(BreakerState::Closed).calls(&[FAILED]).is(BreakerState::Open);
}

#[test]
fn probes_of_another_replica_are_waited_for_and_not_for_ever() {
    let mut scene = Scene::new(policy());
    scene.calls(&[FAILED; 5]).later(Duration::from_secs(60));
    scene.breaker.leave_to(scene.now);
    scene.is(BreakerState::HalfOpen);
    assert!(scene.breaker.admit(scene.now).is_err() && !scene.breaker.is_due(scene.now));
    scene.later(ELSEWHERE_AT_MOST).claim().calls(&[SUCCEEDED; 2]).is(BreakerState::Closed);
}

#[test]
fn a_word_from_another_replica_opens_it_for_no_longer_than_it_is_open_here() {
    let mut scene = Scene::new(policy());
    scene.breaker.open_for(Duration::from_secs(20), Some("5 failures in a row".into()), scene.now);
    assert_eq!(scene.breaker.open_left(scene.now), Some(Duration::from_secs(20)));
    scene.breaker.open_for(Duration::from_secs(6_000), None, scene.now);
    assert_eq!(scene.breaker.open_left(scene.now), Some(Duration::from_secs(60)));
}

#[derive(Debug, Clone)]
enum Op {
    Begin,
    End(usize, Ended),
    Wait(u64),
    Claim,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let ended = (any::<bool>(), 0_u64..4)
        .prop_map(|(failed, seconds)| Ended { failed, took: Duration::from_secs(seconds) });
    let op = prop_oneof![
        8 => Just(Op::Begin),
        8 => (any::<usize>(), ended).prop_map(|(which, ended)| Op::End(which, ended)),
        1 => (0_u64..40_000).prop_map(Op::Wait),
        2 => Just(Op::Claim),
    ];
    prop::collection::vec(op, 1..400)
}

fn policies() -> impl Strategy<Value = Policy> {
    let rate = || prop::option::of((1_u32..=10).prop_map(|tenths| f64::from(tenths) / 10.0));
    (1_u32..7, 1_u32..5, 1_u32..5, rate(), rate(), 0_usize..12, 1_usize..8).prop_map(
        |(failures, probes, successes, failure_rate, slow_rate, window, least_calls)| Policy {
            failures,
            probes: probes.max(successes),
            successes,
            failure_rate,
            slow_rate,
            window,
            least_calls,
            ..policy()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_reference_does(policy in policies(), ops in ops()) {
        let (mut breaker, mut model) = (Breaker::new(policy.clone()), Model::new(policy));
        let (mut now, mut under_way) = (Instant::now(), Vec::new());
        for op in ops {
            match op {
                Op::Begin => match (breaker.admit(now), model.admit()) {
                    (Ok(ticket), Some(phase)) => under_way.push((ticket, phase)),
                    (Err(_), None) => {}
                    differ => prop_assert!(false, "{differ:?}"),
                },
                Op::End(which, ended) if !under_way.is_empty() => {
                    let (ticket, phase) = under_way.swap_remove(which % under_way.len());
                    let before = breaker.state();
                    let changed = breaker.ended(ticket, ended, now);
                    prop_assert_eq!(changed, before != breaker.state());
                    model.ended(phase, ended, now);
                }
                Op::End(..) => {}
                Op::Wait(ms) => now += Duration::from_millis(ms),
                Op::Claim => {
                    let due = breaker.is_due(now);
                    if due {
                        breaker.half_open();
                    }
                    prop_assert_eq!(due, model.claim(now));
                }
            }
            let state = match model.phase() {
                Phase::Closed => BreakerState::Closed,
                Phase::Open(until) => {
                    prop_assert_eq!(breaker.open_left(now), Some(until.saturating_duration_since(now)));
                    BreakerState::Open
                }
                Phase::HalfOpen => BreakerState::HalfOpen,
            };
            prop_assert_eq!(breaker.state(), state);
        }
    }
}
