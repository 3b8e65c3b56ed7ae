//! Cloudflare's cache purge API for one zone, on the Free plan: developers.cloudflare.com/cache/how-to/purge-cache.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};

use super::{Call, Fake, texts};

/// The zone that it has.
pub const ZONE: &str = "023e105f4ecef8ad9ca31a8372d0c353";
/// The token that it takes.
pub const TOKEN: &str = "a-token-of-cloudflare";

const MOST_ITEMS: usize = 100;
const URLS_A_SECOND: usize = 800;
/// Over how many seconds that is averaged: calls that were held up on their way arrive together, which is no fault of who sent them one by one.
const AVERAGED_OVER_S: usize = 5;
const BURST: usize = 25;
const EVERY: Duration = Duration::from_secs(12);

/// Starts one.
pub async fn start() -> Fake {
    Fake::serve(|fake| {
        Router::new().route("/client/v4/zones/{zone}/purge_cache", post(purge)).with_state(fake)
    })
    .await
}

async fn purge(
    State(fake): State<Fake>,
    Path(zone): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    if let Some(status) = fake.forced() {
        return error(status, 1000, "out of order");
    }
    if headers.get("authorization").is_none_or(|value| value != &format!("Bearer {TOKEN}")) {
        return error(StatusCode::FORBIDDEN, 10_000, "Authentication error");
    }
    if zone != ZONE {
        return error(StatusCode::NOT_FOUND, 7003, "Could not route to that zone");
    }
    match serde_json::from_str(&body) {
        Ok(body) => take(&fake, &body),
        Err(_) => error(StatusCode::BAD_REQUEST, 6007, "Malformed JSON in request body"),
    }
}

fn take(fake: &Fake, body: &Value) -> Response {
    let mut kept = fake.kept();
    let call = match call(body, kept.most_items.unwrap_or(MOST_ITEMS)) {
        Ok(call) => call,
        Err(why) => {
            if kept.most_items.is_none() {
                kept.wrong.push(why.clone());
            }
            return error(StatusCode::BAD_REQUEST, 1094, &why);
        }
    };
    let has_room = match call.kind {
        "files" => {
            let window = Duration::from_secs(AVERAGED_OVER_S as u64);
            kept.has_room_within(call.items.len(), URLS_A_SECOND * AVERAGED_OVER_S, window)
        }
        _ => kept.has_room(1, BURST, EVERY),
    };
    if !has_room {
        kept.wrong.push("too many calls".to_owned());
        let mut answer = error(StatusCode::TOO_MANY_REQUESTS, 10_429, "Rate limited");
        answer.headers_mut().insert("retry-after", HeaderValue::from_static("12"));
        return answer;
    }
    kept.calls.push(call);
    let result = json!({ "success": true, "errors": [], "messages": [], "result": { "id": ZONE } });
    super::json(StatusCode::OK, &result)
}

fn call(body: &Value, most: usize) -> Result<Call, String> {
    let known = ["files", "tags", "prefixes", "hosts"];
    let members = body.as_object().ok_or("no object")?;
    let [(name, value)] = members.iter().collect::<Vec<_>>()[..] else {
        return Err("one of them is needed".into());
    };
    if name == "purge_everything" && value == true {
        return Ok(Call::now("all", vec!["all".to_owned()], false));
    }
    let kind = known.into_iter().find(|kind| kind == name).ok_or_else(|| format!("{name} is not known"))?;
    let items = texts(value);
    if items.is_empty() || items.len() > most {
        return Err(format!("{} {kind}: 1 to {most} are taken", items.len()));
    }
    for item in &items {
        let fits = match kind {
            "files" => item.starts_with("http://") || item.starts_with("https://"),
            "prefixes" => !item.contains("://") && item.contains('/') && !item.contains(['?', '#']),
            _ => item.is_ascii() && !item.contains(' ') && item.len() <= 1_024,
        };
        if !fits {
            return Err(format!("{item:?} cannot stand among {kind}"));
        }
    }
    Ok(Call::now(kind, items, false))
}

fn error(status: StatusCode, code: u32, message: &str) -> Response {
    let errors = json!([{ "code": code, "message": message }]);
    super::json(status, &json!({ "success": false, "errors": errors, "messages": [], "result": null }))
}
