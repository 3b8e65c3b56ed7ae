use keelson_bus_config::Discard;

use super::*;
use crate::testing::NatsServer;

fn data() -> BusConfig {
    BusConfig::load().unwrap_or_else(|error| panic!("{error}"))
}

fn of<'a>(plan: &'a Plan, name: &str) -> &'a Change {
    let found = plan.items.iter().find(|item| item.name == name);
    &found.unwrap_or_else(|| panic!("{name} is not in the plan")).change
}

#[tokio::test]
async fn applying_to_an_empty_bus_makes_everything_and_applying_again_nothing() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.bus().await?;
    assert!(plan(&bus).await?.items.iter().all(|item| item.change == Change::Create));
    apply(&bus, Permission::CreateOnly).await?;
    let again = plan(&bus).await?;
    assert!(again.is_done(), "{again}");
    assert!(apply(&bus, Permission::KeepData).await?.is_done());
    Ok(())
}

#[tokio::test]
async fn what_differs_is_changed_and_what_would_lose_data_is_refused_unless_allowed() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.prepared_bus().await?;
    bus.jetstream().publish("keelson.evt.test.happened", "x".repeat(1000).into()).await?.await?;

    let mut config = data();
    config.streams[3].max_age_s += 60;
    assert!(
        matches!(of(&plan_for(&bus, &config).await?, "EVENTS"), Change::Update { fields } if fields.len() == 1)
    );
    apply_config(&bus, &config, Permission::CreateOnly).await?;
    assert!(!plan_for(&bus, &config).await?.is_done(), "CreateOnly changed something");
    apply_config(&bus, &config, Permission::KeepData).await?;
    assert!(plan_for(&bus, &config).await?.is_done());

    config.streams[3].max_bytes = 100;
    config.consumers[0].ack_wait_s += 1;
    let refused = apply_config(&bus, &config, Permission::KeepData).await;
    assert!(matches!(&refused, Err(AdminError::WouldLoseData(plan)) if plan.items.len() == 1), "{refused:?}");
    let untouched = plan_for(&bus, &config).await?;
    assert!(
        matches!(of(&untouched, "COMMANDS/steward"), Change::Update { .. }),
        "half of a refused plan was applied"
    );

    apply_config(&bus, &config, Permission::AllowDataLoss).await?;
    assert!(plan_for(&bus, &config).await?.is_done());
    Ok(())
}

#[tokio::test]
async fn what_the_server_cannot_change_is_made_anew_only_when_allowed() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.prepared_bus().await?;
    let mut config = data();
    config.streams[6].deny_delete = false;
    assert!(matches!(of(&plan_for(&bus, &config).await?, "AUDIT"), Change::LosesData { replace: true, .. }));
    assert!(apply_config(&bus, &config, Permission::KeepData).await.is_err());
    apply_config(&bus, &config, Permission::AllowDataLoss).await?;
    assert!(plan_for(&bus, &config).await?.is_done());
    Ok(())
}

#[tokio::test]
async fn strangers_are_shown_and_stay() -> anyhow::Result<()> {
    let server = NatsServer::start().await?;
    let bus = server.prepared_bus().await?;
    let mut smaller = data();
    smaller.buckets.retain(|bucket| bucket.name != "purges");
    smaller.consumers.retain(|consumer| consumer.name != "metrics");
    let plan = apply_config(&bus, &smaller, Permission::AllowDataLoss).await?;
    assert_eq!(*of(&plan, "purges"), Change::Unknown);
    assert_eq!(*of(&plan, "COMMANDS/metrics"), Change::Unknown);
    assert!(super::plan(&bus).await?.items.iter().all(|item| item.change == Change::Same));
    Ok(())
}

#[test]
fn a_plan_reads_as_text_and_as_json() {
    let fields = vec![Field { name: "max_bytes".into(), now: 2.into(), wanted: 1.into() }];
    let losses = vec!["it holds 2 bytes".to_owned()];
    let change = Change::LosesData { fields, losses, replace: false };
    let plan = Plan { items: vec![Item { kind: Kind::Stream, name: "EVENTS".into(), change }] };
    let text = "! stream EVENTS (to be changed, which loses data)\n      max_bytes: 2 -> 1\n      loses: it holds 2 bytes\n";
    assert_eq!(plan.to_string(), text);
    let json = serde_json::json!({"items": [{
        "kind": "stream", "name": "EVENTS", "change": "loses_data", "replace": false,
        "fields": [{"name": "max_bytes", "now": 2, "wanted": 1}], "losses": ["it holds 2 bytes"],
    }]});
    assert_eq!(serde_json::to_value(&plan).ok(), Some(json));
}

#[test]
fn a_shrinking_limit_loses_data_only_when_something_is_beyond_it() {
    let mut config = data();
    config.streams.truncate(1);
    config.buckets.clear();
    config.consumers.clear();
    let [wanted] = diff::wanted(&config).try_into().unwrap_or_else(|_| panic!("one stream is wanted"));
    let mut running = diff::Running { config: wanted.config.clone(), ..Default::default() };
    running.config.insert("max_bytes".into(), (config.streams[0].max_bytes * 2).into());
    let now = jiff::Timestamp::UNIX_EPOCH;
    let judged = |state: diff::State| change(&wanted, Some(&diff::Running { state, ..running.clone() }), now);
    assert!(matches!(judged(diff::State { messages: 1, bytes: 5, first_ts: None }), Change::Update { .. }));
    let too_much = diff::State { messages: 1, bytes: config.streams[0].max_bytes + 1, first_ts: None };
    assert!(matches!(judged(too_much), Change::LosesData { replace: false, .. }));
    assert_eq!(config.streams[0].discard, Discard::New);
}
