//! Notifiers that crash, are replaced without knowing it, and fail to deliver, at any step; and a receiver that sees to it that every transition reached it
//! once, in order.
//!
//! The bus is what is durable here: transitions, groups that only who raised the fence last can write, and a checkpoint that belongs to who claimed it last. What [`super::outbox`] and
//! [`super::keeper`] promise is done by hand: a notification goes out only when the record that holds it is written, and a group is let go only when
//! the checkpoint covers it.

use std::collections::{BTreeMap, BTreeSet};

use keelson_schemas::alerting::{Alert, AlertState, Notify, Silence, Transition};
use proptest::prelude::*;

use super::alerts::Alerts;
use super::config::{NotifyConfig, Route};
use super::dispatch::Dispatch;
use super::group::{Group, GroupId};
use super::testing::transition;
use crate::silences::Silences;

const ALERTS: [&str; 4] = [
    "alertname=A service_name=web",
    "alertname=A service_name=web instance=2",
    "alertname=A service_name=db",
    "alertname=B service_name=db severity=info",
];
/// More than a group waits before it tells of more.
const LONG_MS: u64 = 60_000;

/// Two ways of telling people.
const ROUTES: [&str; 2] = [
    "receiver = \"ops\"\n[[routes]]\nmatchers = ['severity=\"info\"']\nreceiver = \"quiet\"\ngroup_wait = \"30s\"\n",
    "receiver = \"quiet\"\ngroup_by = [\"alertname\"]\n[[routes]]\nmatchers = ['service_name=\"web\"']\nreceiver = \"ops\"\ncontinue = true\n",
];

fn config(routes: &str) -> NotifyConfig {
    NotifyConfig::for_tests(&["ops", "quiet"], toml::from_str::<Route>(routes).unwrap())
}

#[derive(Clone, Debug)]
enum Step {
    /// An alert fires, or resolves if it fires.
    Change(usize),
    /// What was published arrives.
    Take,
    Settle,
    /// One group is written.
    Write(usize),
    /// One written notification is posted; whether it arrives, and whether the notifier gets to know.
    Post {
        which: usize,
        arrives: bool,
        known: bool,
    },
    Keep,
    LetGo(usize),
    /// Everything works for a while.
    Calm,
    Wait(u64),
    Silence(usize),
    EndSilences,
    /// There are other routes from now on.
    Reroute,
    /// The process dies, and another reads back what is durable.
    Crash,
    /// Another takes over, while this one goes on for a step now and then.
    TakeOver,
    /// The one that was replaced does a step.
    Zombie(Box<Step>),
}

fn step() -> impl Strategy<Value = Step> {
    let plain = prop_oneof![
        6 => (0..ALERTS.len()).prop_map(Step::Change),
        6 => Just(Step::Take),
        6 => Just(Step::Settle),
        8 => any::<usize>().prop_map(Step::Write),
        8 => (any::<usize>(), any::<bool>(), any::<bool>()).prop_map(|(which, arrives, known)| Step::Post { which, arrives, known }),
        3 => Just(Step::Keep),
        4 => any::<usize>().prop_map(Step::LetGo),
        4 => Just(Step::Calm),
        3 => prop_oneof![Just(10), Just(LONG_MS)].prop_map(Step::Wait),
        2 => Just(Step::Crash),
        1 => Just(Step::TakeOver),
    ];
    plain.clone().prop_flat_map(
        move |step| prop_oneof![4 => Just(step.clone()), 1 => Just(Step::Zombie(Box::new(step)))],
    )
}

fn step_with_silences() -> impl Strategy<Value = Step> {
    prop_oneof![10 => step(), 1 => (0..ALERTS.len()).prop_map(Step::Silence), 1 => Just(Step::EndSilences)]
}

fn step_with_other_routes() -> impl Strategy<Value = Step> {
    prop_oneof![12 => step(), 1 => Just(Step::Reroute)]
}

/// What survives.
#[derive(Default)]
struct Bus {
    transitions: Vec<Transition>,
    groups: BTreeMap<GroupId, (u64, Group)>,
    revision: u64,
    kept: Alerts,
    epoch: u64,
    silences: Vec<Silence>,
}

/// A process.
struct Notifier {
    epoch: u64,
    dispatch: Dispatch,
    /// The last transition that was taken in.
    taken: usize,
    revisions: BTreeMap<GroupId, u64>,
    written: BTreeMap<GroupId, u64>,
    /// What it knows to be sealed and written, by group and lane.
    sealed: BTreeMap<(GroupId, String), u64>,
    covered: u64,
    is_over: bool,
}

struct World {
    config: NotifyConfig,
    routes: usize,
    bus: Bus,
    active: Option<Notifier>,
    zombie: Option<Notifier>,
    firing: [bool; ALERTS.len()],
    now_ms: u64,
    arrived: Vec<Notify>,
}

impl Notifier {
    fn recover(config: &NotifyConfig, bus: &mut Bus, now_ms: u64) -> Self {
        bus.epoch += 1;
        let mut silences = Silences::default();
        bus.silences.iter().cloned().for_each(|silence| silences.put(silence, 1));
        let covered = bus.kept.sequence();
        let mut this = Self {
            epoch: bus.epoch,
            dispatch: Dispatch::new(config, 1, bus.kept.clone(), silences).unwrap(),
            taken: covered as usize,
            revisions: BTreeMap::new(),
            written: BTreeMap::new(),
            sealed: BTreeMap::new(),
            covered,
            is_over: false,
        };
        for (id, (revision, group)) in &bus.groups {
            this.knows(id, *revision, group);
            assert_eq!(this.dispatch.restore(id.clone(), group.clone()), []);
        }
        while this.take(bus, now_ms) {}
        this.dispatch.place(now_ms);
        this
    }

    /// Notes what is written of a group.
    fn knows(&mut self, id: &GroupId, revision: u64, group: &Group) {
        self.revisions.insert(id.clone(), revision);
        for (lane, state) in &group.lanes {
            let place = (id.clone(), lane.clone());
            match &state.sealed {
                Some(sealed) => self.sealed.insert(place, sealed.number),
                None => self.sealed.remove(&place),
            };
        }
    }

    fn take(&mut self, bus: &Bus, now_ms: u64) -> bool {
        let Some(transition) = bus.transitions.get(self.taken) else { return false };
        self.taken += 1;
        self.dispatch.apply(self.taken as u64, transition, None, now_ms);
        true
    }

    fn unwritten(&self) -> Vec<GroupId> {
        let written = |id: &GroupId| self.written.get(id).copied().unwrap_or(0);
        self.dispatch
            .groups()
            .filter(|(id, entry)| entry.version > written(id))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// One that was replaced finds the fence raised.
    fn write(&mut self, bus: &mut Bus, which: usize) {
        let unwritten = self.unwritten();
        let Some(id) = unwritten.get(which % unwritten.len().max(1)) else { return };
        if bus.epoch > self.epoch {
            self.is_over = true;
            return;
        }
        let Some(entry) = self.dispatch.group(id) else { return };
        let (version, group) = (entry.version, entry.group.clone());
        bus.revision += 1;
        self.knows(id, bus.revision, &group);
        self.written.insert(id.clone(), version);
        bus.groups.insert(id.clone(), (bus.revision, group));
    }

    /// The notifications that are sealed and known to be written.
    fn ready(&self) -> Vec<(GroupId, String, u64, Notify)> {
        let mut ready = Vec::new();
        for (id, entry) in self.dispatch.groups() {
            for (lane, state) in &entry.group.lanes {
                let Some(number) = state.sealed.as_ref().map(|sealed| sealed.number) else { continue };
                if self.sealed.get(&(id.clone(), lane.clone())) == Some(&number) {
                    ready.push((
                        id.clone(),
                        lane.clone(),
                        number,
                        entry.group.notification(id, lane).unwrap(),
                    ));
                }
            }
        }
        ready
    }

    fn keep(&mut self, bus: &mut Bus) {
        if !self.unwritten().is_empty() {
            return;
        }
        if bus.epoch > self.epoch {
            self.is_over = true;
            return;
        }
        bus.kept = self.dispatch.alerts().clone();
        self.covered = bus.kept.sequence();
    }

    fn let_go(&mut self, bus: &mut Bus, which: usize) {
        let idle = self
            .dispatch
            .groups()
            .filter(|(_, entry)| entry.group.is_idle() && entry.group.through <= self.covered);
        let idle: Vec<GroupId> = idle.map(|(id, _)| id.clone()).collect();
        let Some(id) = idle.get(which % idle.len().max(1)) else { return };
        // A purge up to a revision leaves what another wrote since.
        if bus
            .groups
            .get(id)
            .is_some_and(|(revision, _)| self.revisions.get(id).is_some_and(|known| revision <= known))
        {
            bus.groups.remove(id);
        }
        self.dispatch.remove(id);
        self.revisions.remove(id);
        self.written.remove(id);
    }
}

impl World {
    fn new() -> Self {
        let config = config(ROUTES[0]);
        let mut bus = Bus::default();
        let active = Notifier::recover(&config, &mut bus, 1);
        Self {
            config,
            routes: 0,
            bus,
            active: Some(active),
            zombie: None,
            firing: [false; ALERTS.len()],
            now_ms: 1,
            arrived: Vec::new(),
        }
    }

    fn run(&mut self, step: &Step) {
        self.now_ms += 1;
        match step {
            Step::Change(which) => {
                self.firing[*which] = !self.firing[*which];
                self.bus.transitions.push(transition(ALERTS[*which], self.firing[*which], self.now_ms));
            }
            Step::Wait(ms) => self.now_ms += ms,
            Step::Silence(which) => self.silence(*which),
            Step::EndSilences => self.end_silences(),
            Step::Calm => self.calm(),
            Step::Crash => self.active = None,
            Step::Reroute => {
                self.routes = 1 - self.routes;
                self.config = config(ROUTES[self.routes]);
                self.active = None;
            }
            Step::TakeOver => self.zombie = self.active.take(),
            Step::Zombie(step) => {
                if let Some(mut zombie) = self.zombie.take() {
                    self.work(&mut zombie, step);
                    self.zombie = Some(zombie).filter(|zombie| !zombie.is_over);
                }
            }
            step => {
                let recover = || Notifier::recover(&self.config, &mut self.bus, self.now_ms);
                let mut active = self.active.take().unwrap_or_else(recover);
                self.work(&mut active, step);
                self.active = Some(active).filter(|active| !active.is_over);
            }
        }
    }

    fn work(&mut self, notifier: &mut Notifier, step: &Step) {
        match step {
            Step::Take => drop(notifier.take(&self.bus, self.now_ms)),
            Step::Settle => notifier.dispatch.settle(self.now_ms),
            Step::Write(which) => notifier.write(&mut self.bus, *which),
            Step::Keep => notifier.keep(&mut self.bus),
            Step::LetGo(which) => notifier.let_go(&mut self.bus, *which),
            Step::Post { which, arrives, known } => {
                let ready = notifier.ready();
                let Some((id, lane, number, notify)) = ready.get(which % ready.len().max(1)) else { return };
                if *arrives {
                    self.arrived.push(notify.clone());
                }
                let (now_ms, delivered) = (self.now_ms, *arrives && *known);
                notifier.dispatch.sealed(id, lane, *number, |lane, _| {
                    if delivered { lane.delivered(now_ms) } else { lane.failed("no", now_ms) }
                });
            }
            _ => {}
        }
    }

    fn silence(&mut self, which: usize) {
        let alert = transition(ALERTS[which], true, 0).alert;
        let matchers =
            alert.labels.iter().map(|(name, value)| format!("{name}={value}").parse().unwrap()).collect();
        self.bus.silences.push(Silence {
            id: format!("s{}", self.bus.silences.len()),
            matchers,
            starts_at_ms: 0,
            ends_at_ms: u64::MAX,
            updated_at_ms: 0,
            created_by: String::new(),
            comment: String::new(),
        });
        self.tell_of_silences();
    }

    fn end_silences(&mut self) {
        self.bus.silences.iter_mut().for_each(|silence| silence.ends_at_ms = 0);
        self.tell_of_silences();
    }

    fn tell_of_silences(&mut self) {
        for silence in &self.bus.silences {
            let value = keelson_schemas::codec::encode(silence).unwrap();
            let change =
                keelson_kit::kv::Change { key: silence.id.clone(), revision: 1, value: Some(value.into()) };
            let both = self.active.iter_mut().chain(&mut self.zombie);
            both.for_each(|notifier| notifier.dispatch.silence(&change));
        }
    }

    fn calm(&mut self) {
        let post = Step::Post { which: 0, arrives: true, known: true };
        let round = [Step::Take, Step::Settle, Step::Write(0), post, Step::Settle, Step::Write(0)];
        for _ in 0..6 {
            round.iter().for_each(|step| self.run(step));
        }
    }

    /// Everything works again, for as long as it takes.
    fn heal(&mut self) {
        self.zombie = None;
        self.end_silences();
        for _ in 0..60 {
            self.calm();
            self.run(&Step::Wait(LONG_MS));
        }
    }

    /// The changes of each alert in each group of a receiver, as they reached one that passes over a key it has seen: state and time, each once.
    fn heard(&self) -> BTreeMap<(String, String), Vec<Moment>> {
        let mut seen: BTreeMap<&str, &Notify> = BTreeMap::new();
        let mut heard: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for notify in &self.arrived {
            if let Some(former) = seen.insert(&notify.key, notify) {
                assert_eq!(former, notify, "two notifications under one key");
                continue;
            }
            let mut news = 0;
            let mut alerts = BTreeSet::new();
            for alert in &notify.alerts {
                assert!(alerts.insert(&alert.fingerprint), "an alert is in a notification twice");
                let place = format!("{} {}", notify.receiver, notify.group_key);
                let of_this = heard.entry((alert.fingerprint.clone(), place)).or_default();
                if of_this.last() != Some(&moment(alert)) {
                    assert!(!of_this.contains(&moment(alert)), "it went back in time: {notify:?}");
                    of_this.push(moment(alert));
                    news += 1;
                }
            }
            assert_eq!(notify.repeat, news == 0, "{notify:?}");
        }
        heard
    }
}

impl World {
    /// How each alert stands in the end.
    fn standing(&self) -> BTreeMap<String, Moment> {
        let transitions = self.bus.transitions.iter().map(|transition| &transition.alert);
        transitions.map(|alert| (alert.fingerprint.clone(), moment(alert))).collect()
    }

    /// What was heard last of an alert, in each of its groups.
    fn heard_last(&self, fingerprint: &str) -> Vec<AlertState> {
        let heard = self.heard().into_iter().filter(|((of, _), _)| of == fingerprint);
        heard.filter_map(|(_, heard)| Some(heard.last()?.0)).collect()
    }
}

/// A state, and since when.
type Moment = (AlertState, Option<u64>);

fn moment(alert: &Alert) -> Moment {
    (alert.state, if alert.state == AlertState::Firing { alert.starts_at_ms } else { alert.ends_at_ms })
}

fn after(steps: &[Step]) -> World {
    let mut world = World::new();
    steps.iter().for_each(|step| world.run(step));
    world.heal();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_transition_is_in_exactly_one_first_notification(steps in prop::collection::vec(step(), 1..150)) {
        let world = after(&steps);
        let mut expected: BTreeMap<String, Vec<Moment>> = BTreeMap::new();
        for transition in &world.bus.transitions {
            expected.entry(transition.alert.fingerprint.clone()).or_default().push(moment(&transition.alert));
        }
        let heard = world.heard().into_iter().map(|((fingerprint, _), heard)| (fingerprint, heard));
        prop_assert_eq!(heard.collect::<BTreeMap<_, _>>(), expected);
    }

    #[test]
    fn under_silences_what_was_opened_is_closed_and_what_fires_in_the_end_is_told(steps in prop::collection::vec(step_with_silences(), 1..150)) {
        let world = after(&steps);
        for (fingerprint, stands) in world.standing() {
            let last = world.heard_last(&fingerprint);
            let never_opened = last.is_empty() && stands.0 == AlertState::Resolved;
            prop_assert!(never_opened || last == [stands.0], "{:?} was heard last, and {:?} is true", last, stands);
        }
    }

    #[test]
    fn under_other_routes_what_was_opened_is_closed_by_who_opened_it(steps in prop::collection::vec(step_with_other_routes(), 1..150)) {
        let world = after(&steps);
        for (fingerprint, stands) in world.standing() {
            let last = world.heard_last(&fingerprint);
            let is_right = match stands.0 {
                AlertState::Resolved => !last.contains(&AlertState::Firing),
                _ => last.contains(&AlertState::Firing),
            };
            prop_assert!(is_right, "{:?} was heard last, and {:?} is true", last, stands);
        }
    }
}
