//! Purges raced with fetches under way: what such a fetch brings may be from before the change, and the edge keeps it.

use std::time::Duration;

use futures::future::join_all;

use crate::fixture::{LASTS, Place, eventually};

/// URLs of each kind of race.
const EACH: usize = 500;
/// Fetches under way at once: the rest of the machine has to keep up within [`FETCH`].
const AT_ONCE: usize = 100;
/// How long a fetch takes. It reads what there is at its beginning.
const FETCH: Duration = Duration::from_millis(800);
/// Copies that readers get while they are fetched anew have to be older than this, and not much.
const SHORT: Duration = Duration::from_secs(1);

/// A thousand URLs that change and are purged while they are fetched: half of them for a reader who waits, half behind the back of one who gets an old copy. How
/// many of either kind still show the old in the end.
async fn raced(more: &str) -> [usize; 2] {
    let place = Place::new().await;
    let worker = place.worker(more).await;
    eventually("a sender", async || (place.status().await.providers[0].error.is_none()).then_some(())).await;
    let cold: Vec<String> = (0..EACH).map(|n| format!("/cold/{n}")).collect();
    let grace: Vec<String> = (0..EACH).map(|n| format!("/grace/{n}")).collect();
    for paths in cold.chunks(AT_ONCE) {
        race(&place, paths).await;
    }
    for paths in grace.chunks(AT_ONCE) {
        place.origin.delay(Duration::ZERO);
        place.origin.max_age(SHORT);
        read(&place, paths).await;
        place.origin.max_age(LASTS);
        tokio::time::sleep(SHORT + Duration::from_millis(200)).await;
        race(&place, paths).await;
    }
    place.origin.delay(Duration::ZERO);
    place.outcomes(2 * EACH).await;
    let old = [old(&place, &cold).await, old(&place, &grace).await];
    worker.stop().await;
    old
}

/// Fetches, and while all of them are under way changes and purges all.
async fn race(place: &Place, paths: &[String]) {
    place.origin.delay(FETCH);
    let before = place.origin.fetches();
    let changes = async {
        while place.origin.fetches() < before + paths.len() as u64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for path in paths {
            place.change(path).await;
        }
    };
    let (read, ()) = tokio::join!(read(place, paths), changes);
    assert!(read.iter().all(|version| *version == 1), "all were under way");
    // Those that nobody waits for.
    tokio::time::sleep(FETCH).await;
}

async fn read(place: &Place, paths: &[String]) -> Vec<u64> {
    join_all(paths.iter().map(async |path| place.read(path).await.0)).await
}

async fn old(place: &Place, paths: &[String]) -> usize {
    let mut old = 0;
    for paths in paths.chunks(AT_ONCE) {
        old += read(place, paths).await.iter().filter(|version| **version == 1).count();
    }
    old
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_under_way_leave_nothing_old_after_the_rebound() {
    assert_eq!(raced("[verify]\nenabled = false").await, [0, 0]);
}

/// What makes the test above one: without the rebound, readers get the old for as long as copies last.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_rebound_they_do() {
    let [cold, grace] = raced("rebound = \"0s\"\n[verify]\nenabled = false").await;
    println!("without the rebound {cold} + {grace} of {EACH} + {EACH} are old");
    assert!(cold > EACH / 2 && grace > EACH / 2, "{cold} cold and {grace} in grace");
}
