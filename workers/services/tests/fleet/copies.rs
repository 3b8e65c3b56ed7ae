//! What a replica knows whose copy of the registered services is behind.

use std::time::Duration;

use keelson_kit::kv::KvError;
use keelson_kit::role::Context;
use keelson_kit::testing::{self, NatsServer};
use keelson_schemas::message::Message as _;
use keelson_schemas::services::Service;
use keelson_services::address::Rules;
use keelson_services::announce::Announcer;
use keelson_services::breakers::Breakers;
use keelson_services::config::ServicesConfig;
use keelson_services::directory::{BUCKET, Directory, service_key};

async fn directory(ctx: &Context) -> Directory {
    let (rules, announcer) = (Rules { loopback: true }, Announcer::spawn(ctx));
    let policy = ServicesConfig::default().breaker.policy();
    let breakers = Breakers::open(ctx, policy, announcer.clone()).await.unwrap();
    Directory::open(ctx, rules, breakers, announcer).await.unwrap()
}

#[tokio::test]
async fn what_others_have_registered_or_taken_out_is_never_denied_and_never_claimed() {
    let server = NatsServer::start().await.unwrap();
    let bus = server.prepared_bus().await.unwrap();
    let bucket = bus.kv(BUCKET);
    let registered = |name: &str| Service { name: name.to_owned(), ..Service::example() };
    bucket.create(&service_key("old"), &registered("old")).await.unwrap();
    let ctx = testing::context(&bus);
    let directory = directory(&ctx).await;
    assert!(directory.current("old").await.unwrap().is_some());

    bucket.create(&service_key("new"), &registered("new")).await.unwrap();
    assert!(directory.current("new").await.unwrap().is_some(), "it is waited for");

    // From now on the copy stays as it is.
    ctx.tasks.shutdown(Duration::from_secs(5)).await;
    bucket.create(&service_key("newest"), &registered("newest")).await.unwrap();
    bucket.delete(&service_key("old"), None).await.unwrap();
    assert!(directory.service("old").is_some() && directory.service("newest").is_none());
    assert!(matches!(directory.current("newest").await, Err(KvError::Unavailable(_))));
    assert!(directory.current("old").await.unwrap().is_none());
    assert!(directory.current("never").await.unwrap().is_none());
}
