//! Cloudflare, one zone: developers.cloudflare.com/api/resources/cache/methods/purge.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Response};
use serde::{Deserialize, Serialize};

use super::Provider;
use crate::batch::Batch;
use crate::flow::{Answer, Quota};
use crate::http;
use crate::limits::{CloudflarePlan, Limits, cloudflare};
use crate::selector::Kind;
use crate::url::Site;

const TIMEOUT: Duration = Duration::from_secs(30);
/// Codes of errors that say that there is no such zone: "Could not route to …", "No route for that URI".
const NO_SUCH_ZONE: [u32; 2] = [7003, 7000];

/// One zone.
pub struct Cloudflare {
    client: Client,
    endpoint: String,
    site: Site,
    limits: Limits,
}

/// What one call names; exactly one of them is there.
#[derive(Debug, Default, Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    purge_everything: bool,
}

/// What every answer of Cloudflare's API looks like, as far as it matters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    success: bool,
    errors: Vec<Wrong>,
    result: Option<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wrong {
    code: u32,
    message: String,
}

impl Cloudflare {
    /// A zone, asked at an address of Cloudflare's API, with a token, or with the global key of an account.
    ///
    /// # Errors
    /// When the credentials cannot stand in a header, or TLS cannot be set up.
    pub fn new(
        api: &str,
        zone: &str,
        key: &str,
        email: Option<&str>,
        plan: CloudflarePlan,
        site: Site,
    ) -> anyhow::Result<Self> {
        let client = http::client(TIMEOUT).default_headers(credentials(key, email)?).build()?;
        let limits = cloudflare(plan, site.hosts.len());
        let endpoint = format!("{}/zones/{zone}/purge_cache", api.trim_end_matches('/'));
        Ok(Self { client, endpoint, site, limits })
    }

    async fn call(&self, batch: &Batch) -> Answer {
        match self.client.post(&self.endpoint).json(&self.body(batch)).send().await {
            Ok(response) => read(response).await,
            Err(error) => Answer::Retry { after: None, reason: http::said(error) },
        }
    }

    /// A prefix is named without its scheme, at every host: `cdn.example/videos/`.
    fn body<'a>(&self, batch: &'a Batch) -> Body<'a> {
        let texts = || batch.items.iter().map(|item| item.selector.text());
        let at_hosts =
            |prefix: &str| self.site.hosts.iter().map(|host| format!("{host}{prefix}")).collect::<Vec<_>>();
        match batch.kind {
            Kind::Url => Body { files: texts().collect(), ..Body::default() },
            Kind::Tag => Body { tags: texts().collect(), ..Body::default() },
            Kind::Prefix => Body { prefixes: texts().flat_map(at_hosts).collect(), ..Body::default() },
            Kind::All => Body { purge_everything: true, ..Body::default() },
        }
    }
}

impl Provider for Cloudflare {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Answer> {
        self.call(batch).boxed()
    }
}

fn credentials(key: &str, email: Option<&str>) -> anyhow::Result<HeaderMap> {
    let secret = |text: &str| -> anyhow::Result<HeaderValue> {
        let mut value =
            HeaderValue::from_str(text).map_err(|_| anyhow::anyhow!("it has characters that no key has"))?;
        value.set_sensitive(true);
        Ok(value)
    };
    let mut headers = HeaderMap::new();
    match email {
        Some(email) => {
            headers.insert("x-auth-email", secret(email)?);
            headers.insert("x-auth-key", secret(key)?);
        }
        None => _ = headers.insert(AUTHORIZATION, secret(&format!("Bearer {key}"))?),
    }
    Ok(headers)
}

async fn read(response: Response) -> Answer {
    let (status, after) = (response.status(), http::retry_after(&response));
    let quota = response.headers().get("ratelimit").and_then(|value| quota(value.to_str().ok()?));
    let text = http::text(response).await;
    let said: Said = serde_json::from_str(&text).unwrap_or_default();
    let reason = || format!("it answered {status}: {}", said.in_words(&text));
    let is_lost = || said.errors.iter().any(|error| NO_SUCH_ZONE.contains(&error.code));
    match status.as_u16() {
        200..300 if said.success => Answer::Done { request_id: said.result.map(|result| result.id), quota },
        429 | 500.. => Answer::Retry { after, reason: reason() },
        401 | 403 | 404 => Answer::Credentials(reason()),
        _ if is_lost() => Answer::Credentials(reason()),
        _ => Answer::Refused(reason()),
    }
}

impl Said {
    /// In Cloudflare's own words; as it came when it is none of its answers.
    fn in_words(&self, text: &str) -> String {
        let errors: Vec<String> =
            self.errors.iter().map(|error| format!("{} ({})", error.message, error.code)).collect();
        if errors.is_empty() { http::one_line(text) } else { errors.join("; ") }
    }
}

/// `"default";r=50;t=30`: 50 calls may still be made within 30 seconds.
fn quota(header: &str) -> Option<Quota> {
    let field = |name: &str| {
        let mut fields = header.split(';').map(str::trim);
        fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    Some(Quota { left: field("r")?, resets_after: Duration::from_secs(field("t")?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Item;
    use crate::selector::Selector;

    #[test]
    fn a_call_names_one_kind() {
        let site = Site::new("cdn.example", &["img.example".to_owned()]).unwrap();
        let api = "https://api.cloudflare.com/client/v4/";
        let zone = Cloudflare::new(api, "z1", "key", None, CloudflarePlan::Free, site.clone()).unwrap();
        assert_eq!(zone.endpoint, "https://api.cloudflare.com/client/v4/zones/z1/purge_cache");
        let body = |selector: Selector| {
            let batch = Batch::new(selector.kind(), false, vec![Item { selector, purges: vec![] }]);
            serde_json::to_string(&zone.body(&batch)).unwrap()
        };
        let url = site.url("https://cdn.example/a?b").unwrap();
        assert_eq!(body(Selector::Url(url)), r#"{"files":["https://cdn.example/a?b"]}"#);
        assert_eq!(body(Selector::Tag("t".into())), r#"{"tags":["t"]}"#);
        assert_eq!(
            body(Selector::Prefix("/v/".into())),
            r#"{"prefixes":["cdn.example/v/","img.example/v/"]}"#
        );
        assert_eq!(body(Selector::All), r#"{"purge_everything":true}"#);
        assert_eq!(zone.limits().prefix.unwrap().items, 50, "at two hosts");
    }

    #[test]
    fn credentials_are_a_token_or_a_global_key() {
        let names =
            |email| credentials("k", email).unwrap().keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(None), ["authorization"]);
        assert_eq!(names(Some("a@b.example")), ["x-auth-email", "x-auth-key"]);
        assert!(!format!("{:?}", credentials("geheim", None).unwrap()).contains("geheim"));
        assert!(credentials("a\nb", None).is_err());
    }

    #[test]
    fn what_is_left_is_read() {
        assert_eq!(
            quota("\"default\";r=50;t=30"),
            Some(Quota { left: 50, resets_after: Duration::from_secs(30) })
        );
        assert_eq!(quota("limit=5"), None);
    }
}
