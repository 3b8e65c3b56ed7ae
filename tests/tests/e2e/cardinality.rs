//! Bounds on names: past them counts go on under `__overflow__`, and totals stay exact.

use std::collections::BTreeSet;

use keelson_tests::client::now_ms;
use keelson_tests::keelson::{SHOWN_WITHIN, Up};
use keelson_tests::ledger::{Sample, Series};
use keelson_tests::scrape::Scrape;

const OVERFLOW: &str = "__overflow__";
/// Default of the configuration.
const MOST_ROUTES: usize = 2_000;
const MOST_SERVICES: usize = 256;

#[tokio::test]
async fn routes_past_the_bound_fold_with_method_and_status_kept() {
    const SENT: usize = 3_000;
    let up = Up::start().await;
    let routes: Vec<Sample> = (0..SENT).map(|i| sample("content", &format!("/users/{i}"))).collect();
    up.client().send("routes", "content", &routes).await;

    let page = up.client().scrape_until(SHOWN_WITHIN, |page| page.requests() >= SENT as u64).await;
    assert_eq!(page.requests(), SENT as u64);
    let shown = names(&page, "http_route");
    assert_eq!(shown.len(), MOST_ROUTES + 1, "the routes and {OVERFLOW}");
    let folded = page.sum("http_server_requests_total", &kept(OVERFLOW));
    assert_eq!(folded as usize, SENT - MOST_ROUTES);

    // A route that was admitted goes on counting under its own name; a new one folds.
    let admitted = shown.iter().find(|route| *route != OVERFLOW).expect("a route");
    up.client().send("more", "content", &[sample("content", admitted), sample("content", "/new")]).await;
    let page = up.client().scrape_until(SHOWN_WITHIN, |page| page.requests() >= SENT as u64 + 2).await;
    assert_eq!(page.sum("http_server_requests_total", &kept(admitted)), 2.0);
    assert_eq!(page.sum("http_server_requests_total", &kept(OVERFLOW)), folded + 1.0);
}

#[tokio::test]
async fn services_past_the_bound_fold_over_all_partitions() {
    const SENT: usize = 300;
    let up = Up::start().await;
    for i in 0..SENT {
        let service = format!("service-{i}");
        up.client().send(&service, &service, &[sample(&service, "/")]).await;
    }
    let page = up.client().scrape_until(SHOWN_WITHIN, |page| page.requests() >= SENT as u64).await;
    assert_eq!(page.requests(), SENT as u64);
    // Keelson itself is a service too: it reports the machine it runs on.
    let counted: BTreeSet<_> =
        page.named("keelson_telemetry_samples_total").map(|line| &line.labels["service_name"]).collect();
    assert_eq!(counted.len(), MOST_SERVICES + 1, "the services and {OVERFLOW}");
    let shown = names(&page, "service_name");
    let folded = page.sum("http_server_requests_total", &[("service_name", OVERFLOW)]);
    assert_eq!(folded as usize, SENT + 1 - shown.len());
}

fn sample(service: &str, route: &str) -> Sample {
    let series = Series { service: service.into(), method: "PUT".into(), route: route.into(), status: 201 };
    Sample { ts: now_ms(), series, duration_us: Some(5_000) }
}

fn kept(route: &str) -> [(&str, &str); 3] {
    [("http_route", route), ("http_request_method", "PUT"), ("http_response_status_code", "201")]
}

fn names(page: &Scrape, label: &str) -> BTreeSet<String> {
    page.named("http_server_requests_total").map(|line| line.labels[label].clone()).collect()
}
