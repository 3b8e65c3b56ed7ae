//! Varnish with compose/varnish/keelson.vcl, as far as it is purged: the limits are those of varnishd.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::{Call, Fake};

/// `http_req_hdr_len` of varnishd.
const MOST_HEADER_BYTES: usize = 8_192;
/// One more than `max_restarts` of varnishd.
const MOST_URLS: usize = 5;

/// Starts one.
pub async fn start() -> Fake {
    Fake::serve(|fake| Router::new().fallback(take).with_state(fake)).await
}

async fn take(State(fake): State<Fake>, request: Request) -> Response {
    if let Some(status) = fake.forced() {
        return status.into_response();
    }
    let (path, headers) = (request.uri().path().to_owned(), request.headers());
    if headers.values().any(|value| value.len() > MOST_HEADER_BYTES) {
        fake.kept().wrong.push("a header is too long".to_owned());
        return done(StatusCode::BAD_REQUEST, 1);
    }
    let call = match request.method().as_str() {
        "PURGE" => purge(path, headers),
        "BAN" => Call::now("prefixes", vec![text(headers, "keelson-ban")], false),
        _ => return done(StatusCode::OK, 1),
    };
    let urls = if call.kind == "files" { call.items.len() } else { 1 };
    if urls > MOST_URLS {
        fake.kept().wrong.push(format!("{urls} URLs are too many restarts"));
        return done(StatusCode::SERVICE_UNAVAILABLE, MOST_URLS);
    }
    fake.kept().calls.push(call);
    done(StatusCode::OK, urls)
}

fn purge(path: String, headers: &HeaderMap) -> Call {
    for (header, soft) in [("xkey-purge", false), ("xkey-softpurge", true)] {
        if headers.contains_key(header) {
            let tags = text(headers, header).split_whitespace().map(str::to_owned).collect();
            return Call::now("tags", tags, soft);
        }
    }
    let also = text(headers, "keelson-also");
    let also = also.split_whitespace().filter_map(|url| Some(url[url.find('/')?..].to_owned()));
    Call::now("files", std::iter::once(path).chain(also).collect(), headers.contains_key("keelson-soft"))
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn done(status: StatusCode, urls: usize) -> Response {
    let urls = urls.to_string();
    (status, [("keelson", "1"), ("keelson-urls", &urls), ("x-varnish", "1")]).into_response()
}
