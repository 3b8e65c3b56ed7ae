//! Fetching URLs through the edge, so that the first reader finds them there; and the proof that they are.

use futures::StreamExt;
use keelson_kit::command::Attempt;
use keelson_schemas::cdn::{Warm, WarmReport};
use reqwest::Method;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap};

use crate::edge::Edge;
use crate::http;
use crate::selector::MAX_SELECTORS;
use crate::setup::Setup;
use crate::url::EdgeUrl;

/// Headers in which caches say that an answer was theirs, in words with `hit` in them: Varnish (keelson.vcl), Fastly and CloudFront; Cloudflare.
const SAYS_HIT: [&str; 3] = ["x-cache", "cf-cache-status", "x-vercel-cache"];

/// What became of a URL.
enum Warmed {
    Hit,
    Uncached,
    Failed(String),
}

/// The URLs of a command.
///
/// # Errors
/// All that is wrong with it, in one sentence.
pub fn urls(command: &Warm, setup: &Setup) -> Result<Vec<EdgeUrl>, String> {
    let Some(site) = setup.site.as_ref().filter(|_| !setup.lanes.is_empty()) else {
        return Err(setup.missing.join("; "));
    };
    if command.urls.is_empty() {
        return Err("no URL is named".to_owned());
    }
    if command.urls.len() > MAX_SELECTORS {
        return Err(format!("{} URLs are too many at once: at most {MAX_SELECTORS}", command.urls.len()));
    }
    command.urls.iter().map(|url| site.url(url)).collect()
}

/// Fetches all of them through every edge.
pub async fn warm(urls: &[EdgeUrl], setup: &Setup, attempt: &Attempt) -> WarmReport {
    let mut report = WarmReport::default();
    let config = &setup.config.warm;
    let one = async |url: &EdgeUrl| (url.clone(), everywhere(url, setup).await);
    let mut warmed =
        std::pin::pin!(futures::stream::iter(urls).map(one).buffer_unordered(config.at_once.max(1)));
    let mut done = 0;
    while let Some((url, warmed)) = warmed.next().await {
        match warmed {
            Warmed::Hit => report.hits += 1,
            Warmed::Uncached => report.uncached.push(url.to_string()),
            Warmed::Failed(reason) => report.failed.push((url.to_string(), reason)),
        }
        done += 1;
        attempt.progress(done, Some(urls.len() as u64), "URLs").await;
    }
    report
}

async fn everywhere(url: &EdgeUrl, setup: &Setup) -> Warmed {
    for lane in &setup.lanes {
        for encoding in &setup.config.warm.encodings {
            match once(url, &lane.edge, encoding).await {
                Warmed::Hit => {}
                other => return other,
            }
        }
    }
    Warmed::Hit
}

/// Fetches a URL twice: the first may be a miss, the second must not be.
async fn once(url: &EdgeUrl, edge: &Edge, encoding: &str) -> Warmed {
    for _ in 0..2 {
        let answer = match edge.read(Method::GET, url).header(ACCEPT_ENCODING, encoding).send().await {
            Ok(answer) => answer,
            Err(error) => return Warmed::Failed(http::said(error)),
        };
        if !answer.status().is_success() {
            return Warmed::Failed(answer.status().to_string());
        }
        let hit = is_hit(answer.headers());
        if let Err(error) = read(answer).await {
            return Warmed::Failed(http::said(error));
        }
        if hit {
            return Warmed::Hit;
        }
    }
    Warmed::Uncached
}

/// Reads an answer to its end and keeps nothing of it.
async fn read(mut answer: reqwest::Response) -> reqwest::Result<()> {
    while answer.chunk().await?.is_some() {}
    Ok(())
}

fn is_hit(headers: &HeaderMap) -> bool {
    let says =
        |name: &&str| headers.get(*name).and_then(|value| value.to_str().ok()).map(str::to_ascii_lowercase);
    SAYS_HIT.iter().filter_map(says).any(|said| said.contains("hit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_say_that_it_was_theirs() {
        let cases = [
            ("x-cache", "HIT", true),
            ("x-cache", "Hit from cloudfront", true),
            ("x-cache", "MISS, HIT", true),
            ("x-cache", "MISS", false),
            ("cf-cache-status", "HIT", true),
            ("cf-cache-status", "DYNAMIC", false),
            ("age", "3", false),
        ];
        for (name, value, hit) in cases {
            let headers = [(name.parse().unwrap(), value.parse().unwrap())].into_iter().collect();
            assert_eq!(is_hit(&headers), hit, "{name}: {value}");
        }
    }
}
