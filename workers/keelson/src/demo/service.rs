//! The sample services as data, and the router that behaves as the data says.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, on};

use super::reporter::{Query, Reporter};

/// A sample service.
#[derive(Debug)]
pub struct Service {
    /// Its name in the metrics.
    pub name: &'static str,
    /// What it serves.
    pub routes: &'static [Route],
}

/// One route of it, and how it behaves.
#[derive(Debug)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The template, `/videos/{id}`.
    pub path: &'static str,
    /// How often visitors come here, against the other routes.
    pub weight: u32,
    ok: u16,
    typical_ms: u64,
    /// Now and then it fails: with this status, in this share of requests.
    failure: (u16, f64),
    /// The database call behind it: collection and operation.
    query: Option<(&'static str, &'static str)>,
}

/// One service is healthy, one slow, one busy, one fails now and then.
pub static SERVICES: &[Service] = &[
    Service {
        name: "content",
        routes: &[
            Route {
                method: "GET",
                path: "/content",
                weight: 6,
                ok: 200,
                typical_ms: 18,
                failure: (500, 0.002),
                query: Some(("click.content", "find")),
            },
            Route {
                method: "GET",
                path: "/content/{id}",
                weight: 10,
                ok: 200,
                typical_ms: 9,
                failure: (404, 0.04),
                query: Some(("click.content", "find")),
            },
            Route {
                method: "POST",
                path: "/content",
                weight: 1,
                ok: 201,
                typical_ms: 45,
                failure: (422, 0.05),
                query: Some(("click.content", "insert")),
            },
        ],
    },
    Service {
        name: "video",
        routes: &[
            Route {
                method: "GET",
                path: "/videos/{id}",
                weight: 8,
                ok: 200,
                typical_ms: 14,
                failure: (404, 0.02),
                query: Some(("click.videos", "find")),
            },
            Route {
                method: "GET",
                path: "/videos/{id}/stream",
                weight: 4,
                ok: 206,
                typical_ms: 350,
                failure: (503, 0.01),
                query: None,
            },
            Route {
                method: "POST",
                path: "/videos",
                weight: 1,
                ok: 201,
                typical_ms: 900,
                failure: (500, 0.03),
                query: Some(("click.videos", "insert")),
            },
        ],
    },
    Service {
        name: "analytics",
        routes: &[
            Route {
                method: "POST",
                path: "/events",
                weight: 20,
                ok: 202,
                typical_ms: 3,
                failure: (429, 0.001),
                query: None,
            },
            Route {
                method: "GET",
                path: "/reports/daily",
                weight: 1,
                ok: 200,
                typical_ms: 1_300,
                failure: (504, 0.02),
                query: Some(("click.events", "aggregate")),
            },
        ],
    },
    Service {
        name: "notification",
        routes: &[
            Route {
                method: "GET",
                path: "/notifications/{user}",
                weight: 6,
                ok: 200,
                typical_ms: 7,
                failure: (500, 0.001),
                query: Some(("click.notifications", "find")),
            },
            Route {
                method: "POST",
                path: "/notifications",
                weight: 2,
                ok: 202,
                typical_ms: 30,
                failure: (502, 0.12),
                query: Some(("click.notifications", "insert")),
            },
        ],
    },
];

impl Service {
    /// Its routes, each request measured and reported.
    pub fn router(&'static self, reporter: Reporter) -> Router {
        let routes = self.routes.iter().fold(Router::new(), |router, route| {
            let filter = if route.method == "POST" { MethodFilter::POST } else { MethodFilter::GET };
            let reporter = reporter.clone();
            router.route(route.path, on(filter, move || serve(route, reporter)))
        });
        routes.layer(middleware::from_fn_with_state(reporter, measure))
    }
}

async fn serve(route: &'static Route, reporter: Reporter) -> (StatusCode, &'static str) {
    let work = around(route.typical_ms);
    tokio::time::sleep(work).await;
    if let Some((namespace, operation)) = route.query {
        reporter.query(Query { namespace, operation, took: work.mul_f64(0.7) });
    }
    let (failure, share) = route.failure;
    let status = if rand::random_bool(share) { failure } else { route.ok };
    (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "sample\n")
}

async fn measure(State(reporter): State<Reporter>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let started = Instant::now();
    let response = next.run(request).await;
    if let Some(route) = route {
        reporter.request(method.as_str(), route, response.status().as_u16(), started.elapsed());
    }
    response
}

/// A time with a long tail, as real ones have.
fn around(typical_ms: u64) -> Duration {
    let tail = -(1.0 - rand::random::<f64>()).ln();
    Duration::from_millis(typical_ms).mul_f64(0.6 + 0.4 * tail)
}
