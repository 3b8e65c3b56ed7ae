//! The visitors of a sample service: each asks, waits for the answer, thinks for a moment, and asks again.

use std::time::Duration;

use keelson_kit::tasks::Tasks;

use super::service::{Route, Service};

const VISITORS: usize = 4;
const THINKING_MS: std::ops::Range<u64> = 20..180;
const IDENTIFIERS: std::ops::Range<u32> = 1..5_000;

/// Sends visitors to the service at the address.
///
/// # Errors
/// When no HTTP client can be made.
pub fn start(tasks: &Tasks, service: &'static Service, url: &str) -> anyhow::Result<()> {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
    for visitor in 1..=VISITORS {
        let (http, url, ending) = (http.clone(), url.to_owned(), tasks.clone());
        tasks.spawn_once(format!("demo.{}.visitor.{visitor}", service.name), async move {
            tokio::select! {
                () = visit(http, url, service) => {}
                () = ending.cancelled() => {}
            }
            Ok(())
        });
    }
    Ok(())
}

async fn visit(http: reqwest::Client, url: String, service: &Service) {
    loop {
        let route = pick(service.routes);
        let target = format!("{url}{}", filled_in(route.path));
        let request = if route.method == "POST" { http.post(target) } else { http.get(target) };
        // An answer that fails is the service's to report; there is nobody here to tell.
        if let Ok(answer) = request.send().await {
            let _ = answer.bytes().await;
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(THINKING_MS))).await;
    }
}

fn pick(routes: &[Route]) -> &Route {
    let mut left = rand::random_range(0..routes.iter().map(|route| route.weight).sum());
    for route in routes {
        if left < route.weight {
            return route;
        }
        left -= route.weight;
    }
    &routes[0]
}

/// `/videos/{id}` becomes `/videos/4711`.
fn filled_in(template: &str) -> String {
    template
        .split('/')
        .map(|part| {
            if part.starts_with('{') { rand::random_range(IDENTIFIERS).to_string() } else { part.to_owned() }
        })
        .collect::<Vec<_>>()
        .join("/")
}
