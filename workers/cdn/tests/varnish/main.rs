//! The worker with a real Varnish, a real bus and an origin: what readers get after a change, whatever happens in between.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fixture;
mod race;

use std::time::Duration;

use fixture::{HOST, Place, eventually};
use keelson_schemas::cdn::{AssetUrl, FindAssetUrl, ProviderHealth, PurgeState, Served};
use keelson_schemas::operation::State;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_purged_and_seen_by_readers() {
    let place = Place::new().await;
    let worker = place.worker("").await;
    assert_eq!((place.read("/a?x=1").await, place.read("/a?x=1").await), ((1, false), (1, true)));
    place.change("/a?x=1").await;
    let outcome = place.outcomes(1).await.remove(0);
    assert_eq!(
        (outcome.state, outcome.attempts, outcome.selectors),
        (PurgeState::Verified, 2, 1),
        "{outcome:?}"
    );
    assert!(outcome.fresh_after_ms.unwrap() >= 2_000 && !outcome.request_ids.is_empty());
    assert_eq!(place.read("/a?x=1").await, (2, true), "verification has fetched it");
    let status = place.status().await;
    assert_eq!(
        (status.providers[0].health, status.providers[0].time_to_fresh.count()),
        (ProviderHealth::Up, 1)
    );
    assert_eq!(status.providers[0].recent[0].requested_by, "content.changed");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_purge_by_url_tag_prefix_and_all_hard_and_soft() {
    let place = Place::new().await;
    let worker =
        place.worker("rebound = \"100ms\"\nrebound_all = \"100ms\"\nlongest_fetch = \"100ms\"").await;
    let cases = [
        format!(r#"{{"urls":["http://{HOST}/v/1"]}}"#),
        r#"{"tags":["page:v:1","other"]}"#.to_owned(),
        r#"{"prefixes":["/v/"]}"#.to_owned(),
        format!(r#"{{"all":true,"reason":"test","confirm":"{HOST}"}}"#),
    ];
    for (n, body) in cases.iter().enumerate() {
        place.read("/v/1").await;
        let version = place.origin.change("/v/1");
        assert_ne!(place.read("/v/1").await.0, version, "the edge has it");
        let operation = place.command("purge", body).await;
        assert_eq!(operation.state, State::Succeeded, "{body}: {operation:?}");
        let state = operation.result.unwrap()["providers"][0]["outcome"]["state"].clone();
        assert_eq!(state, if n == 0 { "verified" } else { "unverifiable" }, "{body}");
        assert_eq!(place.read("/v/1").await.0, version, "{body}");
    }
    for body in [
        format!(r#"{{"urls":["http://{HOST}/v/1"],"soft":true}}"#),
        r#"{"tags":["page:v:1"],"soft":true}"#.to_owned(),
    ] {
        let version = place.origin.change("/v/1");
        let operation = place.command("purge", &body).await;
        assert_eq!(operation.state, State::Succeeded, "{body}: {operation:?}");
        eventually("the new version", async || (place.read("/v/1").await.0 == version).then_some(())).await;
    }
    worker.stop().await;
}

/// Seven are two calls; with fewer restarts, or a VCL that knows nothing of several URLs, they are as many as it takes.
#[tokio::test(flavor = "multi_thread")]
async fn several_urls_are_purged_by_a_call_as_far_as_varnish_goes() {
    let knows_of_one = "sub vcl_recv { unset req.http.Keelson-Also; }";
    for (before, max_restarts, calls) in [("", 4, Some(2)), ("", 1, None), (knows_of_one, 4, None)] {
        let place = Place::behind(before, max_restarts).await;
        let worker = place.worker("rebound = \"50ms\"\nlongest_fetch = \"10ms\"").await;
        let paths: Vec<String> = (0..7).map(|n| format!("/several/{n}?x=/a&y=%20")).collect();
        for soft in [false, true] {
            let mut versions = Vec::new();
            for path in &paths {
                place.read(path).await;
                versions.push(place.origin.change(path));
            }
            let urls: Vec<String> = paths.iter().map(|path| format!("\"http://{HOST}{path}\"")).collect();
            let body = format!(r#"{{"urls":[{}],"soft":{soft}}}"#, urls.join(","));
            let operation = place.command("purge", &body).await;
            assert_eq!(operation.state, State::Succeeded, "{before}: {operation:?}");
            let outcome = &operation.result.as_ref().unwrap()["providers"][0]["outcome"];
            assert_eq!(outcome["state"], "verified", "{outcome}");
            if let (false, Some(calls)) = (soft, calls) {
                let rounds = outcome["attempts"].as_u64().unwrap() as usize;
                assert_eq!(outcome["requestIds"].as_array().unwrap().len(), calls * rounds, "{outcome}");
            }
            for (path, version) in paths.iter().zip(versions) {
                assert_eq!(place.read(path).await.0, version, "{before}: {path}");
            }
        }
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_without_meaning_send_nothing_and_everything_is_purged_only_so_often() {
    let place = Place::new().await;
    let worker = place
        .worker("rebound_all = \"10ms\"\nlongest_fetch = \"10ms\"\nmost_purges_of_all_per_hour = 1")
        .await;
    for body in [
        r#"{"urls":["/a"]}"#,
        r#"{"prefixes":["/a && true"]}"#,
        r#"{}"#,
        r#"{"all":true,"reason":"x"}"#,
        r#"{"tags":["x"],"providers":["fastly"]}"#,
    ] {
        let operation = place.command("purge", body).await;
        assert_eq!(operation.state, State::Rejected, "{body}: {operation:?}");
    }
    let dry = place.command("purge", r#"{"tags":["a","b"],"dryRun":true}"#).await;
    assert_eq!(
        (dry.state, dry.result.unwrap()["providers"][0]["calls"].clone()),
        (State::Succeeded, 1.into())
    );
    let all = format!(r#"{{"all":true,"reason":"test","confirm":"{HOST}"}}"#);
    assert_eq!(place.command("purge", &all).await.state, State::Succeeded);
    let second = place.command("purge", &all).await;
    assert!(
        second.state == State::Rejected && second.error.as_ref().unwrap().contains("1 times"),
        "{second:?}"
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_serves_the_old_ends_stale_and_says_why() {
    let place = Place::new().await;
    let worker = place.worker("rebound = \"50ms\"\nlongest_fetch = \"10ms\"").await;
    place
        .publish(
            "keelson.evt.content.changed",
            format!(r#"{{"asset":"a","urls":["http://{HOST}/a"],"version":{{"etag":"2"}}}}"#),
        )
        .await;
    let outcome = place.outcomes(1).await.remove(0);
    assert_eq!((outcome.state, outcome.attempts), (PurgeState::Stale, 4));
    assert!(outcome.reason.as_ref().unwrap().contains("serves ETag \"1\", not 2"), "{outcome:?}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_varnish_that_is_down_is_said_and_caught_up_with() {
    let mut place = Place::new().await;
    let worker = place.worker("health_interval = \"500ms\"\nlocal_cache = \"http://127.0.0.1:9\"").await;
    let find = async |place: &Place| -> AssetUrl {
        place
            .bus
            .ask("keelson.qry.cdn.url", &FindAssetUrl { path: "/x?y".into() }, fixture::SOON)
            .await
            .unwrap()
    };
    assert_eq!(find(&place).await, AssetUrl { url: format!("http://{HOST}/x?y"), served_by: Served::Cdn });
    place.varnish.kill();
    for n in 0..20 {
        place.change(&format!("/down/{n}")).await;
    }
    eventually("down", async || {
        (place.status().await.providers[0].health == ProviderHealth::Down).then_some(())
    })
    .await;
    eventually("the origin", async || (find(&place).await.served_by == Served::Origin).then_some(())).await;
    place.varnish.resume().await;
    let outcomes = place.outcomes(20).await;
    assert!(outcomes.iter().all(|outcome| outcome.state == PurgeState::Verified), "{outcomes:?}");
    assert_eq!(place.status().await.providers[0].health, ProviderHealth::Up);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_had_not_ended_its_successor_does() {
    let place = Place::new().await;
    for n in 0..40 {
        place.read(&format!("/crash/{n}")).await;
    }
    for round in 0..4 {
        let worker = place.worker("rebound = \"300ms\"\nlongest_fetch = \"10ms\"").await;
        for n in 0..10 {
            place.change(&format!("/crash/{}", round * 10 + n)).await;
        }
        tokio::time::sleep(Duration::from_millis(200 * round)).await;
        worker.cut_off().await;
    }
    let worker = place.worker("rebound = \"300ms\"\nlongest_fetch = \"10ms\"").await;
    let all_told = async || {
        let told: std::collections::BTreeSet<String> =
            place.outcomes(40).await.into_iter().map(|outcome| outcome.purge).collect();
        (told.len() == 40).then_some(())
    };
    eventually("all outcomes", all_told).await;
    for n in 0..40 {
        assert_eq!(place.read(&format!("/crash/{n}")).await.0, 2, "/crash/{n}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_up_waits_for_purges_and_is_proven() {
    let place = Place::new().await;
    let worker = place.worker("rebound = \"300ms\"\nlongest_fetch = \"10ms\"").await;
    place.read("/w").await;
    let version = place.change("/w").await;
    let operation =
        place.command("warm", &format!(r#"{{"urls":["http://{HOST}/w","http://{HOST}/w2"]}}"#)).await;
    assert_eq!((operation.state, operation.result.unwrap()["hits"].clone()), (State::Succeeded, 2.into()));
    assert_eq!((place.read("/w").await, place.read("/w2").await.1), ((version, true), true));
    worker.stop().await;
}
