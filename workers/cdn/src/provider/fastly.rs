//! Fastly, one service: www.fastly.com/documentation/reference/api/purging.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

use super::Provider;
use crate::batch::Batch;
use crate::flow::{Answer, Quota};
use crate::http;
use crate::limits::{FASTLY, Limits};
use crate::selector::{Kind, Selector};

const TIMEOUT: Duration = Duration::from_secs(30);

/// One service.
pub struct Fastly {
    client: Client,
    api: String,
    service: String,
}

impl Fastly {
    /// A service, asked at an address of Fastly's API.
    ///
    /// # Errors
    /// When the token cannot stand in a header, or TLS cannot be set up.
    pub fn new(api: &str, service: &str, token: &str) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        let mut key = HeaderValue::from_str(token)
            .map_err(|_| anyhow::anyhow!("it has characters that no token has"))?;
        key.set_sensitive(true);
        headers.insert("fastly-key", key);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let client = http::client(TIMEOUT).default_headers(headers).build()?;
        Ok(Self { client, api: api.trim_end_matches('/').to_owned(), service: service.to_owned() })
    }

    async fn call(&self, batch: &Batch) -> Answer {
        let Some(request) = self.request(batch) else {
            return Answer::Refused("it names nothing".to_owned());
        };
        // That the header is there means soft, whatever it says.
        let request = if batch.soft { request.header("fastly-soft-purge", "1") } else { request };
        match request.send().await {
            Ok(response) => read(response, batch.kind).await,
            Err(error) if error.is_builder() => Answer::Refused(http::said(error)),
            Err(error) => Answer::Retry { after: None, reason: http::said(error) },
        }
    }

    fn request(&self, batch: &Batch) -> Option<RequestBuilder> {
        let Self { client, api, service } = self;
        match batch.kind {
            Kind::Url => match &batch.items.first()?.selector {
                Selector::Url(url) => {
                    Some(client.post(format!("{api}/purge/{}{}", url.host(), url.path_and_query())))
                }
                _ => None,
            },
            Kind::Tag => {
                let keys: Vec<&str> = batch.items.iter().map(|item| item.selector.text()).collect();
                Some(
                    client
                        .post(format!("{api}/service/{service}/purge"))
                        .json(&json!({ "surrogate_keys": keys })),
                )
            }
            Kind::All => Some(client.post(format!("{api}/service/{service}/purge_all"))),
            Kind::Prefix => None,
        }
    }
}

impl Provider for Fastly {
    fn limits(&self) -> Limits {
        FASTLY
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Answer> {
        self.call(batch).boxed()
    }
}

async fn read(response: Response, kind: Kind) -> Answer {
    let (status, after) = (response.status(), http::retry_after(&response));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let quota = quota(response.headers(), now);
    let text = http::text(response).await;
    let said: Value = serde_json::from_str(&text).unwrap_or_default();
    let reason = || format!("it answered {status}: {}", in_words(&said, &text));
    match status.as_u16() {
        200..300 => Answer::Done { request_id: id(&said), quota },
        429 | 500.. => {
            let after = after.or(quota.filter(|quota| quota.left == 0).map(|quota| quota.resets_after));
            Answer::Retry { after, reason: reason() }
        }
        401 | 403 => Answer::Credentials(reason()),
        // There is no such service.
        404 if kind != Kind::Url => Answer::Credentials(reason()),
        _ => Answer::Refused(reason()),
    }
}

/// The name of a purge: of a URL its own, of surrogate keys that of the first. Purging everything has none.
fn id(said: &Value) -> Option<String> {
    let members = said.as_object()?;
    let id =
        members.get("id").or_else(|| members.iter().find(|(name, _)| *name != "status").map(|(_, id)| id));
    Some(id?.as_str()?.to_owned())
}

/// In Fastly's own words; as it came when it is none of its answers.
fn in_words(said: &Value, text: &str) -> String {
    let words: Vec<&str> = ["msg", "detail"].iter().filter_map(|name| said.get(name)?.as_str()).collect();
    if words.is_empty() { http::one_line(text) } else { words.join(": ") }
}

/// What Fastly says is left; it is counted anew at a second of Unix time.
fn quota(headers: &HeaderMap, now: Duration) -> Option<Quota> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let resets_at = Duration::from_secs(number("fastly-ratelimit-reset")?);
    Some(Quota { left: number("fastly-ratelimit-remaining")?, resets_after: resets_at.saturating_sub(now) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Item;
    use crate::url::Site;

    #[test]
    fn every_kind_has_a_call_of_its_own() {
        let service = Fastly::new("https://api.fastly.com/", "s1", "key").unwrap();
        let asked = |selector: Selector| {
            let batch = Batch::new(selector.kind(), false, vec![Item { selector, purges: vec![] }]);
            let request = service.request(&batch)?.build().unwrap();
            let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
            Some((request.url().to_string(), String::from_utf8_lossy(body).into_owned()))
        };
        let site = Site::new("http://cdn.example:81", &[]).unwrap();
        let url = Selector::Url(site.url("http://cdn.example:81/a%20b?c=d").unwrap());
        let call = |url: &str, body: &str| Some((format!("https://api.fastly.com{url}"), body.to_owned()));
        assert_eq!(asked(url), call("/purge/cdn.example:81/a%20b?c=d", ""));
        assert_eq!(
            asked(Selector::Tag("t".into())),
            call("/service/s1/purge", r#"{"surrogate_keys":["t"]}"#)
        );
        assert_eq!(asked(Selector::All), call("/service/s1/purge_all", ""));
        assert_eq!(asked(Selector::Prefix("/".into())), None);
    }

    #[test]
    fn answers_are_read() {
        let named = |text: &str| id(&serde_json::from_str(text).unwrap());
        assert_eq!(named(r#"{"status":"ok","id":"108-1"}"#).as_deref(), Some("108-1"));
        assert_eq!(named(r#"{"key_1":"108-2"}"#).as_deref(), Some("108-2"));
        assert_eq!(named(r#"{"status":"ok"}"#), None);
        let headers = [("fastly-ratelimit-remaining", "7"), ("fastly-ratelimit-reset", "1000")];
        let headers = headers
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let quota = quota(&headers, Duration::from_secs(990)).unwrap();
        assert_eq!((quota.left, quota.resets_after), (7, Duration::from_secs(10)));
        let said = json!({ "msg": "Provided credentials are missing or invalid" });
        assert_eq!(in_words(&said, ""), "Provided credentials are missing or invalid");
    }
}
