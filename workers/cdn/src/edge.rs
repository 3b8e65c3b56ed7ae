//! What readers get: the edge looked at as a reader does, and compared with what an event said or with the origin.

use std::sync::Arc;

use keelson_schemas::cdn::Version;
use reqwest::header::{CONTENT_LENGTH, ETAG, HOST, HeaderMap, LAST_MODIFIED};
use reqwest::{Client, Method, Response, StatusCode, Url};
use sha2::{Digest, Sha256};

use crate::config::VerifyConfig;
use crate::flow::Sight;
use crate::http;
use crate::url::EdgeUrl;

/// Larger bodies are not compared.
const MOST_BODY_BYTES: usize = 64 << 20;

/// A way to the edge, and to the origin behind it. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    client: Client,
    through: Option<Url>,
    origin: Option<Url>,
    version_header: Arc<str>,
}

/// An answer, as far as it can be compared.
struct Seen {
    status: StatusCode,
    headers: HeaderMap,
    /// SHA-256 of the body, in hexadecimal, if it was fetched.
    sha256: Option<String>,
}

impl Edge {
    /// Through an address instead of the host of each URL, unless the configuration names another.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(config: &VerifyConfig, through: Option<Url>, origin: Option<Url>) -> reqwest::Result<Self> {
        let named = config.edge.as_deref().and_then(|edge| Url::parse(edge).ok());
        Ok(Self {
            client: http::client(config.timeout.0).no_proxy().build()?,
            through: named.or(through),
            origin,
            version_header: config.version_header.as_str().into(),
        })
    }

    /// Whether readers get what they have to. None: what the origin serves.
    pub async fn look(&self, url: &EdgeUrl, expected: Option<&Version>) -> Sight {
        let known = expected.filter(|version| **version != Version::default());
        let judged = match known {
            Some(version) => self.compare_with_version(url, version).await,
            None => self.compare_with_origin(url).await,
        };
        judged.unwrap_or_else(Sight::Unverifiable)
    }

    /// A request as a reader makes it, through the edge.
    pub(crate) fn read(&self, method: Method, url: &EdgeUrl) -> reqwest::RequestBuilder {
        match &self.through {
            Some(base) => at(&self.client, method, base, url),
            None => self.client.request(method, url.as_str()),
        }
    }

    async fn compare_with_version(&self, url: &EdgeUrl, version: &Version) -> Result<Sight, String> {
        let method = if version.sha256.is_some() { Method::GET } else { Method::HEAD };
        let edge = self.at_edge(method, url).await?;
        if !edge.status.is_success() {
            return Ok(Sight::Stale(format!("{url} answers {}", edge.status)));
        }
        let header = (!self.version_header.is_empty()).then_some(&*self.version_header);
        let sides = [
            ("ETag", version.etag.as_deref(), edge.header("etag"), true),
            ("SHA-256", version.sha256.as_deref(), edge.sha256.clone(), false),
            (
                header.unwrap_or("the version's header"),
                version.header.as_deref(),
                header.and_then(|name| edge.header(name)),
                false,
            ),
        ];
        for (what, expected, found, weak) in sides {
            let Some(expected) = expected else { continue };
            let Some(found) = found else { return Err(format!("{url} has no {what} to compare with")) };
            let same = if weak {
                opaque(&found) == opaque(expected)
            } else {
                found.eq_ignore_ascii_case(expected.trim())
            };
            if !same {
                return Ok(Sight::Stale(format!("{url} serves {what} {found}, not {expected}")));
            }
        }
        Ok(Sight::Fresh)
    }

    async fn compare_with_origin(&self, url: &EdgeUrl) -> Result<Sight, String> {
        if self.origin.is_none() {
            return Err(
                "no version was given, and no origin is configured to compare with (cdn.origin)".to_owned()
            );
        }
        let edge = self.at_edge(Method::HEAD, url).await?;
        let origin = self.at_origin(Method::HEAD, url).await?;
        if let Some(sight) = same(url, &edge, &origin) {
            return Ok(sight);
        }
        let edge = self.at_edge(Method::GET, url).await?;
        let origin = self.at_origin(Method::GET, url).await?;
        match (&edge.sha256, &origin.sha256) {
            (Some(found), Some(expected)) if found == expected => Ok(Sight::Fresh),
            (Some(_), Some(_)) => Ok(Sight::Stale(format!("{url} has another body than at the origin"))),
            _ => Err(format!("{url} is too large to be compared by its body, and has no ETag")),
        }
    }

    async fn at_edge(&self, method: Method, url: &EdgeUrl) -> Result<Seen, String> {
        let answer = self.read(method.clone(), url).send().await;
        let answer = answer
            .map_err(|error| format!("{url} cannot be read through the edge: {}", http::said(error)))?;
        if answer.status().is_server_error() {
            return Err(format!("{url} answers {} through the edge", answer.status()));
        }
        Seen::of(answer, method == Method::GET).await.map_err(|error| format!("{url}: {error}"))
    }

    async fn at_origin(&self, method: Method, url: &EdgeUrl) -> Result<Seen, String> {
        let origin = self.origin.as_ref().ok_or("no origin is configured (cdn.origin)")?;
        let answer = at(&self.client, method.clone(), origin, url).send().await;
        let answer =
            answer.map_err(|error| format!("{url} cannot be read at the origin: {}", http::said(error)))?;
        if answer.status().is_server_error() {
            return Err(format!("{url} answers {} at the origin", answer.status()));
        }
        Seen::of(answer, method == Method::GET).await.map_err(|error| format!("{url} at the origin: {error}"))
    }
}

impl Seen {
    async fn of(mut response: Response, with_body: bool) -> Result<Self, String> {
        let (status, headers) = (response.status(), response.headers().clone());
        let (mut hash, mut read) = (Sha256::new(), 0);
        while with_body && read <= MOST_BODY_BYTES {
            let Some(chunk) = response.chunk().await.map_err(http::said)? else { break };
            hash.update(&chunk);
            read += chunk.len();
        }
        let whole = with_body && read <= MOST_BODY_BYTES;
        let sha256 = whole.then(|| hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        Ok(Self { status, headers, sha256 })
    }

    fn header(&self, name: &str) -> Option<String> {
        Some(self.headers.get(name)?.to_str().ok()?.to_owned())
    }
}

/// Whether the edge has what the origin has, if headers tell.
fn same(url: &EdgeUrl, edge: &Seen, origin: &Seen) -> Option<Sight> {
    if edge.status != origin.status {
        return Some(Sight::Stale(format!(
            "{url} answers {}, and {} at the origin",
            edge.status, origin.status
        )));
    }
    if !edge.status.is_success() {
        return Some(Sight::Fresh);
    }
    let both = |name: &str| Some((edge.header(name)?, origin.header(name)?));
    if let Some((found, expected)) = both(ETAG.as_str()) {
        let stale = || Sight::Stale(format!("{url} serves ETag {found}, and {expected} at the origin"));
        return Some(if opaque(&found) == opaque(&expected) { Sight::Fresh } else { stale() });
    }
    let differs = |name: &str| both(name).filter(|(found, expected)| found != expected);
    [LAST_MODIFIED, CONTENT_LENGTH].iter().find_map(|name| {
        let (found, expected) = differs(name.as_str())?;
        Some(Sight::Stale(format!("{url} serves {name} {found}, and {expected} at the origin")))
    })
}

/// What two entity tags are compared by when compared weakly.
fn opaque(etag: &str) -> &str {
    let etag = etag.trim();
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}

fn at(client: &Client, method: Method, base: &Url, url: &EdgeUrl) -> reqwest::RequestBuilder {
    let whole = format!("{}{}", base.as_str().trim_end_matches('/'), url.path_and_query());
    client.request(method, whole).header(HOST, url.host())
}
