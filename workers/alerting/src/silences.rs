//! Silences: which alerts are not to be notified for a while. Kept in the bucket `silences`, a key each.

pub mod change;

use std::collections::BTreeMap;

use keelson_kit::bus::{ApiError, Bus};
use keelson_kit::kv::{Change, KvError};
use keelson_schemas::alerting::{self, Labels, Silence};
use keelson_schemas::codec;
use tracing::warn;

use crate::matcher::Matchers;

/// The bucket.
pub const BUCKET: &str = "silences";
/// How long a silence that has ended can still be seen.
pub const KEPT_MS: u64 = 5 * 24 * 3600 * 1000;
/// More silences than these are not listed.
const MOST: usize = 10_000;

/// The silences there are, ready to match.
#[derive(Debug, Default)]
pub struct Silences(BTreeMap<String, (Silence, Matchers)>);

impl Silences {
    /// Those of the bucket.
    ///
    /// # Errors
    /// The bus is away.
    pub async fn load(bus: &Bus) -> Result<Self, KvError> {
        let mut silences = Self::default();
        list(bus).await?.into_iter().for_each(|silence| silences.put(silence));
        Ok(silences)
    }

    /// Takes in what was written to the bucket.
    pub fn changed(&mut self, change: &Change) {
        match change.value.as_deref().map(decode) {
            Some(Some(silence)) => self.put(silence),
            Some(None) => warn!(silence.id = %change.key, "a silence cannot be read and is passed over"),
            None => drop(self.0.remove(&change.key)),
        }
    }

    /// Takes in a silence. One whose matchers cannot be read silences nothing.
    pub fn put(&mut self, silence: Silence) {
        match Matchers::compile(&silence.matchers) {
            Ok(matchers) => drop(self.0.insert(silence.id.clone(), (silence, matchers))),
            Err(errors) => {
                warn!(silence.id = %silence.id, ?errors, "a silence cannot be read and is passed over")
            }
        }
    }

    /// The ids of those that silence an alert with these labels at a Unix millisecond.
    pub fn silencing<'a>(&'a self, labels: &'a Labels, now_ms: u64) -> impl Iterator<Item = &'a String> {
        let matching = self.0.values().filter(move |(silence, matchers)| {
            silence.starts_at_ms <= now_ms && now_ms < silence.ends_at_ms && matchers.matches(labels)
        });
        matching.map(|(silence, _)| &silence.id)
    }

    /// The ids of those that nobody wants to see any more.
    pub fn outdated(&self, now_ms: u64) -> impl Iterator<Item = &String> {
        self.0
            .values()
            .filter(move |(silence, _)| is_outdated(silence, now_ms))
            .map(|(silence, _)| &silence.id)
    }
}

/// The answer to `keelson.qry.alerting.silences`.
///
/// # Errors
/// The bus is away.
pub async fn answer(bus: &Bus, now_ms: u64) -> Result<alerting::Silences, KvError> {
    let mut silences = list(bus).await?;
    silences.retain(|silence| !is_outdated(silence, now_ms));
    Ok(alerting::Silences { silences })
}

/// Removes silences that nobody wants to see any more.
///
/// # Errors
/// The bus is away: another time will do.
pub async fn remove(bus: &Bus, outdated: &[String]) -> Result<(), ApiError> {
    for id in outdated {
        bus.purge_subject(&format!("KV_{BUCKET}"), &format!("$KV.{BUCKET}.{id}"), u64::MAX - 1).await?;
    }
    Ok(())
}

fn is_outdated(silence: &Silence, now_ms: u64) -> bool {
    silence.ends_at_ms.saturating_add(KEPT_MS) < now_ms
}

async fn list(bus: &Bus) -> Result<Vec<Silence>, KvError> {
    let entries = bus.kv(BUCKET).list(">", MOST).await?;
    Ok(entries.into_iter().filter_map(|(_, entry)| decode(&entry.value)).collect())
}

fn decode(value: &[u8]) -> Option<Silence> {
    codec::decode(None, value).ok()
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
        silences.put(silence);
        let labels = |service: &str| Labels::from([("service_name".to_owned(), service.to_owned())]);
        for (service, now_ms, expected) in
            [("web", 99, 0), ("web", 100, 1), ("web", 199, 1), ("web", 200, 0), ("db", 150, 0)]
        {
            assert_eq!(silences.silencing(&labels(service), now_ms).count(), expected, "{service} {now_ms}");
        }
        assert_eq!(silences.outdated(200 + KEPT_MS).count(), 0);
        assert_eq!(silences.outdated(201 + KEPT_MS).count(), 1);
    }
}
