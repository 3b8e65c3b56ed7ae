//! URLs as readers ask for them, in one form.
//!
//! What is normalised is what every browser does before it asks (WHATWG URL): scheme and host in lower case, the scheme's own port left out, dot
//! segments resolved, the fragment dropped, what may not stand in a URL percent-encoded. Nothing more: the order of a query, and escapes as
//! they are written, stay, since caches tell objects apart by these bytes, and a purge of other bytes would purge nothing.

use std::sync::Arc;

use url::Url;

/// The longest URL. Caches and servers refuse longer request lines.
pub const MAX_URL_BYTES: usize = 8_000;

/// The hosts whose content is at the edge, each with its port unless that is the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// `http` or `https`: under which scheme readers are sent to the domain.
    pub scheme: &'static str,
    /// The CDN's domain first, then further names of it.
    pub hosts: Arc<[Arc<str>]>,
}

/// A URL at the edge. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeUrl {
    text: Arc<str>,
    /// Where the host begins, and where the path does.
    host: u32,
    path: u32,
}

impl Site {
    /// The site of a domain, `cdn.example` or `http://edge.example:6081`, and of further hosts. Without a scheme it is https, unless a port
    /// is named that is not https's.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn new(domain: &str, more: &[String]) -> Result<Self, String> {
        let (scheme, first) = authority(domain)?;
        let mut hosts = vec![first];
        for host in more {
            hosts.push(authority(host)?.1);
        }
        Ok(Self { scheme, hosts: hosts.into() })
    }

    /// The CDN's domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.hosts[0]
    }

    /// Reads a URL of this site.
    ///
    /// # Errors
    /// What is wrong with it, naming it.
    pub fn url(&self, text: &str) -> Result<EdgeUrl, String> {
        let wrong = |why: &str| Err(format!("{:?}: {why}", shown(text)));
        if text.len() > MAX_URL_BYTES {
            return wrong(&format!("a URL has at most {MAX_URL_BYTES} bytes"));
        }
        if text.trim() != text || text.contains(|character: char| character.is_ascii_control()) {
            return wrong("a URL has no white space around it and no control characters");
        }
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(url::ParseError::RelativeUrlWithoutBase) => {
                return wrong(&format!(
                    "a whole URL is needed, such as {}://{}/a",
                    self.scheme,
                    self.domain()
                ));
            }
            Err(error) => return wrong(&error.to_string()),
        };
        self.of(url).or_else(|why| wrong(&why))
    }

    /// The URL of a path with its query, at the CDN's domain.
    ///
    /// # Errors
    /// What is wrong with it, naming it.
    pub fn url_of_path(&self, path: &str) -> Result<EdgeUrl, String> {
        if !path.starts_with('/') || path.starts_with("//") || path.starts_with("/\\") {
            return Err(format!("{:?}: a path begins with one /", shown(path)));
        }
        self.url(&format!("{}://{}{path}", self.scheme, self.domain()))
    }

    fn of(&self, mut url: Url) -> Result<EdgeUrl, String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err("only http and https are at the edge".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL at the edge has no user".to_owned());
        }
        url.set_fragment(None);
        let found = host_and_port(&url);
        if !self.hosts.iter().any(|host| **host == found) {
            return Err(format!("{found} is not at this CDN, only {}", self.hosts.join(", ")));
        }
        let host = url.scheme().len() + "://".len();
        let path = host + found.len();
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Ok(EdgeUrl { text: url.as_str().into(), host: place(host), path: place(path) })
    }
}

impl EdgeUrl {
    /// All of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its host, with the port unless that is the scheme's own: as it stands in the header `Host`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.text[self.host as usize..self.path as usize]
    }

    /// Its path with the query.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        &self.text[self.path as usize..]
    }
}

impl std::fmt::Display for EdgeUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// The scheme and the host, with its port if that is not the scheme's own, of what stands in the configuration.
fn authority(text: &str) -> Result<(&'static str, Arc<str>), String> {
    let bare = !text.contains("://");
    let whole = if bare { format!("http://{text}/") } else { text.to_owned() };
    let wrong =
        |why: &str| format!("{text:?} is no host such as cdn.example or http://edge.example:6081: {why}");
    let url = Url::parse(&whole).map_err(|error| wrong(&error.to_string()))?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err(wrong("there is more in it"));
    }
    let scheme = match (url.scheme(), bare, url.port()) {
        ("https", ..) | ("http", true, None | Some(443)) => "https",
        ("http", ..) => "http",
        _ => return Err(wrong("only http and https are at the edge")),
    };
    let url = Url::parse(&format!("{scheme}://{}/", host_and_port(&url)))
        .map_err(|error| wrong(&error.to_string()))?;
    Ok((scheme, host_and_port(&url).into()))
}

fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The beginning of what somebody wrote, for a message about it.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 200;
    if text.chars().count() <= MOST {
        text.to_owned()
    } else {
        text.chars().take(MOST).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site::new("edge.example:6081", &["www.example".to_owned(), "https://Img.Example:443".to_owned()])
            .unwrap()
    }

    #[test]
    fn what_browsers_do_is_done_and_nothing_more() {
        let cases = [
            ("http://edge.example:6081/a", "http://edge.example:6081/a", "edge.example:6081", "/a"),
            ("HTTP://EDGE.Example:6081", "http://edge.example:6081/", "edge.example:6081", "/"),
            (
                "https://www.example:443/a?b=2&a=1#x",
                "https://www.example/a?b=2&a=1",
                "www.example",
                "/a?b=2&a=1",
            ),
            ("http://www.example:80/./a/../b", "http://www.example/b", "www.example", "/b"),
            (
                "https://img.example/%7Ea%2fb/%c3%a4",
                "https://img.example/%7Ea%2fb/%c3%a4",
                "img.example",
                "/%7Ea%2fb/%c3%a4",
            ),
            ("https://img.example/ä b", "https://img.example/%C3%A4%20b", "img.example", "/%C3%A4%20b"),
            ("https://img.example?", "https://img.example/?", "img.example", "/?"),
        ];
        for (text, whole, host, path) in cases {
            let url = site().url(text).unwrap();
            assert_eq!((url.as_str(), url.host(), url.path_and_query()), (whole, host, path));
            assert_eq!(site().url(whole), Ok(url), "what is normal stays");
        }
    }

    #[test]
    fn what_is_not_at_the_edge_is_refused_by_name() {
        let long = format!("https://img.example/{}", "a".repeat(MAX_URL_BYTES));
        let cases = [
            ("/a", "a whole URL is needed"),
            ("//www.example/a", "a whole URL is needed"),
            ("edge.example/a", "a whole URL is needed"),
            ("http://other.example/a", "other.example is not at this CDN"),
            ("http://edge.example/a", "only edge.example:6081, www.example, img.example"),
            ("http://edge.example:6082/a", "not at this CDN"),
            ("ftp://www.example/a", "only http"),
            ("https://user@www.example/a", "no user"),
            (" https://www.example/a", "white space"),
            ("https://www.example/a\r\nX: y", "control characters"),
            ("", "a whole URL is needed"),
            (&long, "at most"),
        ];
        for (text, why) in cases {
            let said = site().url(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn a_domain_says_its_scheme() {
        let cases = [
            ("cdn.example", "https", "cdn.example"),
            ("cdn.example:443", "https", "cdn.example"),
            ("edge.example:6081", "http", "edge.example:6081"),
            ("http://edge.example", "http", "edge.example"),
            ("https://EDGE.example:8443/", "https", "edge.example:8443"),
        ];
        for (domain, scheme, host) in cases {
            let site = Site::new(domain, &[]).unwrap();
            assert_eq!((site.scheme, site.domain()), (scheme, host), "{domain}");
        }
        for wrong in ["", "cdn.example/a", "ftp://cdn.example", "a b", "https://x@cdn.example"] {
            assert!(Site::new(wrong, &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_never_leads_away_from_the_domain() {
        assert_eq!(site().url_of_path("/a?b#c").unwrap().as_str(), "http://edge.example:6081/a?b");
        for wrong in ["", "a", "//evil.example/", "/\\evil.example", "http://evil.example/"] {
            assert!(site().url_of_path(wrong).is_err(), "{wrong}");
        }
    }
}
