//! The hash of a seal, which the next one holds, and its signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use keelson_schemas::audit::{DIGEST_BYTES, Seal};

use crate::digest::{Digest, Parts};
use crate::key;

/// Over everything in it but the signature.
#[must_use]
pub fn hash(seal: &Seal) -> Digest {
    let mut parts = Parts::of("keelson audit seal v1");
    parts.number(seal.number).number(seal.stream_created_ms.cast_unsigned());
    parts.number(seal.first).number(seal.last).number(seal.after_ms);
    parts.number(seal.first_ms).number(seal.last_ms);
    parts.part(&seal.digests);
    parts.part(seal.previous.as_deref().unwrap_or_default().as_bytes()).number(seal.epoch);
    parts.part(seal.sealed_at.to_string().as_bytes());
    parts.part(seal.signer.as_deref().unwrap_or_default().as_bytes());
    parts.end()
}

/// A hash as seals hold it.
#[must_use]
pub fn hex(hash: &Digest) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same seal, signed.
#[must_use]
pub fn signed(seal: Seal, key: &SigningKey) -> Seal {
    let mut seal = Seal { signer: Some(key::text(key.verifying_key().as_bytes())), ..seal };
    seal.signature = Some(key::text(&key.sign(&hash(&seal)).to_bytes()));
    seal
}

/// What a signature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// There is none.
    Not,
    /// It is that of the key which the seal names.
    By(Box<VerifyingKey>),
    /// It is that of no key, or of another one.
    Wrong,
}

/// Whose signature a seal has.
#[must_use]
pub fn signature(seal: &Seal) -> Signed {
    let (Some(signer), Some(signature)) = (&seal.signer, &seal.signature) else {
        return if seal.signer.is_none() && seal.signature.is_none() { Signed::Not } else { Signed::Wrong };
    };
    let signature = STANDARD.decode(signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
    match (key::public(signer), signature) {
        (Ok(key), Some(signature)) if key.verify_strict(&hash(seal), &signature).is_ok() => {
            Signed::By(Box::new(key))
        }
        _ => Signed::Wrong,
    }
}

/// Whether it is whole in itself: as many digests as entries.
#[must_use]
pub fn is_whole(seal: &Seal) -> bool {
    let entries = seal.last.checked_sub(seal.first).and_then(|between| between.checked_add(1));
    seal.number > 0
        && seal.first > 0
        && entries.and_then(|entries| usize::try_from(entries).ok()?.checked_mul(DIGEST_BYTES))
            == Some(seal.digests.len())
}

/// The digest of an entry of its block.
#[must_use]
pub fn digest_of(seal: &Seal, sequence: u64) -> Option<&[u8]> {
    let at = usize::try_from(sequence.checked_sub(seal.first)?).ok()?.checked_mul(DIGEST_BYTES)?;
    seal.digests.get(at..at.checked_add(DIGEST_BYTES)?)
}

#[cfg(test)]
mod tests {
    use keelson_schemas::message::Message;

    use super::*;

    #[test]
    fn a_hash_is_the_same_for_ever() {
        assert_eq!(
            hex(&hash(&Seal::example())),
            "50833a9a8870dd9a930a1cb935f23a01fd4c9f1d11a943525c2eeb5fbc8e3b32"
        );
    }

    #[test]
    fn only_the_key_itself_signs() {
        let key = key::generate();
        let seal = signed(Seal::example(), &key);
        assert_eq!(signature(&seal), Signed::By(Box::new(key.verifying_key())));
        let changed = |change: fn(&mut Seal)| {
            let mut seal = seal.clone();
            change(&mut seal);
            signature(&seal)
        };
        assert_eq!(changed(|seal| seal.last += 1), Signed::Wrong);
        assert_eq!(changed(|seal| seal.previous = None), Signed::Wrong);
        assert_eq!(changed(|seal| seal.digests = [0; 64].to_vec().into()), Signed::Wrong);
        assert_eq!(changed(|seal| seal.signature = None), Signed::Wrong);
        assert_eq!(changed(|seal| seal.signer = Seal::example().signer), Signed::Wrong);
        assert_eq!(changed(|seal| (seal.signer, seal.signature) = (None, None)), Signed::Not);
    }

    #[test]
    fn a_seal_without_a_digest_for_each_entry_is_none() {
        let seal = Seal::example();
        assert!(is_whole(&seal));
        for (first, last) in [(4, 6), (5, 5), (5, 4), (0, 1), (0, u64::MAX)] {
            assert!(!is_whole(&Seal { first, last, ..seal.clone() }), "{first} {last}");
        }
        assert_eq!(digest_of(&seal, 5).map(<[u8]>::len), Some(DIGEST_BYTES));
        assert_eq!((digest_of(&seal, 3), digest_of(&seal, 6)), (None, None));
    }
}
