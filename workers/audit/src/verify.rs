//! Whether the stream is what was sealed. A pure fold: entries go in, in order; what is wrong comes out. In memory are some 60 bytes for each entry that no seal covers yet.

use std::collections::VecDeque;
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use keelson_schemas::audit::{SEALED, Seal};
use keelson_schemas::codec;

use crate::chain::{Chain, NotNext};
use crate::digest::{Digest, Entry};
use crate::report::{Finding, Report};
use crate::seal;

/// Entries leave the stream within this time after their age is reached.
const SLACK: Duration = Duration::from_secs(3_600);

/// A verification under way.
pub struct Verifier {
    trusted: Vec<VerifyingKey>,
    stream_created_ms: i64,
    /// The sequence that comes next.
    next: u64,
    waiting: VecDeque<Waiting>,
    chain: Option<Chain>,
    /// The beginning of the first block that reaches back before the first entry, or ends right before it.
    gone: Option<Gone>,
    report: Report,
}

/// An entry that no seal covers yet.
struct Waiting {
    sequence: u64,
    time_ms: u64,
    is_seal: bool,
    digest: Digest,
}

/// What is known of entries before the first one.
#[derive(Debug, Clone, Copy)]
struct Gone {
    first: u64,
    /// When the newest of them was stored, at the least; Unix milliseconds.
    newest_ms: u64,
}

/// What is known beside the entries.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// The newest seal in EVENTS, and its sequence there: AUDIT has it a moment later.
    pub newest_seal: Option<(u64, Seal)>,
    /// How long entries are kept; none is for ever.
    pub max_age: Option<Duration>,
    /// Whether the stream is so full that the oldest entries make room.
    pub is_full: bool,
    /// Unix milliseconds.
    pub now_ms: u64,
}

impl Verifier {
    /// Of a stream that was made at a time and begins with an entry.
    #[must_use]
    pub fn new(trusted: Vec<VerifyingKey>, stream_created_ms: i64, first: u64) -> Self {
        let report = Report { is_trusted: !trusted.is_empty(), ..Report::default() };
        Self {
            trusted,
            stream_created_ms,
            next: first,
            waiting: VecDeque::new(),
            chain: None,
            gone: None,
            report,
        }
    }

    /// The next entry.
    pub fn entry(&mut self, entry: &Entry) {
        if entry.sequence > self.next {
            self.report.found(Finding::Missing { sequence: self.next, last: entry.sequence - 1 });
        }
        if self.report.entries == 0 {
            self.report.first = entry.sequence;
        }
        self.report.entries += 1;
        (self.next, self.report.last) = (entry.sequence + 1, entry.sequence);
        let is_seal = entry.subject == SEALED;
        let (sequence, time_ms, digest) = (entry.sequence, entry.time_ms, entry.digest());
        self.waiting.push_back(Waiting { sequence, time_ms, is_seal, digest });
        if is_seal {
            match codec::decode::<Seal>(None, &entry.body) {
                Ok(seal) => self.seal(entry.sequence, &seal),
                Err(error) => self.no_seal(entry.sequence, &error.to_string()),
            }
        }
    }

    /// That was all.
    #[must_use]
    pub fn end(mut self, beside: &Beside) -> Report {
        if let Some((sequence, seal)) = &beside.newest_seal {
            self.newest(*sequence, seal);
        }
        self.beginning(beside);
        let chain = self.chain.unwrap_or_default();
        let ours = chain.stream_created_ms == self.stream_created_ms;
        self.report.sealed_through = if ours { chain.through } else { 0 };
        self.report.head = chain.hash;
        if !self.trusted.is_empty() && self.report.entries > 0 && !chain.is_signed {
            self.report.found(Finding::Unsigned { sequence: self.report.sealed_through });
        }
        // The last seal is covered by the next one, which comes with news.
        let mut unsealed = self.waiting.iter().filter(|waiting| !waiting.is_seal);
        self.report.unsealed_since_ms = unsealed.clone().next().map(|waiting| waiting.time_ms);
        self.report.unsealed = unsealed.by_ref().count() as u64;
        self.report
    }

    fn seal(&mut self, sequence: u64, seal: &Seal) {
        let ours = seal.stream_created_ms == self.stream_created_ms;
        let through = self.chain.as_ref().map_or(0, |chain| chain.through);
        let are_missing = match self.take(sequence, seal) {
            Ok(are_missing) => are_missing,
            Err(reason) => return self.no_seal(sequence, &reason.to_string()),
        };
        self.report.seals += 1;
        *self.report.signers.entry(seal.signer.clone().unwrap_or_default()).or_default() += 1;
        if ours {
            self.before(seal);
            // What seals that are missing covered was not passed over.
            self.covered(seal, if are_missing { u64::MAX } else { through });
        }
    }

    /// Whether seals are missing before it.
    fn take(&mut self, sequence: u64, seal: &Seal) -> Result<bool, NotNext> {
        let Some(chain) = &mut self.chain else {
            let mut chain = Chain::default();
            chain.take_up(seal, &self.trusted)?;
            self.chain = Some(chain);
            // Seals before it went with their entries, or did not.
            let ours = seal.stream_created_ms == self.stream_created_ms;
            let are_missing = ours && self.report.first == 1 && seal.number > 1;
            if are_missing {
                self.report.found(Finding::SealsMissing { sequence, first: 1, last: seal.number - 1 });
            }
            return Ok(are_missing);
        };
        match chain.take(seal, &self.trusted) {
            Err(NotNext::Number(number, due)) if number > due => {
                chain.take_up(seal, &self.trusted)?;
                self.report.found(Finding::SealsMissing { sequence, first: due, last: number - 1 });
                Ok(true)
            }
            taken => taken.map(|()| false),
        }
    }

    /// What a seal says of entries before the first one.
    fn before(&mut self, seal: &Seal) {
        let first = self.report.first;
        if self.gone.is_some() || seal.first > first {
            return;
        }
        self.gone = match first.checked_sub(1) {
            Some(0) | None => None,
            Some(last) if seal.first == first => Some(Gone { first: last, newest_ms: seal.after_ms }),
            Some(last) if seal.last < first => {
                Some(Gone { first: seal.first, newest_ms: seal.last_ms }).filter(|_| seal.last == last)
            }
            // Some of its own entries are gone, none of them older than the first.
            Some(_) => Some(Gone { first: seal.first, newest_ms: seal.first_ms }),
        };
    }

    /// Compares the entries of a block.
    fn covered(&mut self, seal: &Seal, through: u64) {
        let mut passed_over = None;
        while let Some(Waiting { sequence, digest, .. }) =
            self.waiting.pop_front_if(|waiting| waiting.sequence <= seal.last)
        {
            match seal::digest_of(seal, sequence) {
                None if sequence > through => {
                    let (first, _) = passed_over.unwrap_or((sequence, sequence));
                    passed_over = Some((first, sequence));
                }
                Some(sealed) if sealed != digest => {
                    self.report.found(Finding::Changed { sequence, seal: seal.number });
                }
                _ => {}
            }
        }
        if let Some((sequence, last)) = passed_over {
            self.report.found(Finding::Unsealed { sequence, last });
        }
        if seal.last >= self.next {
            self.report.found(Finding::Missing { sequence: self.next, last: seal.last });
        }
    }

    /// The newest seal there is, which the stream may have or not have yet.
    fn newest(&mut self, sequence: u64, seal: &Seal) {
        let number = self.chain.as_ref().map_or(0, |chain| chain.number);
        if seal.number > number {
            self.seal(sequence, seal);
        }
    }

    fn beginning(&mut self, beside: &Beside) {
        let Some(gone) = self.gone.filter(|_| !beside.is_full) else { return };
        let kept = beside.max_age.map(|age| age.saturating_sub(SLACK).as_millis());
        let age = u128::from(beside.now_ms.saturating_sub(gone.newest_ms));
        if kept.is_none_or(|kept| age < kept) {
            let last = self.report.first - 1;
            self.report.found(Finding::BeginningGone { sequence: gone.first, last });
        }
    }

    fn no_seal(&mut self, sequence: u64, reason: &str) {
        self.report.found(Finding::NoSeal { sequence, reason: reason.to_owned() });
    }
}

#[cfg(test)]
mod tests;
