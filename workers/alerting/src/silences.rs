//! Silences: which alerts are not to be notified for a while. Kept in the bucket `silences`, a key each.

pub mod change;

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_kit::bus::Bus;
use keelson_kit::kv::{Change, Entry, KvError};
use keelson_schemas::alerting::{self, Labels, Silence};
use keelson_schemas::codec;
use tracing::warn;

use keelson_kit::matcher::Matchers;

/// The bucket.
pub const BUCKET: &str = "silences";
/// How long a silence that has ended can still be seen.
pub const KEPT_MS: u64 = 5 * 24 * 3600 * 1000;
/// More silences than these are not listed.
const MOST: usize = 10_000;

/// The silences there are, ready to match.
#[derive(Debug, Default)]
pub struct Silences(BTreeMap<String, Known>);

#[derive(Debug)]
struct Known {
    silence: Silence,
    revision: u64,
    matchers: Matchers,
}

/// A silence that nobody wants to see any more, at the revision at which it was so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outdated {
    id: String,
    revision: u64,
}

impl Silences {
    /// Those of the bucket.
    ///
    /// # Errors
    /// The bus is away.
    pub async fn load(bus: &Bus) -> Result<Self, KvError> {
        let mut silences = Self::default();
        list(bus).await?.into_iter().for_each(|entry| silences.put(entry.value, entry.revision));
        Ok(silences)
    }

    /// Takes in what was written to the bucket.
    pub fn changed(&mut self, change: &Change) {
        match change.decode() {
            Ok(Some(entry)) => self.put(entry.value, entry.revision),
            Ok(None) => _ = self.0.remove(&change.key),
            Err(error) => warn!(%error, "a silence cannot be read and is passed over"),
        }
    }

    /// Takes in a silence. One whose matchers cannot be read silences nothing.
    pub fn put(&mut self, silence: Silence, revision: u64) {
        match Matchers::compile(&silence.matchers) {
            Ok(matchers) => _ = self.0.insert(silence.id.clone(), Known { silence, revision, matchers }),
            Err(errors) => {
                warn!(silence.id = %silence.id, ?errors, "a silence cannot be read and is passed over")
            }
        }
    }

    /// The ids of those that silence an alert with these labels at a Unix millisecond.
    pub fn silencing<'a>(&'a self, labels: &'a Labels, now_ms: u64) -> impl Iterator<Item = &'a String> {
        let holds =
            move |known: &&Known| known.silence.starts_at_ms <= now_ms && now_ms < known.silence.ends_at_ms;
        let matching = self.0.values().filter(holds).filter(|known| known.matchers.matches(labels));
        matching.map(|known| &known.silence.id)
    }

    /// Forgets those that nobody wants to see any more, and gives them, to be removed. One that cannot be is found again when the bucket is read again.
    pub fn forget(&mut self, now_ms: u64) -> Vec<Outdated> {
        let outdated = self.0.values().filter(|known| is_outdated(&known.silence, now_ms));
        let outdated =
            outdated.map(|known| Outdated { id: known.silence.id.clone(), revision: known.revision });
        let outdated: Vec<Outdated> = outdated.collect();
        outdated.iter().for_each(|outdated| _ = self.0.remove(&outdated.id));
        outdated
    }
}

/// The answer to `keelson.qry.alerting.silences`.
///
/// # Errors
/// The bus is away.
pub async fn answer(bus: &Bus, now_ms: u64) -> Result<alerting::Silences, KvError> {
    let silences = list(bus).await?.into_iter().map(|entry| entry.value);
    Ok(alerting::Silences { silences: silences.filter(|silence| !is_outdated(silence, now_ms)).collect() })
}

/// Removes silences, unless they were changed since.
///
/// # Errors
/// The bus is away: another time will do.
pub async fn remove(bus: &Bus, outdated: &[Outdated]) -> Result<(), KvError> {
    for Outdated { id, revision } in outdated {
        bus.kv(BUCKET).purge(id, *revision).await?;
    }
    Ok(())
}

fn is_outdated(silence: &Silence, now_ms: u64) -> bool {
    silence.ends_at_ms.saturating_add(KEPT_MS) < now_ms
}

async fn list(bus: &Bus) -> Result<Vec<Entry<Silence>>, KvError> {
    let entries = bus.kv(BUCKET).list(">", MOST).await?;
    let read = |entry: Entry<Bytes>| {
        let value = codec::decode(None, &entry.value).ok()?;
        Some(Entry { revision: entry.revision, value })
    };
    Ok(entries.into_iter().filter_map(|(_, entry)| read(entry)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_holds_from_its_start_to_just_before_its_end() {
        let silence = Silence {
            id: "a".into(),
            matchers: vec!["service_name=~w.*".parse().unwrap()],
            starts_at_ms: 100,
            ends_at_ms: 200,
            updated_at_ms: 0,
            created_by: String::new(),
            comment: String::new(),
        };
        let mut silences = Silences::default();
        silences.put(silence, 1);
        let labels = |service: &str| Labels::from([("service_name".to_owned(), service.to_owned())]);
        for (service, now_ms, expected) in
            [("web", 99, 0), ("web", 100, 1), ("web", 199, 1), ("web", 200, 0), ("db", 150, 0)]
        {
            assert_eq!(silences.silencing(&labels(service), now_ms).count(), expected, "{service} {now_ms}");
        }
        assert_eq!(silences.forget(200 + KEPT_MS), []);
        assert_eq!(silences.forget(201 + KEPT_MS), [Outdated { id: "a".into(), revision: 1 }]);
        assert_eq!(silences.forget(201 + KEPT_MS), [], "it is removed once");
    }
}
