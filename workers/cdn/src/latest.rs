//! What each URL has to serve by the newest event about it. Without it a purge that is looked at after the next change would be taken for stale.

use std::collections::VecDeque;
use std::sync::Arc;

use keelson_schemas::cdn::Version;
use rustc_hash::FxHashMap;

use crate::batch::Key;
use crate::url::EdgeUrl;

/// How many URLs are remembered. Those that were changed longest ago are forgotten first; their purges have long ended.
const MOST: usize = 262_144;

/// Versions by URL.
#[derive(Debug, Default)]
pub struct Latest {
    known: FxHashMap<EdgeUrl, (Key, Option<Arc<Version>>)>,
    order: VecDeque<(Key, EdgeUrl)>,
}

impl Latest {
    /// Notes what an event says that a URL serves; none: whatever the origin serves.
    pub fn learn(&mut self, event: Key, url: &EdgeUrl, version: Option<Arc<Version>>) {
        if self.known.get(url).is_some_and(|(known, _)| *known >= event) {
            return;
        }
        self.known.insert(url.clone(), (event, version));
        self.order.push_back((event, url.clone()));
        while self.order.len() > MOST {
            self.forget_oldest();
        }
    }

    /// What a URL has to serve, as far as events say.
    #[must_use]
    pub fn expected(&self, url: &EdgeUrl) -> Option<Arc<Version>> {
        self.known.get(url)?.1.clone()
    }

    fn forget_oldest(&mut self) {
        let Some((event, url)) = self.order.pop_front() else { return };
        if self.known.get(&url).is_some_and(|(known, _)| *known == event) {
            self.known.remove(&url);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::Site;

    #[test]
    fn the_newest_event_counts_and_old_ones_are_forgotten() {
        let site = Site::new("cdn.example", &[]).unwrap();
        let url = |n: usize| site.url(&format!("https://cdn.example/{n}")).unwrap();
        let version = |etag: &str| Some(Arc::new(Version { etag: Some(etag.into()), ..Version::default() }));
        let mut latest = Latest::default();
        latest.learn(5, &url(0), version("new"));
        latest.learn(4, &url(0), version("old"));
        assert_eq!(latest.expected(&url(0)), version("new"));
        latest.learn(6, &url(0), None);
        assert_eq!(latest.expected(&url(0)), None);
        latest.learn(7, &url(0), version("newest"));
        (1..=MOST).for_each(|n| latest.learn(7 + n as u64, &url(n), None));
        assert_eq!((latest.expected(&url(0)), latest.known.len()), (None, MOST));
    }
}
