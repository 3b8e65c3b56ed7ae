//! The end of the chain of seals, which seals it takes, and the block that is sealed next.

use ed25519_dalek::{SigningKey, VerifyingKey};
use jiff::Timestamp;
use keelson_schemas::audit::{AuditStatus, DIGEST_BYTES, Seal};
use serde::{Deserialize, Serialize};

use crate::digest::Entry;
use crate::seal::{self, Signed};

/// Entries in one block: a seal has 32 bytes for each.
pub const MOST_ENTRIES: usize = 4_096;

/// How far the stream is sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Of the last seal; 0 before the first.
    pub number: u64,
    /// Its hash, in hex.
    pub hash: Option<String>,
    /// Whether it is signed by a key that is trusted. From then on all have to be, for those who trust any.
    pub is_signed: bool,
    /// Which stream its sequences are meant of.
    pub stream_created_ms: i64,
    /// The last entry that is sealed.
    pub through: u64,
    /// When that was stored, Unix milliseconds.
    pub through_ms: u64,
}

/// Why a seal does not belong to the chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotNext {
    /// Its digests are not those of its entries.
    #[error("it has no digest for each of its entries")]
    Torn,
    /// Its signature is none.
    #[error("its signature is not that of the key which it names")]
    BadSignature,
    /// Others are signed by a key that is trusted.
    #[error("it is signed by no key that is trusted, though seals before it are")]
    Stranger,
    /// It follows another one.
    #[error("it is number {0}, and number {1} is due")]
    Number(u64, u64),
    /// It follows one that is not there.
    #[error("it does not follow the seal before it, whose hash is another")]
    Fork,
}

impl Chain {
    /// Takes the next seal.
    ///
    /// # Errors
    /// Why it is not the next one.
    pub fn take(&mut self, seal: &Seal, trusted: &[VerifyingKey]) -> Result<(), NotNext> {
        let is_signed = self.signed(seal, trusted)?;
        if seal.number != self.number + 1 {
            return Err(NotNext::Number(seal.number, self.number + 1));
        }
        if seal.previous != self.hash {
            return Err(NotNext::Fork);
        }
        *self = Self::at(seal, is_signed);
        Ok(())
    }

    /// Begins anew at a seal, whatever was before it.
    ///
    /// # Errors
    /// When it is none in itself.
    pub fn take_up(&mut self, seal: &Seal, trusted: &[VerifyingKey]) -> Result<(), NotNext> {
        let is_signed = self.signed(seal, trusted)?;
        *self = Self::at(seal, is_signed);
        Ok(())
    }

    fn at(seal: &Seal, is_signed: bool) -> Self {
        Self {
            number: seal.number,
            hash: Some(seal::hex(&seal::hash(seal))),
            is_signed,
            stream_created_ms: seal.stream_created_ms,
            through: seal.last,
            through_ms: seal.last_ms,
        }
    }

    fn signed(&self, seal: &Seal, trusted: &[VerifyingKey]) -> Result<bool, NotNext> {
        if !seal::is_whole(seal) {
            return Err(NotNext::Torn);
        }
        let is_trusted = match seal::signature(seal) {
            Signed::Wrong => return Err(NotNext::BadSignature),
            Signed::Not => false,
            Signed::By(key) => trusted.contains(&key),
        };
        if self.is_signed && !is_trusted && !trusted.is_empty() {
            Err(NotNext::Stranger)
        } else {
            Ok(is_trusted)
        }
    }

    /// How far that is, for those who ask.
    #[must_use]
    pub fn status(&self) -> AuditStatus {
        AuditStatus {
            seals: self.number,
            sealed_through: self.through,
            head: self.hash.clone(),
            signed: self.is_signed,
        }
    }

    /// The same chain over a stream that was made at a time: another stream is sealed from its beginning.
    #[must_use]
    pub fn over(self, stream_created_ms: i64) -> Self {
        if self.stream_created_ms == stream_created_ms {
            return self;
        }
        Self { stream_created_ms, through: 0, through_ms: 0, ..self }
    }

    /// The seal of a block.
    #[must_use]
    pub fn seal(&self, block: &Block, epoch: u64, sealed_at: Timestamp, key: Option<&SigningKey>) -> Seal {
        let seal = Seal {
            number: self.number + 1,
            stream_created_ms: self.stream_created_ms,
            first: block.first,
            last: block.last,
            after_ms: self.through_ms,
            first_ms: block.first_ms,
            last_ms: block.last_ms,
            digests: block.digests.clone().into(),
            previous: self.hash.clone(),
            epoch,
            sealed_at,
            signer: None,
            signature: None,
        };
        match key {
            Some(key) => seal::signed(seal, key),
            None => seal,
        }
    }
}

/// Entries that are sealed together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    first: u64,
    last: u64,
    first_ms: u64,
    last_ms: u64,
    digests: Vec<u8>,
}

impl Block {
    /// Whether an entry comes right after those that are in it.
    #[must_use]
    pub fn is_before(&self, entry: &Entry) -> bool {
        self.is_empty() || entry.sequence == self.last + 1
    }

    /// Adds an entry that comes next.
    pub fn push(&mut self, entry: &Entry) {
        if self.is_empty() {
            (self.first, self.first_ms) = (entry.sequence, entry.time_ms);
        }
        (self.last, self.last_ms) = (entry.sequence, entry.time_ms);
        self.digests.extend_from_slice(&entry.digest());
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whether no more fit.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.digests.len() >= MOST_ENTRIES * DIGEST_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;

    fn block(sequences: std::ops::RangeInclusive<u64>) -> Block {
        let mut block = Block::default();
        for sequence in sequences {
            block.push(&Entry { sequence, time_ms: sequence, ..Entry::default() });
        }
        block
    }

    fn next(chain: &Chain, key: Option<&SigningKey>) -> Seal {
        let from = chain.through + 1;
        chain.seal(&block(from..=from + 2), 1, Timestamp::UNIX_EPOCH, key)
    }

    #[test]
    fn a_chain_takes_what_follows_and_nothing_else() {
        let mut chain = Chain::default();
        let first = next(&chain, None);
        chain.take(&first, &[]).unwrap();
        let second = next(&chain, None);
        assert_eq!((second.number, second.first, second.last, second.after_ms), (2, 4, 6, 3));
        let refused = |seal: Seal| chain.clone().take(&seal, &[]).unwrap_err();
        assert_eq!(refused(first.clone()), NotNext::Number(1, 2));
        assert_eq!(refused(Seal { number: 3, ..second.clone() }), NotNext::Number(3, 2));
        assert_eq!(refused(Seal { previous: None, ..second.clone() }), NotNext::Fork);
        assert_eq!(refused(Seal { last: 7, ..second.clone() }), NotNext::Torn);
        chain.take(&second, &[]).unwrap();
        assert_eq!(chain.through, 6);
    }

    #[test]
    fn once_a_trusted_key_has_signed_no_other_does_and_signing_may_begin_late() {
        let (key, other) = (key::generate(), key::generate());
        let trusted = [key.verifying_key()];
        let mut chain = Chain::default();
        chain.take(&next(&Chain::default(), None), &trusted).unwrap();
        let seal = next(&chain, Some(&key));
        chain.take(&seal, &trusted).unwrap();
        for stranger in [None, Some(&other)] {
            let seal = next(&chain, stranger);
            assert_eq!(chain.clone().take(&seal, &trusted), Err(NotNext::Stranger));
        }
        let forged = Seal { last_ms: 1, ..next(&chain, Some(&key)) };
        assert_eq!(chain.clone().take(&forged, &trusted), Err(NotNext::BadSignature));
        assert_eq!(chain.clone().take(&next(&chain, Some(&key)), &trusted), Ok(()));
    }

    #[test]
    fn another_stream_is_sealed_from_its_beginning_in_the_same_chain() {
        let mut chain = Chain::default();
        chain.take(&next(&Chain::default(), None), &[]).unwrap();
        let over = chain.clone().over(9);
        assert_eq!((over.through, over.number, &over.hash), (0, 1, &chain.hash));
        assert_eq!(over.clone().over(9), over);
    }

    #[test]
    fn a_block_has_no_gaps_and_a_bound() {
        let mut block = block(5..=6);
        let at = |sequence| Entry { sequence, ..Entry::default() };
        assert!(block.is_before(&at(7)) && !block.is_before(&at(8)) && !block.is_before(&at(6)));
        assert!(Block::default().is_before(&at(8)));
        for sequence in 7.. {
            if block.is_full() {
                break;
            }
            block.push(&at(sequence));
        }
        assert_eq!(block.last - block.first + 1, MOST_ENTRIES as u64);
    }
}
