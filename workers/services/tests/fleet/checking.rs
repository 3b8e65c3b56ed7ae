//! The registry, and what checks find.

use std::time::{Duration, Instant};

use keelson_kit::query::AskError;
use keelson_schemas::alerting::Signals;
use keelson_schemas::operation::State;
use keelson_schemas::services::{
    Check, Deregister, Deregistered, FindService, Health, HealthChanged, Register, Service as Registered,
    Services, Source, Urls, Why,
};

use crate::fixture::{Fleet, Manner, Service, service, within};

const QUICK: &str = "[check]\ninterval = \"200ms\"\ntimeout = \"150ms\"\n";

#[tokio::test]
async fn a_service_is_up_after_two_successes_and_down_after_exactly_three_failures() {
    let fleet = Fleet::start(QUICK).await;
    let content = Service::start().await;
    fleet.register(service("content", &[&content])).await;
    let status = fleet.until("content", |status| status.health == Health::Up).await;
    assert_eq!(status.instances[0].url, content.url());
    assert!(content.checks() >= 2);
    content.behave(Manner::Ill(500));
    let before = content.checks();
    let status = fleet.until("content", |status| status.health == Health::Down).await;
    let failed = content.checks() - before;
    assert!((3..=4).contains(&failed), "{failed} checks, of which one may have begun before");
    assert!(status.instances[0].reason.as_deref().unwrap().contains("500"));
    content.behave(Manner::Well);
    fleet
        .until("content", |status| {
            status.health == Health::Up && status.instances[0].uptime.hour.unwrap() < 1.0
        })
        .await;
    let told = within(Duration::from_secs(5), || async {
        let told: Vec<HealthChanged> = fleet.events(&["up", "down", "unknown"]).await;
        (told.len() >= 3).then_some(told)
    });
    let told: Vec<(Health, Health, u64)> =
        told.await.unwrap().iter().map(|event| (event.before, event.health, event.number)).collect();
    assert_eq!(
        told,
        [(Health::Unknown, Health::Up, 1), (Health::Up, Health::Down, 2), (Health::Down, Health::Up, 3)]
    );
    let told = within(Duration::from_secs(5), || async {
        let signals: Vec<Signals> = fleet.events(&["signals"]).await;
        let readings = signals.into_iter().flat_map(|signals| signals.readings);
        let down: Vec<f64> = readings.filter(|r| r.signal == "service_down").map(|r| r.value).collect();
        (down.contains(&1.0) && down.last() == Some(&0.0)).then_some(())
    });
    told.await.expect("rules are told that it was down, and that it is not any more");
}

#[tokio::test]
async fn a_checker_that_is_cut_off_says_unknown_and_never_down() {
    let (mut content, mut gateway) = (Service::start().await, Service::start().await);
    let fleet = Fleet::start(&format!("{QUICK}reference = \"tcp://{}\"\n", gateway.address)).await;
    fleet.register(service("content", &[&content])).await;
    fleet.until("content", |status| status.health == Health::Up).await;
    gateway.kill().await;
    content.kill().await;
    let status = fleet.until("content", |status| status.health == Health::Unknown).await;
    assert!(status.instances[0].reason.as_deref().unwrap().contains("the checker cannot see"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fleet.events::<HealthChanged>(&["down"]).await, []);
    gateway.resume().await;
    fleet.until("content", |status| status.health == Health::Down).await;
    content.resume().await;
    fleet.until("content", |status| status.health == Health::Up).await;
}

#[tokio::test]
async fn whatever_a_service_does_in_the_place_of_an_answer_is_seen_for_what_it_is() {
    let fleet = Fleet::start(QUICK).await;
    let manners = [
        ("garbage", Manner::Garbage),
        ("half", Manner::Half),
        ("never", Manner::Never),
        ("slow", Manner::Slow(Duration::from_millis(400))),
        ("elsewhere", Manner::Elsewhere),
        ("other", Manner::Well),
        ("endless", Manner::Endless),
    ];
    let mut services = Vec::new();
    for (name, manner) in manners {
        let one = Service::start().await;
        one.behave(manner);
        let check = Check { body: Some("ok".into()), ..Check::default() };
        fleet.register(Register { check, ..service(name, &[&one]) }).await;
        services.push(one);
    }
    for (name, _) in manners {
        let status = fleet.until(name, |status| status.health == Health::Down).await;
        assert!(status.instances[0].reason.is_some(), "{name}");
    }
}

#[tokio::test]
async fn tcp_and_nats_are_checked_too() {
    let fleet = Fleet::start(QUICK).await;
    let mut database = Service::start().await;
    let url = |url: String| Register { name: "x".into(), url: Urls::One(url), ..Register::default() };
    fleet.register(Register { name: "database".into(), ..url(format!("tcp://{}", database.address)) }).await;
    fleet.register(Register { name: "bus".into(), ..url("nats://keelson.qry.services.list".into()) }).await;
    fleet.register(Register { name: "nobody".into(), ..url("nats://keelson.qry.nobody.list".into()) }).await;
    fleet.until("database", |status| status.health == Health::Up).await;
    fleet.until("bus", |status| status.health == Health::Up).await;
    fleet.until("nobody", |status| status.health == Health::Down).await;
    database.kill().await;
    fleet.until("database", |status| status.health == Health::Down).await;
}

#[tokio::test]
async fn a_service_stays_while_it_is_down_and_goes_with_its_lease_or_on_command() {
    let fleet = Fleet::start(QUICK).await;
    let mut content = Service::start().await;
    content.kill().await;
    fleet.register(service("content", &[&content])).await;
    fleet.register(Register { lease: Some("2s".into()), ..service("leased", &[&content]) }).await;
    let name = |name: &str| FindService { name: name.to_owned() };
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        let () = fleet.ask("heartbeat", &name("leased")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(fleet.status("leased").await.health, Health::Down);
    let gone = within(Duration::from_secs(8), || async {
        let asked = fleet.ask::<_, ()>("heartbeat", &name("nothing")).await;
        assert!(matches!(asked, Err(AskError::Refused(refusal)) if refusal.status == 404));
        let status = fleet.ask::<_, serde_json::Value>("status", &name("leased")).await;
        matches!(status, Err(AskError::Refused(refusal)) if refusal.status == 404).then_some(())
    });
    gone.await.expect("its lease is over");
    assert_eq!(fleet.status("content").await.health, Health::Down);
    assert_eq!(fleet.obeyed(&Deregister { name: "content".into() }).await.state, State::Succeeded);
    assert_eq!(fleet.obeyed(&Deregister { name: "content".into() }).await.state, State::Rejected);
    let told = within(Duration::from_secs(5), || async {
        let told: Vec<Deregistered> = fleet.events(&["deregistered"]).await;
        (told.len() == 2).then_some(told)
    });
    let told: Vec<(String, Why)> =
        told.await.unwrap().into_iter().map(|event| (event.name, event.why)).collect();
    assert_eq!(told, [("leased".to_owned(), Why::Expired), ("content".to_owned(), Why::Command)]);
}

#[tokio::test]
async fn the_same_again_is_no_change_and_other_settings_are_refused() {
    let fleet = Fleet::start(QUICK).await;
    let (one, other) = (Service::start().await, Service::start().await);
    fleet.register(service("content", &[&one])).await;
    let again = fleet.obeyed(&service("content", &[&one])).await;
    assert_eq!(again.result.unwrap()["changed"], false);
    let refused = fleet.obeyed(&service("content", &[&other])).await;
    assert_eq!(refused.state, State::Rejected);
    assert!(refused.error.unwrap().contains("content"));
    let checked = fleet.ask::<_, ()>("check.register", &service("content", &[&other])).await;
    assert!(matches!(checked, Err(AskError::Refused(refusal)) if refusal.status == 422));
    fleet.register(Register { replace: true, ..service("content", &[&other]) }).await;
    assert_eq!(fleet.status("content").await.instances[0].url, other.url());
    for url in ["http://169.254.169.254", "http://localhost:70000", "http://2852039166/latest"] {
        let register = Register { name: "evil".into(), url: Urls::One(url.into()), ..Register::default() };
        assert_eq!(fleet.obeyed(&register).await.state, State::Rejected, "{url}");
    }
    let told: Vec<Registered> = fleet.events(&["registered"]).await;
    assert_eq!(told.len(), 2, "{told:?}");
}

#[tokio::test]
async fn what_is_registered_and_found_survives_the_worker() {
    let content = Service::start().await;
    let config = format!("{QUICK}[urls]\nvideo = [\"{}\"]\n", content.url());
    let mut fleet = Fleet::start(&config).await;
    fleet.register(service("content", &[&content])).await;
    fleet.until("content", |status| status.health == Health::Up).await;
    let video = within(Duration::from_secs(5), || async {
        let all: Services = fleet.ask("list", &()).await.unwrap();
        (all.services.len() == 2).then_some(all)
    });
    assert_eq!(video.await.unwrap().services[1].source, Source::Configuration);
    fleet.leave(0).await;
    content.behave(Manner::Never);
    fleet.join("[check]\ninterval = \"1h\"\n").await;
    let status = fleet.status("content").await;
    assert_eq!(status.health, Health::Up, "it was seen last so");
    let all: Services = fleet.ask("list", &()).await.unwrap();
    assert_eq!(
        all.services.len(),
        2,
        "what the configuration named once stays until somebody deregisters it"
    );
}
