//! Who is told what, when: one receiver that is reached at once, by table.

use keelson_schemas::alerting::Notify;

use super::*;
use crate::notify::config::{Inhibit, Route, Span};
use crate::notify::testing::transition;

const WEB: &str = "alertname=A service_name=web";
const WEB_2: &str = "alertname=A service_name=web instance=2";
const WEB_3: &str = "alertname=A service_name=web instance=3";

/// A notifier and its receiver.
struct Desk {
    dispatch: Dispatch,
    sequence: u64,
}

impl Desk {
    fn of(config: &NotifyConfig) -> Self {
        let dispatch = Dispatch::new(config, 1, Alerts::default(), Silences::default()).unwrap();
        Self { dispatch, sequence: 0 }
    }

    fn with(route: &str) -> Self {
        Self::of(&NotifyConfig::for_tests(&["ops"], toml::from_str::<Route>(route).unwrap()))
    }

    /// An alert fires or resolves at a second; what the receiver is told then.
    fn change(&mut self, second: u64, alert: &str, fires: bool) -> Vec<String> {
        self.take(second, alert, fires);
        self.at(second)
    }

    /// The same, and something else comes with it.
    fn take(&mut self, second: u64, alert: &str, fires: bool) {
        self.sequence += 1;
        let transition = transition(alert, fires, second * 1000);
        self.dispatch.apply(self.sequence, &transition, None, second * 1000);
    }

    /// What the receiver is told by a second: who fires, and who resolved, by instance.
    fn at(&mut self, second: u64) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(notify) = self.next(second) {
            told.push(shown(&notify));
        }
        told
    }

    /// What is sealed was tried until a second, in vain.
    fn given_up_for_now(&mut self, second: u64) {
        let sealed = self.dispatch.groups().find_map(|(id, entry)| {
            Some((id.clone(), entry.group.lanes.get("webhook")?.sealed.as_ref()?.number))
        });
        let (id, number) = sealed.unwrap();
        self.dispatch
            .sealed(&id, "webhook", number, |lane, changes| lane.tell_anew("away", changes, second * 1000));
    }

    fn next(&mut self, second: u64) -> Option<Notify> {
        let now_ms = second * 1000;
        self.dispatch.settle(now_ms);
        let sealed = self.dispatch.groups().find_map(|(id, entry)| {
            let lane = entry.group.lanes.get("webhook")?;
            Some((id.clone(), lane.sealed.as_ref()?.number, entry.group.notification(id, "webhook")?))
        });
        let (id, number, notify) = sealed?;
        self.dispatch.sealed(&id, "webhook", number, |lane, _| lane.delivered(now_ms));
        Some(notify)
    }
}

/// `+1 +2 -3`: instance 1 and 2 fire, 3 resolved.
fn shown(notify: &Notify) -> String {
    let alert = |alert: &Alert| {
        let sign = if alert.state == AlertState::Firing { '+' } else { '-' };
        format!("{sign}{}", alert.labels.get("instance").map_or("1", String::as_str))
    };
    let mut shown: Vec<String> = notify.alerts.iter().map(alert).collect();
    shown.extend((notify.more > 0).then(|| format!("and {}", notify.more)));
    shown.extend(notify.repeat.then(|| "again".to_owned()));
    shown.join(" ")
}

const NOTHING: [&str; 0] = [];

#[test]
fn the_first_page_goes_at_once_and_what_comes_later_is_collected() {
    let mut desk = Desk::with("");
    assert_eq!(desk.change(0, WEB, true), ["+1"]);
    assert_eq!(desk.change(1, WEB_2, true), NOTHING);
    assert_eq!(desk.change(2, WEB_3, true), NOTHING);
    assert_eq!(desk.at(29), NOTHING);
    assert_eq!(desk.at(30), ["+2 +3 +1"]);
    assert_eq!(desk.change(31, WEB_2, false), NOTHING);
    assert_eq!(desk.at(60), ["-2 +1 +3"]);
    assert_eq!(desk.change(61, WEB, false), NOTHING);
    assert_eq!(desk.change(62, WEB_3, false), ["-1 -3"], "the end of all is told at once");
    assert_eq!(desk.dispatch.groups().filter(|(_, entry)| !entry.group.is_idle()).count(), 0);
}

#[test]
fn a_group_may_wait_before_its_first_page() {
    let mut desk = Desk::with("group_wait = \"10s\"\ngroup_interval = \"1m\"");
    assert_eq!(desk.change(0, WEB, true), NOTHING);
    assert_eq!(desk.change(5, WEB_2, true), NOTHING);
    assert_eq!(desk.at(10), ["+1 +2"]);
    assert_eq!(desk.change(11, WEB_3, true), NOTHING);
    assert_eq!(desk.at(69), NOTHING);
    assert_eq!(desk.at(70), ["+3 +1 +2"]);
}

#[test]
fn each_change_of_one_alert_is_told_in_its_order() {
    let mut desk = Desk::with("");
    assert_eq!(desk.change(0, WEB, true), ["+1"]);
    desk.take(1, WEB_2, true);
    desk.take(2, WEB_2, false);
    desk.take(3, WEB_2, true);
    assert_eq!(desk.at(29), NOTHING);
    assert_eq!(desk.at(30), ["+2 +1", "-2 +1", "+2 +1"]);
}

#[test]
fn what_fires_on_is_told_again_after_a_while() {
    let mut desk = Desk::with("repeat_interval = \"1h\"");
    assert_eq!(desk.change(0, WEB, true), ["+1"]);
    assert_eq!(desk.at(3599), NOTHING);
    assert_eq!(desk.at(3600), ["+1 again"]);
    assert_eq!(desk.at(7199), NOTHING);
    assert_eq!(desk.at(7200), ["+1 again"]);
    assert_eq!(desk.change(7201, WEB, false), ["-1"]);
    assert_eq!(desk.at(20_000), NOTHING);
}

#[test]
fn many_alerts_take_many_notifications_and_none_looks_like_the_end() {
    let mut desk = Desk::with("");
    let alerts: Vec<String> = (0..150).map(|n| format!("{WEB} instance=i{n}")).collect();
    alerts.iter().for_each(|alert| desk.take(0, alert, true));
    let first = desk.next(0).unwrap();
    let second = desk.next(0).unwrap();
    assert_eq!((first.alerts.len(), first.more), (99, 0));
    assert_eq!((second.alerts.len(), second.more), (100, 50), "51 that are new, and 49 of those told before");
    assert!(desk.next(0).is_none());
    alerts[1..].iter().for_each(|alert| desk.take(1, alert, false));
    while let Some(notify) = desk.next(31) {
        assert_eq!(notify.status(), AlertState::Firing);
        assert!(notify.alerts.len() <= 100);
    }
    assert_eq!(desk.change(40, &alerts[0], false), ["-i0"]);
}

#[test]
fn a_group_that_has_no_room_goes_on_in_another_part() {
    let mut desk = Desk::with("");
    let alerts: Vec<String> = (0..600).map(|n| format!("{WEB} instance=i{n}")).collect();
    alerts.iter().for_each(|alert| desk.take(0, alert, true));
    let told: usize = std::iter::from_fn(|| desk.next(0)).map(|notify| notify.alerts.len()).sum();
    assert!(told >= 600);
    let groups: Vec<(u32, usize)> =
        desk.dispatch.groups().map(|(_, entry)| (entry.group.part, entry.group.members.len())).collect();
    assert!(groups.len() >= 3 && groups.iter().all(|(_, members)| *members <= 250), "{groups:?}");
    alerts.iter().for_each(|alert| desk.take(60, alert, false));
    while desk.next(60).is_some() {}
    assert!(desk.dispatch.groups().all(|(_, entry)| entry.group.is_idle()));
}

#[test]
fn a_receiver_may_not_want_to_hear_of_the_end() {
    let mut config = NotifyConfig::for_tests(&["ops"], Route::default());
    config.receivers[0].send_resolved = false;
    let mut desk = Desk::of(&config);
    assert_eq!(desk.change(0, WEB, true), ["+1"]);
    assert_eq!(desk.change(1, WEB, false), NOTHING);
    assert_eq!(desk.change(2, WEB, true), ["+1"], "a first page again");
}

#[test]
fn what_is_inhibited_is_held_back_until_its_source_resolves() {
    let mut config = NotifyConfig::for_tests(&["ops"], Route::default());
    config.inhibit = vec![Inhibit {
        source: vec!["alertname=Down".into()],
        target: vec!["alertname=A".into()],
        equal: vec!["service_name".into()],
    }];
    let mut desk = Desk::of(&config);
    let down = "alertname=Down service_name=web";
    // The one that is inhibited comes first, but they are decided about together.
    desk.take(0, WEB, true);
    assert_eq!(desk.change(0, down, true), ["+1"]);
    let views = desk.dispatch.views(0).alerts;
    assert_eq!(views.iter().map(|view| view.inhibited_by.len()).sum::<usize>(), 1);
    let mut told = desk.change(10, down, false);
    told.sort();
    assert_eq!(told, ["+1", "-1"]);
    assert_eq!(desk.change(11, WEB, false), ["-1"]);
}

#[test]
fn what_flaps_is_held_back_until_it_is_steady() {
    let mut config = NotifyConfig::for_tests(&["ops"], Route::default());
    config.flap = Flap { fired: 3, within: Span::seconds(600), steady: Span::seconds(60) };
    let mut desk = Desk::of(&config);
    for (second, fires, told) in [
        (0, true, &["+1"][..]),
        (10, false, &["-1"]),
        (20, true, &["+1"]),
        (30, false, &["-1"]),
        (40, true, &[]),
    ] {
        assert_eq!(desk.change(second, WEB, fires), told, "{second}");
    }
    assert!(desk.dispatch.views(40_000).alerts[0].flapping);
    assert_eq!(desk.at(99), NOTHING);
    assert_eq!(desk.at(100), ["+1"], "steady for a minute, and it fires");
    assert_eq!(desk.change(110, WEB, false), ["-1"]);
}

#[test]
fn what_could_not_be_delivered_for_too_long_is_told_anew_and_in_order() {
    let mut desk = Desk::with("");
    assert_eq!(desk.change(0, WEB, true), ["+1"]);
    desk.take(30, WEB_2, true);
    desk.dispatch.settle(30_000);
    desk.take(31, WEB_2, false);
    desk.given_up_for_now(4_000);
    assert_eq!(desk.at(4_000), ["+1 +2", "-2 +1"]);
    desk.take(5_000, WEB, false);
    desk.dispatch.settle(5_000_000);
    desk.given_up_for_now(9_000);
    assert_eq!(desk.at(9_000), ["-1"], "nor is the end lost");
    assert_eq!(desk.at(100_000), NOTHING);
}

#[test]
fn what_waits_for_a_way_that_is_gone_is_given_back_once() {
    let mut desk = Desk::with("");
    desk.take(0, WEB, true);
    desk.dispatch.settle(0);
    desk.take(1, WEB, false);
    let (id, group) =
        desk.dispatch.groups().map(|(id, entry)| (id.clone(), entry.group.clone())).next().unwrap();
    let sealed = group.notification(&id, "webhook").unwrap();
    let mut others = Desk::of(&NotifyConfig::for_tests(&["others"], Route::default()));
    let let_go = others.dispatch.restore(id.clone(), group);
    assert_eq!(let_go.iter().map(shown).collect::<Vec<_>>(), ["+1", "-1"]);
    assert!(let_go[0] == sealed && let_go[1].key != sealed.key);
    let entry = others.dispatch.group(&id).unwrap();
    assert_eq!((entry.version, entry.group.clone().keep_ways(&id, &[])), (1, Vec::new()));
}

#[test]
fn what_became_of_alerts_is_told_though_the_transitions_are_lost() {
    let mut desk = Desk::with("");
    desk.take(0, WEB, true);
    assert_eq!(desk.change(0, WEB_2, true), ["+1 +2"]);
    let fires = |text: &str| {
        let alert = transition(text, true, 50_000).alert;
        (alert.fingerprint.clone(), alert)
    };
    let live = BTreeMap::from([fires(WEB_2), fires(WEB_3)]);
    for expected in [2, 0] {
        assert_eq!(desk.dispatch.reconcile(&live, 60_000), expected);
        desk.dispatch.place(60_000);
    }
    assert_eq!(desk.at(60), ["+3 -1 +2"]);
    assert_eq!(desk.at(1_000), NOTHING, "neither is repeated");
    assert_eq!(desk.dispatch.reconcile(&BTreeMap::new(), 2_000_000), 2);
    desk.dispatch.place(2_000_000);
    assert_eq!(desk.at(2_000), ["-2 -3"]);
    assert!(desk.dispatch.groups().all(|(_, entry)| entry.group.is_idle()));
}

#[test]
fn a_transition_that_comes_again_is_no_news() {
    let mut desk = Desk::with("");
    assert_eq!(desk.change(0, WEB, true), ["+1"]);
    desk.sequence = 0;
    assert_eq!(desk.change(1, WEB, true), NOTHING);
}
