//! Varnish with compose/varnish/keelson.vcl, one instance.

use std::fmt::Write as _;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::header::HOST;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};

use super::Provider;
use crate::batch::{Batch, Item};
use crate::flow::Answer;
use crate::http;
use crate::limits::{Limits, VARNISH};
use crate::selector::{Kind, Selector};
use crate::url::Site;

/// How long a purge may take: it is a matter of memory.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What keelson.vcl puts on its answers. Without it somebody else has answered: an origin that says 200 to everything.
const DONE_BY: &str = "keelson";
/// How many URLs it has purged. An older one knows nothing of [`ALSO`], purges one, and does not say so.
const URLS: &str = "keelson-urls";
/// More URLs than the one that is purged, each as its host and its path.
const ALSO: &str = "keelson-also";

/// One instance.
pub struct Varnish {
    client: Client,
    base: Url,
    site: Site,
}

impl Varnish {
    /// The instance at an address, in front of a site.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(base: Url, site: Site) -> reqwest::Result<Self> {
        let client = http::client(TIMEOUT).http1_only().no_proxy().build()?;
        Ok(Self { client, base, site })
    }

    async fn call(&self, batch: &Batch) -> Answer {
        match batch.kind {
            Kind::Url => self.urls(batch).await,
            Kind::Tag => answer(self.tags(batch), 1).await,
            Kind::Prefix => self.bans(batch, prefix_expression).await,
            Kind::All => self.bans(batch, |_| "^/".to_owned()).await,
        }
    }

    async fn urls(&self, batch: &Batch) -> Answer {
        let mut urls = batch.items.iter().filter_map(|item| match &item.selector {
            Selector::Url(url) => Some(url),
            _ => None,
        });
        let Some(first) = urls.next() else { return Answer::done(None) };
        let also: Vec<String> = urls.map(|url| format!("{}{}", url.host(), url.path_and_query())).collect();
        let mut request = self.request(b"PURGE", first.path_and_query(), first.host());
        if batch.soft {
            request = request.header("Keelson-Soft", "1");
        }
        if !also.is_empty() {
            request = request.header(ALSO, also.join(" "));
        }
        answer(request, 1 + also.len()).await
    }

    fn tags(&self, batch: &Batch) -> RequestBuilder {
        let tags: Vec<&str> = batch.items.iter().map(|item| item.selector.text()).collect();
        let header = if batch.soft { "xkey-softpurge" } else { "xkey-purge" };
        self.request(b"PURGE", "/", self.site.domain()).header(header, tags.join(" "))
    }

    /// A ban for each prefix at each host.
    async fn bans(&self, batch: &Batch, expression: fn(&Item) -> String) -> Answer {
        let mut last = Answer::done(None);
        for item in &batch.items {
            for host in self.site.hosts.iter() {
                let request = self.request(b"BAN", "/", host).header("Keelson-Ban", expression(item));
                last = answer(request, 1).await;
                if !matches!(last, Answer::Done { .. }) {
                    return last;
                }
            }
        }
        last
    }

    fn request(&self, method: &[u8], path: &str, host: &str) -> RequestBuilder {
        let mut url = self.base.as_str().trim_end_matches('/').to_owned();
        url.push_str(path);
        let method = Method::from_bytes(method).unwrap_or_default();
        self.client.request(method, url).header(HOST, host)
    }
}

impl Provider for Varnish {
    fn limits(&self) -> Limits {
        VARNISH
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Answer> {
        self.call(batch).boxed()
    }
}

/// What is said to a request that is done when so many URLs were purged.
async fn answer(request: RequestBuilder, urls: usize) -> Answer {
    match request.send().await {
        Ok(response) => read(response, urls).await,
        Err(error) if error.is_builder() => Answer::Refused(http::said(error)),
        Err(error) => Answer::Retry { after: None, reason: http::said(error) },
    }
}

async fn read(response: Response, urls: usize) -> Answer {
    let status = response.status();
    let header =
        |name: &str| response.headers().get(name).and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let (ours, id) = (header(DONE_BY).is_some(), header("x-varnish"));
    let purged = header(URLS).and_then(|urls| urls.parse().ok()).unwrap_or(1);
    match status {
        StatusCode::OK if ours && purged != urls => Answer::Refused(format!(
            "it purged {purged} of {urls} URLs: its keelson.vcl is older than this worker"
        )),
        StatusCode::OK if ours => {
            // Read to its end, so that the connection can be used again.
            drop(response.bytes().await);
            Answer::done(id)
        }
        StatusCode::BAD_REQUEST if ours => Answer::Refused(http::reason(response).await),
        // It allows fewer restarts than it does by default.
        _ if status.is_server_error() && ours && urls > 1 => Answer::Refused(http::reason(response).await),
        _ if status.is_server_error() => {
            Answer::Retry { after: http::retry_after(&response), reason: http::reason(response).await }
        }
        StatusCode::FORBIDDEN => {
            Answer::Credentials("it answered 403: this machine is not in the acl of keelson.vcl".to_owned())
        }
        _ => Answer::Credentials(format!(
            "it answered {status}, and not by keelson.vcl: include that in its VCL"
        )),
    }
}

/// A regular expression for what begins like this. Characters that mean something in one stand in brackets, since Varnish's own parser of
/// bans has a meaning for backslashes.
fn prefix_expression(item: &Item) -> String {
    let mut expression = String::from("^");
    for character in item.selector.text().chars() {
        match character {
            '^' => expression.push_str("\\^"),
            _ if character.is_ascii_alphanumeric() || "/-_~%".contains(character) => {
                expression.push(character)
            }
            _ => _ = write!(expression, "[{character}]"),
        }
    }
    expression
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_means_only_itself() {
        let expression = |prefix: &str| {
            prefix_expression(&Item { selector: Selector::Prefix(prefix.into()), purges: vec![] })
        };
        assert_eq!(expression("/v/"), "^/v/");
        assert_eq!(expression("/a.b(c)*+|$"), "^/a[.]b[(]c[)][*][+][|][$]");
        assert_eq!(expression("/[x]^{1}"), "^/[[]x[]]\\^[{]1[}]");
    }
}
