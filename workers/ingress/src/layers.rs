//! What every request passes on its way in. [`around`] lists it from the outside in.

use std::any::Any;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use keelson_schemas::envelope::TraceContext;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::trace::TraceLayer;
use tracing::{Span, error, field, info_span};

use crate::app::App;
use crate::problem::{self, Kind, Problem};

/// Puts the layers around all routes. The body limit has no layer of its own: [`crate::body::Budget`] holds it where a body is read.
pub fn around(router: Router, app: &App) -> Router {
    let layers = ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION, COOKIE]))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(span)
                .on_request(())
                .on_response(|response: &Response, _, span: &Span| {
                    span.record("http.response.status_code", response.status().as_u16());
                })
                .on_failure(()),
        )
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(from_fn(crate::api::traces::speak_otlp))
        .layer(from_fn(crate::api::alertmanager::speak_plainly))
        .layer(from_fn(problem::method_not_allowed))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(app.clone(), deadline))
        .layer(from_fn_with_state(app.clone(), authenticate))
        .layer(from_fn_with_state(app.clone(), rate_limit));
    router.layer(layers)
}

/// The server span of a request, a child of the caller's span if it sent one.
fn span<B>(request: &http::Request<B>) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let method = request.method().as_str();
    let header = |name: &str| text(request.headers(), name);
    let span = info_span!(
        "http",
        otel.name = format!("{method} {route}").trim_end(),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty,
        request.id = header("x-request-id"),
    );
    let sender = TraceContext {
        traceparent: header("traceparent").map(str::to_owned),
        tracestate: header("tracestate").map(str::to_owned),
    };
    if sender.traceparent.is_some() {
        keelson_kit::trace::continue_from(&span, &sender);
    }
    span
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that tower-http asks for")]
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let said =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    error!(panic = said.unwrap_or("no text"), "a handler panicked");
    Problem::new(Kind::Internal, "Keelson failed at this request; its log says where").into_response()
}

async fn deadline(State(app): State<App>, request: Request, next: Next) -> Response {
    let limit = app.config.deadline();
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("the request had no answer within {} ms", limit.as_millis());
            Problem::new(Kind::DeadlineExceeded, detail).into_response()
        }
    }
}

async fn authenticate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    match app.keys.identify(header, app.clock.now_ms()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Probes are not counted: whoever floods the API must not make an orchestrator think that the process is dead.
async fn rate_limit(State(app): State<App>, request: Request, next: Next) -> Response {
    let probe = matches!(request.uri().path(), "/healthz" | "/readyz");
    let caller = request.extensions().get::<crate::auth::Caller>();
    match caller.filter(|_| !probe).map_or(Ok(()), |caller| app.rates.take(&caller.principal)) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}
