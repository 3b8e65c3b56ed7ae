//! A call that is to be made once only, as it is written down before it is made: whoever takes over makes the same one again, under the same name.

use keelson_schemas::cdn::Selectors;
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, Key};
use crate::selector::{Kind, Parsed, Selector};
use crate::url::Site;

/// As it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    kind: Kind,
    soft: bool,
    items: Vec<Written>,
}

/// One selector of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    text: String,
    /// For whom: the round that a purge is in, then the distances between the purges that are in it.
    rounds: Vec<(u32, Vec<u64>)>,
}

/// As it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Of what kind all of it is.
    pub kind: Kind,
    /// Whether all of it is purged softly.
    pub soft: bool,
    /// Each selector, and for whom it is: the purge, and which time it is sent for it.
    pub items: Vec<(Selector, Vec<(Key, u32)>)>,
}

impl Record {
    /// Of a call, when each purge is in the round that `round` says.
    pub fn of(batch: &Batch, round: impl Fn(Key) -> u32) -> Self {
        let items = batch.items.iter().map(|item| {
            let purges = item.purges.iter().map(|key| (*key, round(*key)));
            Written { text: item.selector.text().to_owned(), rounds: written(purges.collect()) }
        });
        Self { kind: batch.kind, soft: batch.soft, items: items.collect() }
    }

    /// What it says.
    ///
    /// # Errors
    /// Something in it is not at this site, as the site is configured now.
    pub fn read(self, site: &Site) -> Result<Recorded, String> {
        let items = self
            .items
            .into_iter()
            .map(|item| Ok((selector(self.kind, item.text, site)?, read(&item.rounds))));
        Ok(Recorded { kind: self.kind, soft: self.soft, items: items.collect::<Result<_, String>>()? })
    }
}

fn written(mut purges: Vec<(Key, u32)>) -> Vec<(u32, Vec<u64>)> {
    purges.sort_unstable_by_key(|(key, round)| (*round, *key));
    let distances = |purges: &[(Key, u32)]| {
        let before = std::iter::once(0).chain(purges.iter().map(|(key, _)| *key));
        purges.iter().zip(before).map(|((key, _), before)| key - before).collect()
    };
    purges.chunk_by(|one, next| one.1 == next.1).map(|of_one| (of_one[0].1, distances(of_one))).collect()
}

fn read(rounds: &[(u32, Vec<u64>)]) -> Vec<(Key, u32)> {
    let of_one = |(round, distances): &(u32, Vec<u64>)| {
        let round = *round;
        let keys = distances.iter().scan(0_u64, |last, distance| {
            *last = last.saturating_add(*distance);
            Some(*last)
        });
        keys.map(|key| (key, round)).collect::<Vec<_>>()
    };
    rounds.iter().flat_map(of_one).collect()
}

fn selector(kind: Kind, text: String, site: &Site) -> Result<Selector, String> {
    let one = match kind {
        Kind::Url => Selectors { urls: vec![text], ..Selectors::default() },
        Kind::Tag => Selectors { tags: vec![text], ..Selectors::default() },
        Kind::Prefix => Selectors { prefixes: vec![text], ..Selectors::default() },
        Kind::All => Selectors { all: true, ..Selectors::default() },
    };
    let parsed = Parsed::of(&one, site);
    match (parsed.error(), parsed.selectors.into_iter().next()) {
        (None, Some(selector)) => Ok(selector),
        (error, _) => Err(error.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Item;

    #[test]
    fn what_is_written_is_read() {
        let site = Site::new("cdn.example", &[]).unwrap();
        let url = Selector::Url(site.url("https://cdn.example/a?b=c").unwrap());
        let of = |kind, selectors: Vec<Selector>| {
            let items = selectors.into_iter().map(|selector| Item { selector, purges: vec![300, 7, 9] });
            Batch::new(kind, false, items.collect())
        };
        let cases =
            [(Kind::Url, url), (Kind::Prefix, Selector::Prefix("/v/".into())), (Kind::All, Selector::All)];
        for (kind, selector) in cases {
            let record = Record::of(&of(kind, vec![selector.clone()]), |key| if key == 9 { 2 } else { 1 });
            let items = vec![(selector, vec![(7, 1), (300, 1), (9, 2)])];
            assert_eq!(record.read(&site), Ok(Recorded { kind, soft: false, items }));
        }
    }

    #[test]
    fn what_is_at_the_site_no_more_is_said() {
        let (then, now) = (Site::new("old.example", &[]).unwrap(), Site::new("cdn.example", &[]).unwrap());
        let selector = Selector::Url(then.url("https://old.example/a").unwrap());
        let items = vec![Item { selector, purges: vec![1] }];
        let batch = Batch::new(Kind::Url, false, items);
        assert!(Record::of(&batch, |_| 1).read(&now).unwrap_err().contains("old.example"));
    }
}
