//! Which URLs a tag or a prefix covers, as far as events have said: by it, what a provider cannot purge is put into what it can, and by it
//! purges of tags and prefixes are verified.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::selector::Selector;
use crate::url::EdgeUrl;

/// How many URLs are known at most. The ones seen longest ago are forgotten first.
pub const MOST_URLS: usize = 200_000;
/// How many tags one URL is known under; an event with more is learned in part.
const MOST_TAGS: usize = 64;

/// What events have said.
#[derive(Debug, Default)]
pub struct Index {
    by_tag: FxHashMap<Arc<str>, BTreeSet<EdgeUrl>>,
    by_path: BTreeMap<Arc<str>, BTreeSet<EdgeUrl>>,
    tags: FxHashMap<EdgeUrl, Known>,
    order: VecDeque<(u64, EdgeUrl)>,
    learned: u64,
}

#[derive(Debug, Default)]
struct Known {
    at: u64,
    tags: BTreeSet<Arc<str>>,
}

impl Index {
    /// Learns from the selectors of one event: its tags are on all of its URLs.
    pub fn learn(&mut self, selectors: &[Selector]) {
        let tags = selectors.iter().filter_map(|selector| match selector {
            Selector::Tag(tag) => Some(tag),
            _ => None,
        });
        let tags: Vec<&Arc<str>> = tags.take(MOST_TAGS).collect();
        for selector in selectors {
            if let Selector::Url(url) = selector {
                self.see(url, &tags);
            }
        }
    }

    /// At most so many of the URLs that a selector covers; a URL covers itself.
    #[must_use]
    pub fn covered(&self, selector: &Selector, most: usize) -> Vec<EdgeUrl> {
        match selector {
            Selector::Url(url) => vec![url.clone()],
            Selector::Tag(tag) => self.by_tag.get(tag).into_iter().flatten().take(most).cloned().collect(),
            Selector::Prefix(prefix) => {
                let below = self.by_path.range(Arc::clone(prefix)..);
                let below = below.take_while(|(path, _)| path.starts_with(&**prefix));
                below.flat_map(|(_, urls)| urls).take(most).cloned().collect()
            }
            Selector::All => self.by_path.values().flatten().take(most).cloned().collect(),
        }
    }

    /// How many URLs are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    fn see(&mut self, url: &EdgeUrl, tags: &[&Arc<str>]) {
        self.learned += 1;
        let known = self.tags.entry(url.clone()).or_default();
        if known.at == 0 {
            self.by_path.entry(url.path_and_query().into()).or_default().insert(url.clone());
        }
        known.at = self.learned;
        for tag in tags {
            if known.tags.len() < MOST_TAGS && known.tags.insert(Arc::clone(tag)) {
                self.by_tag.entry(Arc::clone(tag)).or_default().insert(url.clone());
            }
        }
        self.order.push_back((self.learned, url.clone()));
        // A URL that is seen again stands twice in the order, so that there may be more of these than URLs.
        while self.tags.len() > MOST_URLS || self.order.len() > 2 * MOST_URLS {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((at, url)) = self.order.pop_front() else { return };
        if self.tags.get(&url).is_none_or(|known| known.at != at) {
            return;
        }
        let tags = self.tags.remove(&url).map(|known| known.tags).unwrap_or_default();
        for tag in tags {
            if let Some(urls) = self.by_tag.get_mut(&tag) {
                urls.remove(&url);
                if urls.is_empty() {
                    self.by_tag.remove(&tag);
                }
            }
        }
        if let Some(urls) = self.by_path.get_mut(url.path_and_query()) {
            urls.remove(&url);
            if urls.is_empty() {
                self.by_path.remove(url.path_and_query());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::Site;

    fn url(path: &str) -> EdgeUrl {
        Site::new("cdn.example", &[]).unwrap().url(&format!("https://cdn.example{path}")).unwrap()
    }

    fn tag(name: &str) -> Selector {
        Selector::Tag(name.into())
    }

    fn prefix(path: &str) -> Selector {
        Selector::Prefix(path.into())
    }

    #[test]
    fn tags_and_prefixes_cover_what_events_named_together() {
        let mut index = Index::default();
        index.learn(&[Selector::Url(url("/v/1")), Selector::Url(url("/v/1?size=l")), tag("video:1")]);
        index.learn(&[Selector::Url(url("/v/1")), Selector::Url(url("/w")), tag("home")]);
        let covered = |selector: &Selector| {
            index.covered(selector, 9).iter().map(|url| url.path_and_query().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(covered(&tag("video:1")), ["/v/1", "/v/1?size=l"]);
        assert_eq!(covered(&tag("home")), ["/v/1", "/w"]);
        assert_eq!(covered(&prefix("/v/")), ["/v/1", "/v/1?size=l"]);
        assert_eq!(covered(&Selector::All).len(), 3);
        assert_eq!(index.covered(&Selector::All, 2).len(), 2);
        assert!(covered(&tag("other")).is_empty() && covered(&prefix("/x")).is_empty());
    }

    #[test]
    fn what_was_seen_longest_ago_is_forgotten_wholly() {
        let mut index = Index::default();
        index.learn(&[Selector::Url(url("/old")), tag("old")]);
        index.learn(&[Selector::Url(url("/kept")), tag("kept")]);
        for n in 0..MOST_URLS {
            index.learn(&[Selector::Url(url(&format!("/{n}")))]);
            if n == MOST_URLS / 2 {
                index.learn(&[Selector::Url(url("/kept"))]);
            }
        }
        assert_eq!(index.len(), MOST_URLS);
        assert!(index.covered(&tag("old"), 9).is_empty() && index.covered(&prefix("/old"), 9).is_empty());
        assert_eq!(index.covered(&tag("kept"), 9).len(), 1);
    }
}
