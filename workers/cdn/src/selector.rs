//! What can be purged: a URL, a tag, a prefix, everything. Read once, where it comes in; what is held in these types can be sent as it stands.

use std::sync::Arc;

use keelson_schemas::cdn::Selectors;

use crate::url::{EdgeUrl, Site, shown};

/// The longest tag: what Cloudflare and Fastly take.
pub const MAX_TAG_BYTES: usize = 1_024;
/// The longest prefix.
pub const MAX_PREFIX_BYTES: usize = 1_024;
/// How many selectors one purge may have.
pub const MAX_SELECTORS: usize = 10_000;
/// How many wrong ones are named before the rest are only counted.
const MOST_NAMED: usize = 5;

/// Something to be purged. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// One URL in all its variants.
    Url(EdgeUrl),
    /// Whatever the origin put this surrogate key on.
    Tag(Arc<str>),
    /// Whatever has a path that begins so, at every host of the site.
    Prefix(Arc<str>),
    /// Everything.
    All,
}

/// What kind of thing it is: providers take each kind in calls of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// [`Selector::Url`]
    Url,
    /// [`Selector::Tag`]
    Tag,
    /// [`Selector::Prefix`]
    Prefix,
    /// [`Selector::All`]
    All,
}

/// Selectors as they were read, and what is wrong with the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Each once, in the order in which they came.
    pub selectors: Vec<Selector>,
    /// What is wrong, one sentence for each.
    pub errors: Vec<String>,
}

impl Selector {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Url(_) => Kind::Url,
            Self::Tag(_) => Kind::Tag,
            Self::Prefix(_) => Kind::Prefix,
            Self::All => Kind::All,
        }
    }

    /// As it is sent; nothing for everything.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Url(url) => url.as_str(),
            Self::Tag(text) | Self::Prefix(text) => text,
            Self::All => "",
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::Prefix(prefix) => write!(f, "prefix {prefix}"),
            Self::All => f.write_str("everything"),
        }
    }
}

impl Parsed {
    /// Reads selectors of a site.
    #[must_use]
    pub fn of(selectors: &Selectors, site: &Site) -> Self {
        let mut parsed = Self::default();
        if selectors.count() > MAX_SELECTORS {
            parsed.errors.push(format!(
                "{} URLs, tags and prefixes are too many for one purge: at most {MAX_SELECTORS}",
                selectors.count()
            ));
            return parsed;
        }
        let mut seen = rustc_hash::FxHashSet::default();
        let urls = selectors.urls.iter().map(|text| site.url(text).map(Selector::Url));
        let tags = selectors.tags.iter().map(|text| tag(text).map(Selector::Tag));
        let prefixes = selectors.prefixes.iter().map(|text| prefix(text).map(Selector::Prefix));
        let all = selectors.all.then_some(Ok(Selector::All));
        for found in urls.chain(tags).chain(prefixes).chain(all) {
            match found {
                Ok(selector) if seen.insert(selector.clone()) => parsed.selectors.push(selector),
                Ok(_) => {}
                Err(error) => parsed.errors.push(error),
            }
        }
        parsed
    }

    /// Everything that is wrong, in one sentence; none when nothing is.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let named = self.errors.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
        match self.errors.len() {
            0 => None,
            count if count > MOST_NAMED => Some(format!("{named}; and {} more", count - MOST_NAMED)),
            _ => Some(named),
        }
    }
}

/// A surrogate key. White space and commas part keys in every provider's headers.
fn tag(text: &str) -> Result<Arc<str>, String> {
    let wrong = |why: &str| Err(format!("tag {:?}: {why}", shown(text)));
    match text {
        "" => wrong("a tag is not empty"),
        _ if text.len() > MAX_TAG_BYTES => wrong(&format!("a tag has at most {MAX_TAG_BYTES} bytes")),
        _ if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') => {
            wrong("a tag has neither white space nor commas, and is ASCII")
        }
        _ => Ok(text.into()),
    }
}

/// The beginning of a path. `&&` would be read as a second condition by Varnish.
fn prefix(text: &str) -> Result<Arc<str>, String> {
    let wrong = |why: &str| Err(format!("prefix {:?}: {why}", shown(text)));
    if text.len() > MAX_PREFIX_BYTES {
        return wrong(&format!("a prefix has at most {MAX_PREFIX_BYTES} bytes"));
    }
    if !text.starts_with('/') || text.starts_with("//") {
        return wrong("a prefix is the beginning of a path: /videos/");
    }
    if text.contains("&&")
        || text.contains(|character: char| character.is_whitespace() || character.is_control())
    {
        return wrong("a prefix has neither white space nor &&");
    }
    if text.contains(['?', '#', '\\', '"', '*']) {
        return wrong("a prefix is a part of a path, without wildcards and query");
    }
    let dotted = text
        .split('/')
        .any(|segment| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | ".."));
    if dotted {
        return wrong("a prefix has no dot segments");
    }
    if text == "/" {
        return wrong("that is everything: ask for all of it");
    }
    let normal = url::Url::parse(&format!("http://host{text}")).map(|url| url.path().to_owned());
    normal.map(Into::into).or_else(|error| wrong(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site::new("cdn.example", &[]).unwrap()
    }

    fn parsed(urls: &[&str], tags: &[&str], prefixes: &[&str]) -> Parsed {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let selectors =
            Selectors { urls: owned(urls), tags: owned(tags), prefixes: owned(prefixes), all: false };
        Parsed::of(&selectors, &site())
    }

    #[test]
    fn each_is_read_once() {
        let found = parsed(
            &["https://cdn.example/a", "HTTPS://cdn.example:443/a"],
            &["video:1", "video:1"],
            &["/v/", "/ä"],
        );
        assert_eq!(found.error(), None);
        let shown: Vec<String> = found.selectors.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["https://cdn.example/a", "tag video:1", "prefix /v/", "prefix /%C3%A4"]);
    }

    #[test]
    fn what_could_be_taken_for_something_else_is_refused() {
        let long = "a".repeat(MAX_TAG_BYTES + 1);
        for tag in ["", "a b", "a,b", "a\r\nb", "ä", "a\tb", &long] {
            assert!(parsed(&[], &[tag], &[]).error().is_some(), "{tag:?}");
        }
        let injected = ["/a && obj.status == 200", "/a&&b", "/a b", "/a\n", "/a\u{a0}b", "/a\"b", "/a\\b"];
        let misread = ["", "a", "/", "//host/", "/a?b", "/a#b", "/a*", "/a/../b", "/a/%2e%2E/b", "/."];
        for prefix in injected.iter().chain(&misread) {
            assert!(parsed(&[], &[], &[prefix]).error().is_some(), "{prefix:?}");
        }
    }

    #[test]
    fn many_errors_are_named_and_counted() {
        let tags = ["a b"; 7];
        assert!(parsed(&[], &tags, &[]).error().unwrap().ends_with("; and 2 more"));
        let many = Selectors { urls: vec![String::new(); 100_000], ..Selectors::default() };
        assert!(Parsed::of(&many, &site()).error().unwrap().contains("100000"));
    }
}
