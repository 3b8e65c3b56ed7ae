//! Purges under failures, crashes and coalescing, against a model that remembers what the provider was told when.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::limits::{PerCall, VARNISH};
use crate::url::Site;

const REBOUND: Duration = Duration::from_secs(2);
const POLICY: Policy = Policy {
    rebound: Some(REBOUND),
    rebound_all: Some(Duration::from_secs(30)),
    verify: true,
    attempts: 3,
    looks_at_once: 4,
    most_under_way: 12,
};
const LIMITS: Limits = Limits {
    tag: Some(PerCall { items: 3, bytes: 100, soft: true, rate: None }),
    calls_at_once: 3,
    ..VARNISH
};

fn site() -> Site {
    Site::new("cdn.example", &[]).unwrap()
}

fn selector(n: u8) -> Selector {
    let site = site();
    match n {
        0..=3 => Selector::Tag(format!("tag:{n}").into()),
        4 | 5 => Selector::Url(site.url(&format!("https://cdn.example/{n}")).unwrap()),
        6 => Selector::Prefix("/v/".into()),
        _ => Selector::All,
    }
}

fn request(key: Key, selectors: Vec<Selector>, soft: bool) -> Request {
    let checks = selectors.iter().filter_map(|selector| match selector {
        Selector::Url(url) => Some(url.clone()),
        _ => None,
    });
    Request {
        key,
        id: format!("purge-{key}"),
        operation: None,
        asset: None,
        requested_by: String::new(),
        caused_at_ms: 0,
        checks: checks.collect(),
        selectors,
        soft,
        unseen: None,
        refused: None,
    }
}

/// A call as the provider saw it.
struct Seen {
    selector: Selector,
    soft: bool,
    /// Steps and time at which it was sent: the earliest that it can have had its effect.
    sent: (u64, Instant),
    done: Instant,
}

struct Model {
    limits: Limits,
    flow: Flow,
    /// Calls that are written down, and all that ever were.
    written: BTreeMap<String, Record>,
    ever_written: BTreeMap<String, Record>,
    /// Calls that have had their effect.
    made: BTreeSet<String>,
    stream: Vec<(u64, Vec<Selector>, bool)>,
    next: usize,
    kept: Position,
    calls: Vec<(Call, (u64, Instant))>,
    looks: Vec<Look>,
    seen: Vec<Seen>,
    ended: Vec<Key>,
    step: u64,
    now: Now,
}

#[derive(Debug, Clone)]
enum Op {
    Publish(Vec<u8>, bool),
    Take,
    Call,
    Answer(usize, u8),
    Look,
    Looked(usize, u8),
    Advance(u64),
    Tell,
    Keep,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (proptest::collection::vec(0..8_u8, 1..4), any::<bool>()).prop_map(|(selectors, soft)| Op::Publish(selectors, soft)),
        4 => Just(Op::Take),
        5 => Just(Op::Call),
        5 => (any::<usize>(), 0..8_u8).prop_map(|(which, answer)| Op::Answer(which, answer)),
        3 => Just(Op::Look),
        3 => (any::<usize>(), 0..4_u8).prop_map(|(which, sight)| Op::Looked(which, sight)),
        4 => (1..3000_u64).prop_map(Op::Advance),
        2 => Just(Op::Tell),
        2 => Just(Op::Keep),
        1 => Just(Op::Crash),
    ]
}

impl Model {
    fn new(once: bool) -> Self {
        let limits = Limits { once, ..LIMITS };
        Self {
            limits,
            flow: Flow::new("varnish", limits, POLICY, Position::default()),
            written: BTreeMap::new(),
            ever_written: BTreeMap::new(),
            made: BTreeSet::new(),
            stream: Vec::new(),
            next: 0,
            kept: Position::default(),
            calls: Vec::new(),
            looks: Vec::new(),
            seen: Vec::new(),
            ended: Vec::new(),
            step: 0,
            now: Now { at: Instant::now(), ms: 1_000_000 },
        }
    }

    fn act(&mut self, op: Op) {
        self.step += 1;
        match op {
            Op::Publish(selectors, soft) => {
                let mut selectors: Vec<Selector> = selectors.into_iter().map(selector).collect();
                selectors.sort();
                selectors.dedup();
                self.stream.push((self.step, selectors, soft));
            }
            Op::Take => self.take(),
            Op::Call => {
                if let Some(call) = self.flow.next_call(self.now) {
                    assert!(self.calls.len() < LIMITS.calls_at_once);
                    let most = LIMITS.of(call.batch.kind).unwrap().items;
                    assert!(call.batch.items.len() <= most);
                    self.write_down(&call);
                    self.calls.push((call, (self.step, self.now.at)));
                }
            }
            Op::Answer(which, answer) if !self.calls.is_empty() => {
                let (call, sent) = self.calls.remove(which % self.calls.len());
                self.answer(&call, sent, answer);
            }
            Op::Look => self.looks.extend(self.flow.next_look(self.now)),
            Op::Looked(which, sight) if !self.looks.is_empty() => {
                let look = self.looks.remove(which % self.looks.len());
                let sight = match sight {
                    0 => Sight::Stale("old".into()),
                    1 => Sight::Unverifiable("500".into()),
                    _ => Sight::Fresh,
                };
                self.flow.looked(look, sight, self.now);
            }
            Op::Advance(ms) => {
                self.now = Now { at: self.now.at + Duration::from_millis(ms), ms: self.now.ms + ms };
                self.flow.pass_time(self.now);
            }
            Op::Tell => self.tell(),
            Op::Keep => {
                self.kept = self.flow.position();
                self.flow.forget(&self.kept).iter().for_each(|over| _ = self.written.remove(over));
            }
            Op::Crash => self.crash(),
            Op::Answer(..) | Op::Looked(..) => {}
        }
    }

    /// A call that is to be made once only is written down before, and names the same whenever it is made.
    fn write_down(&mut self, call: &Call) {
        if !self.limits.once {
            return assert_eq!(call.record, None);
        }
        let (reference, mut named) =
            (&call.batch.reference, call.batch.items.iter().map(|item| &item.selector));
        if let Some(record) = &call.record {
            self.written.insert(reference.clone(), record.clone());
            assert_eq!(
                self.ever_written.insert(reference.clone(), record.clone()),
                None,
                "{reference} is new"
            );
        }
        let recorded = self.written[reference].clone().read(&site()).unwrap();
        assert!(recorded.items.iter().map(|(selector, _)| selector).eq(named.by_ref()));
    }

    fn take(&mut self) {
        assert!(self.flow.under_way < POLICY.most_under_way + 8, "the room for purges is bounded");
        if !self.flow.has_room() || self.next == self.stream.len() {
            return;
        }
        let (_, selectors, soft) = self.stream[self.next].clone();
        self.next += 1;
        let key = self.next as u64;
        match self.flow.wants(key) {
            true => self.flow.take(request(key, selectors, soft), self.now),
            false => self.flow.pass(key),
        }
    }

    fn answer(&mut self, call: &Call, sent: (u64, Instant), answer: u8) {
        let answer = match answer {
            0 => Answer::Retry { after: None, reason: "503".into() },
            1 => Answer::Retry { after: Some(Duration::from_secs(1)), reason: "429".into() },
            2 if call.batch.items.len() > 1 && !self.made.contains(&call.batch.reference) => {
                Answer::Refused("too many".into())
            }
            3 if call.batch.tries == 0 => Answer::Credentials("who are you".into()),
            4 if call.batch.tries < 3 => Answer::Full("too much in progress".into()),
            _ => Answer::done(None),
        };
        if matches!(answer, Answer::Done { .. }) {
            self.made.insert(call.batch.reference.clone());
            let (soft, done) = (call.batch.soft, self.now.at);
            let items = call.batch.items.iter();
            self.seen.extend(items.map(|item| Seen { selector: item.selector.clone(), soft, sent, done }));
        }
        self.flow.answered(call.id, answer, self.now);
    }

    fn tell(&mut self) {
        let ended: Vec<Key> = self.flow.ended().iter().map(|(request, _)| request.key).collect();
        self.flow.told(&ended);
        self.ended.extend(ended);
    }

    /// All that was not kept is gone, and of calls under way nobody knows.
    fn crash(&mut self) {
        self.act(Op::Advance(1));
        let had_effect = self.calls.iter().filter(|(_, (step, _))| step % 2 == 0);
        self.made.extend(had_effect.map(|(call, _)| call.batch.reference.clone()));
        self.flow = Flow::new("varnish", self.limits, POLICY, self.kept.clone());
        let written = self.written.clone().into_iter();
        self.flow
            .resume(written.map(|(reference, record)| (reference, record.read(&site()).unwrap())).collect());
        (self.calls, self.looks) = Default::default();
        let first_open = self.kept.open.first().copied().unwrap_or(self.kept.read + 1);
        self.next = usize::try_from(first_open - 1).unwrap();
    }

    /// Until everything is done, with a provider that does everything.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            self.tell();
            if self.next == self.stream.len() && self.flow.purges() == 0 && self.calls.is_empty() {
                return;
            }
            for op in [Op::Take, Op::Call, Op::Answer(0, 9), Op::Look, Op::Looked(0, 9), Op::Advance(500)] {
                self.act(op);
            }
        }
        panic!("it does not end: {:?}", self.flow);
    }

    fn check(&self) {
        assert_eq!(self.flow.position(), Position { read: self.stream.len() as u64, open: Vec::new() });
        for (key, (published, selectors, soft)) in self.stream.iter().enumerate() {
            assert!(self.ended.contains(&(key as u64 + 1)), "the end of {} is told", key + 1);
            for selector in selectors {
                let soft = *soft && LIMITS.of(selector.kind()).unwrap().soft;
                let of_it =
                    || self.seen.iter().filter(|seen| seen.selector == *selector && seen.soft == soft);
                let rebound =
                    if selectors.contains(&Selector::All) { Duration::from_secs(30) } else { REBOUND };
                let first = of_it().filter(|seen| seen.sent.0 > *published).map(|seen| seen.done).min();
                let first =
                    first.unwrap_or_else(|| panic!("message {} lost its purge of {selector}", key + 1));
                let again = of_it().any(|seen| seen.sent.1 >= first + rebound);
                assert!(again, "message {} lost its rebound of {selector}", key + 1);
            }
        }
        self.check_once();
    }
}

impl Model {
    /// Each time that a purge is sent, each of its selectors is in one call that had an effect.
    fn check_once(&self) {
        let mut calls: BTreeMap<(Selector, Key, u32), &str> = BTreeMap::new();
        for reference in &self.made {
            let Some(record) = self.ever_written.get(reference) else { continue };
            for (selector, purges) in record.clone().read(&site()).unwrap().items {
                for (key, round) in purges {
                    let other = calls.insert((selector.clone(), key, round), reference);
                    assert_eq!(other, None, "{selector} of {key}, round {round}, is in {reference} too");
                }
            }
        }
        assert!(!self.limits.once || self.made.iter().all(|made| self.ever_written.contains_key(made)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nothing_is_lost_whatever_fails_and_wherever_it_crashes(
        ops in proptest::collection::vec(op(), 1..300),
        once in any::<bool>(),
    ) {
        let mut model = Model::new(once);
        ops.into_iter().for_each(|op| model.act(op));
        model.finish();
        model.check();
    }
}

fn at(start: Instant, ms: u64) -> Now {
    Now { at: start + Duration::from_millis(ms), ms }
}

/// Answers every call and look there is.
fn settle(flow: &mut Flow, now: Now, answer: &Answer, sight: &Sight) -> usize {
    let mut calls = 0;
    flow.pass_time(now);
    while let Some(call) = flow.next_call(now) {
        calls += 1;
        flow.answered(call.id, answer.clone(), now);
    }
    while let Some(look) = flow.next_look(now) {
        flow.looked(look, sight.clone(), now);
    }
    calls
}

const DONE: Answer = Answer::Done { request_id: None, quota: None };

#[test]
fn a_purge_is_sent_sent_again_and_looked_at() {
    let (start, mut flow) = (Instant::now(), Flow::new("varnish", LIMITS, POLICY, Position::default()));
    flow.take(request(1, vec![selector(4)], false), at(start, 0));
    assert_eq!(settle(&mut flow, at(start, 5), &DONE, &Sight::Fresh), 1);
    assert_eq!(settle(&mut flow, at(start, 2_004), &DONE, &Sight::Fresh), 0);
    assert!(flow.ended().is_empty());
    assert_eq!(settle(&mut flow, at(start, 2_005), &DONE, &Sight::Fresh), 1);
    let (_, outcome) = flow.ended().remove(0);
    assert_eq!((outcome.state, outcome.attempts), (keelson_schemas::cdn::PurgeState::Verified, 2));
    assert_eq!((outcome.acknowledged_after_ms, outcome.fresh_after_ms), (Some(5), Some(2_005)));
    assert_eq!(flow.position(), Position { read: 1, open: vec![1] });
    flow.told(&[1]);
    assert_eq!(flow.position(), Position { read: 1, open: vec![] });
}

#[test]
fn what_stays_old_is_purged_again_so_often_and_then_told_with_the_reason() {
    let (start, mut flow) = (Instant::now(), Flow::new("varnish", LIMITS, POLICY, Position::default()));
    flow.take(request(1, vec![selector(4)], false), at(start, 0));
    let old = Sight::Stale("ETag \"old\"".into());
    let calls: usize = (0..1_000).map(|n| settle(&mut flow, at(start, n * 100), &DONE, &old)).sum();
    let (_, outcome) = flow.ended().remove(0);
    assert_eq!((outcome.state, outcome.attempts, calls), (keelson_schemas::cdn::PurgeState::Stale, 4, 4));
    assert_eq!(outcome.reason.as_deref(), Some("ETag \"old\""));
}

#[test]
fn credentials_that_are_refused_end_commands_and_keep_events() {
    let (start, mut flow) = (Instant::now(), Flow::new("varnish", LIMITS, POLICY, Position::default()));
    let asked = Request { operation: Some("op".into()), ..request(2, vec![selector(1)], false) };
    flow.take(request(1, vec![selector(0)], false), at(start, 0));
    flow.take(asked.clone(), at(start, 0));
    let no = Answer::Credentials("invalid token".into());
    let calls: usize = (0..300).map(|n| settle(&mut flow, at(start, n * 100), &no, &Sight::Fresh)).sum();
    assert_eq!(calls, 1, "no storm of retries");
    let ended = flow.ended();
    assert_eq!((ended.len(), ended[0].0.key, ended[0].1.reason.as_deref()), (1, 2, Some("invalid token")));
    flow.take(Request { key: 3, ..asked }, at(start, 30_000));
    assert_eq!(flow.ended().len(), 1, "a later command is told at once");
    let calls: usize =
        (300..1_000).map(|n| settle(&mut flow, at(start, n * 100), &DONE, &Sight::Fresh)).sum();
    assert!(
        calls >= 2 && flow.ended()[0].0.key == 1,
        "what the event asked for is done when they are taken again"
    );
}

#[test]
fn one_bad_selector_is_found_and_the_others_are_purged() {
    let (start, mut flow) = (Instant::now(), Flow::new("varnish", LIMITS, POLICY, Position::default()));
    (0..3).for_each(|n| flow.take(request(u64::from(n) + 1, vec![selector(n)], false), at(start, 0)));
    for ms in (0..10_000).step_by(100) {
        flow.pass_time(at(start, ms));
        while let Some(call) = flow.next_call(at(start, ms)) {
            let bad = call.batch.items.iter().any(|item| item.selector == selector(1));
            flow.answered(call.id, if bad { Answer::Refused("bad tag".into()) } else { DONE }, at(start, ms));
        }
    }
    let ended = flow.ended();
    let failed: Vec<Key> = ended
        .iter()
        .filter(|(_, outcome)| outcome.state == keelson_schemas::cdn::PurgeState::Failed)
        .map(|(request, _)| request.key)
        .collect();
    assert_eq!((ended.len(), failed), (3, vec![2]));
}

#[test]
fn the_version_of_the_newest_event_counts() {
    let (start, mut flow) = (Instant::now(), Flow::new("varnish", LIMITS, POLICY, Position::default()));
    let version = |etag: &str| Arc::new(Version { etag: Some(etag.into()), ..Version::default() });
    for (key, etag) in [(1, "one"), (2, "two")] {
        flow.learn(key, &[selector(4)], Some(&version(etag)));
        flow.take(request(key, vec![selector(4)], false), at(start, 0));
        settle(&mut flow, at(start, key * 100), &DONE, &Sight::Fresh);
    }
    flow.pass_time(at(start, 2_100));
    let call = flow.next_call(at(start, 2_100)).unwrap();
    flow.answered(call.id, DONE, at(start, 2_100));
    assert_eq!(flow.next_look(at(start, 2_100)).unwrap().expected, Some(version("two")));
}

/// Whoever waits for a new purge waits for no crowd of rebounds and looks; these take all there is once nothing new comes.
#[test]
fn what_is_sent_again_leaves_room_for_what_is_new() {
    let limits =
        Limits { again_at_once: 1, tag: Some(PerCall { items: 1, ..LIMITS.tag.unwrap() }), ..LIMITS };
    let (start, mut flow) = (Instant::now(), Flow::new("varnish", limits, POLICY, Position::default()));
    (0..6).for_each(|n| flow.take(request(u64::from(n) + 1, vec![selector(n)], false), at(start, 0)));
    settle(&mut flow, at(start, 0), &DONE, &Sight::Fresh);
    flow.take(request(7, vec![selector(6)], false), at(start, 2_000));
    flow.pass_time(at(start, 2_000));
    let calls =
        |flow: &mut Flow, ms| std::iter::from_fn(|| flow.next_call(at(start, ms))).collect::<Vec<_>>();
    let (new, beside) = (calls(&mut flow, 2_000), calls(&mut flow, 2_999));
    assert_eq!(new.iter().map(|call| call.batch.again).collect::<Vec<_>>(), [false, true]);
    assert!(beside.is_empty(), "one beside the new one is enough");
    let later = calls(&mut flow, 3_000);
    assert_eq!(later.iter().map(|call| call.batch.again).collect::<Vec<_>>(), [true]);
}

#[test]
fn a_message_that_is_gone_holds_up_nothing() {
    let (start, position) = (Instant::now(), Position { read: 9, open: vec![3, 5, 7] });
    let mut flow = Flow::new("varnish", LIMITS, POLICY, position);
    flow.take(request(5, vec![selector(0)], false), at(start, 0));
    flow.pass(6);
    assert_eq!(flow.position(), Position { read: 9, open: vec![5, 7] });
    flow.pass(10);
    assert_eq!(flow.position(), Position { read: 10, open: vec![5] });
}
