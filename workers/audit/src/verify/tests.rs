use jiff::Timestamp;

use super::*;
use crate::chain::Block;
use crate::key;

const MADE_MS: i64 = 7;
const DAY: u64 = 86_400_000;

/// A stream with its seals, as the sealer makes it: blocks of three entries, the seals among them.
#[derive(Clone)]
struct Trail {
    entries: Vec<Entry>,
    chain: Chain,
    key: Option<ed25519_dalek::SigningKey>,
}

impl Trail {
    fn new(blocks: usize, key: Option<&ed25519_dalek::SigningKey>) -> Self {
        let chain = Chain::default().over(MADE_MS);
        let mut trail = Self { entries: Vec::new(), chain, key: key.cloned() };
        for _ in 0..blocks {
            trail.grow();
        }
        trail
    }

    fn add(&mut self, subject: &str, body: Vec<u8>) {
        let sequence = self.entries.len() as u64 + 1;
        let entry = Entry {
            sequence,
            time_ms: sequence * 1_000,
            subject: subject.into(),
            body: body.into(),
            ..Entry::default()
        };
        self.entries.push(entry);
    }

    fn next(&self) -> Seal {
        let mut block = Block::default();
        self.entries
            .iter()
            .filter(|entry| entry.sequence > self.chain.through)
            .for_each(|entry| block.push(entry));
        self.chain.seal(&block, 1, Timestamp::UNIX_EPOCH, self.key.as_ref())
    }

    fn grow(&mut self) {
        for _ in 0..3 {
            self.add("keelson.cmd.cdn.purge", b"{}".to_vec());
        }
        let seal = self.next();
        let trusted: Vec<_> = self.key.iter().map(|key| key.verifying_key()).collect();
        self.chain.take(&seal, &trusted).unwrap();
        self.add(SEALED, codec::encode(&seal).unwrap());
    }

    fn seal_at(&self, sequence: u64) -> Seal {
        codec::decode(None, &self.entry(sequence).body).unwrap()
    }

    fn entry(&self, sequence: u64) -> &Entry {
        self.entries.iter().find(|entry| entry.sequence == sequence).unwrap()
    }

    fn change(&mut self, sequence: u64, change: impl FnOnce(&mut Entry)) -> &mut Self {
        change(self.entries.iter_mut().find(|entry| entry.sequence == sequence).unwrap());
        self
    }

    fn remove(&mut self, sequences: std::ops::RangeInclusive<u64>) -> &mut Self {
        self.entries.retain(|entry| !sequences.contains(&entry.sequence));
        self
    }

    fn report(&self, beside: &Beside) -> Report {
        let trusted = self.key.iter().map(|key| key.verifying_key()).collect();
        let first = self.entries.first().map_or(1, |entry| entry.sequence);
        let mut verifier = Verifier::new(trusted, MADE_MS, first);
        self.entries.iter().for_each(|entry| verifier.entry(entry));
        verifier.end(beside)
    }

    fn findings(&self) -> Vec<Finding> {
        self.report(&Beside::default()).findings
    }
}

fn signed(blocks: usize) -> Trail {
    Trail::new(blocks, Some(&key::generate()))
}

#[test]
fn what_is_as_it_was_is_well() {
    let mut trail = signed(4);
    trail.add("keelson.evt.content.changed", b"{}".to_vec());
    let report = trail.report(&Beside::default());
    assert!(report.is_well(), "{:?}", report.findings);
    assert_eq!((report.entries, report.first, report.last), (17, 1, 17));
    assert_eq!((report.seals, report.sealed_through), (4, 15));
    // The last seal is not news.
    assert_eq!((report.unsealed, report.unsealed_since_ms), (1, Some(17_000)));
    assert_eq!(report.signers.values().collect::<Vec<_>>(), [&4]);
    assert!(signed(0).report(&Beside::default()).is_well());
}

#[test]
fn an_entry_that_was_changed_is_named() {
    let cases: [fn(&mut Entry); 4] = [
        |entry| entry.body = vec![b'['].into(),
        |entry| entry.subject = "keelson.cmd.cdn.warm".into(),
        |entry| entry.headers.push(("a".into(), "b".into())),
        |entry| entry.time_ms += 1,
    ];
    for change in cases {
        assert_eq!(signed(4).change(6, change).findings(), [Finding::Changed { sequence: 6, seal: 2 }]);
    }
}

#[test]
fn one_that_was_removed_is_named_wherever_it_was() {
    for sequence in [2, 7, 13] {
        assert_eq!(
            signed(4).remove(sequence..=sequence).findings(),
            [Finding::Missing { sequence, last: sequence }]
        );
    }
    let mut renumbered = signed(4);
    renumbered.remove(6..=6);
    renumbered.entries.iter_mut().for_each(|entry| entry.sequence -= u64::from(entry.sequence > 6));
    assert_eq!(renumbered.findings()[0], Finding::Changed { sequence: 6, seal: 2 });
}

#[test]
fn two_that_were_swapped_are_named_and_the_first_comes_first() {
    let mut trail = signed(4);
    let (six, nine) = (trail.entry(6).clone(), trail.entry(9).clone());
    trail.change(6, |entry| *entry = Entry { sequence: 6, ..nine });
    trail.change(9, |entry| *entry = Entry { sequence: 9, ..six });
    let sequences: Vec<u64> = trail.findings().iter().map(Finding::sequence).collect();
    assert_eq!(sequences, [6, 9]);
}

#[test]
fn an_entry_that_was_changed_with_all_seals_after_it_is_known_by_the_key() {
    let forge = |key: Option<&ed25519_dalek::SigningKey>| Trail::new(4, key).entries;
    let honest = signed(4);
    let with = |entries| Trail { entries, ..honest.clone() }.findings();
    assert_eq!(with(forge(None)), [Finding::Unsigned { sequence: 15 }]);
    assert_eq!(with(forge(Some(&key::generate()))), [Finding::Unsigned { sequence: 15 }]);
    let mut mixed = honest.entries[..8].to_vec();
    mixed.extend_from_slice(&forge(None)[8..]);
    let found = with(mixed);
    assert!(matches!(&found[0], Finding::NoSeal { sequence: 12, .. }), "{found:?}");
}

#[test]
fn seals_that_are_gone_are_missed() {
    // A seal is an entry, too.
    let found = signed(4).remove(8..=8).findings();
    let seals = Finding::SealsMissing { sequence: 12, first: 2, last: 2 };
    assert_eq!(found, [Finding::Missing { sequence: 8, last: 8 }, seals]);
    let mut garbage = signed(4);
    garbage.add(SEALED, b"\xc1".to_vec());
    assert!(matches!(garbage.findings()[..], [Finding::NoSeal { sequence: 17, .. }]));
    let mut again = signed(4);
    let second = again.entry(8).body.to_vec();
    again.add(SEALED, second);
    assert!(matches!(again.findings()[..], [Finding::NoSeal { sequence: 17, .. }]));
}

#[test]
fn an_end_that_was_cut_off_is_missed_as_long_as_events_have_the_seals() {
    let mut trail = signed(4);
    let newest = trail.seal_at(16);
    let beside = Beside { newest_seal: Some((4, newest)), ..Beside::default() };
    assert!(trail.clone().remove(16..=16).report(&beside).is_well(), "it is only not copied yet");
    let found = trail.clone().remove(14..=16).report(&beside).findings;
    assert_eq!(found, [Finding::Missing { sequence: 14, last: 15 }]);
    let found = trail.remove(1..=16).report(&beside).findings;
    assert_eq!(found[0], Finding::Missing { sequence: 1, last: 15 });
}

#[test]
fn a_beginning_may_have_gone_by_age_or_size_and_not_otherwise() {
    let beside = |days: u64, is_full| Beside {
        max_age: Some(Duration::from_millis(400 * DAY)),
        is_full,
        now_ms: days * DAY,
        ..Beside::default()
    };
    // Within a block, right before a seal, between two blocks.
    for gone in [1, 3, 6, 8, 9] {
        let mut trail = signed(4);
        trail.remove(1..=gone);
        assert!(trail.report(&beside(401, false)).is_well(), "{gone}: they were old enough");
        assert!(trail.report(&beside(1, true)).is_well(), "{gone}: the stream is full");
        let found = trail.report(&beside(1, false)).findings;
        assert!(
            matches!(found[..], [Finding::BeginningGone { last, .. }] if last == gone),
            "{gone}: {found:?}"
        );
    }
}

#[test]
fn what_was_there_before_keys_were_is_vouched_for_by_the_first_that_is_signed() {
    let key = key::generate();
    let mut trail = Trail::new(2, None);
    trail.key = Some(key);
    trail.grow();
    assert!(trail.report(&Beside::default()).is_well());
    let found = trail.change(2, |entry| entry.time_ms = 0).findings();
    assert_eq!(found, [Finding::Changed { sequence: 2, seal: 1 }]);
    trail.key = None;
    trail.grow();
    let report = trail.report(&Beside::default());
    assert_eq!(report.signers.get(""), Some(&3), "without trusted keys nothing has to be signed");
}

#[test]
fn entries_that_the_seals_passed_over_are_named() {
    let mut trail = Trail::new(2, None);
    trail.chain.through = 10;
    for _ in 0..2 {
        trail.add("keelson.cmd.cdn.purge", b"{}".to_vec());
    }
    trail.grow();
    assert_eq!(trail.findings(), [Finding::Unsealed { sequence: 8, last: 10 }]);
}

#[test]
fn findings_are_bounded_and_the_first_ones_stay() {
    let mut trail = signed(60);
    trail.entries.iter_mut().filter(|entry| entry.subject != SEALED).for_each(|entry| entry.time_ms += 1);
    let report = trail.report(&Beside::default());
    assert_eq!((report.wrong, report.findings.len()), (180, 100));
    assert_eq!(report.findings[0].sequence(), 1);
}
