//! What a verification found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Findings that are kept; those of the lowest sequences. All are counted.
const MOST: usize = 100;

/// Something that is not as it was sealed, or as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum Finding {
    /// An entry is not what was sealed: changed, moved, or put in the place of another.
    Changed {
        /// The entry.
        sequence: u64,
        /// The seal that says otherwise.
        seal: u64,
    },
    /// Entries are not there, though those before and after them are, or a seal covers them.
    Missing {
        /// The first of them.
        sequence: u64,
        /// The last.
        last: u64,
    },
    /// Entries at the beginning are not there, though they are neither too old to be kept nor too many.
    BeginningGone {
        /// The first of them that is known to have been there.
        sequence: u64,
        /// The last.
        last: u64,
    },
    /// Seals are not there.
    SealsMissing {
        /// The next seal that is there.
        sequence: u64,
        /// The first of them.
        first: u64,
        /// The last.
        last: u64,
    },
    /// What stands among the seals is none that belongs there.
    NoSeal {
        /// Where it stands; in EVENTS, where AUDIT does not have it yet.
        sequence: u64,
        /// Why.
        reason: String,
    },
    /// Entries that were passed over by the seals.
    Unsealed {
        /// The first of them.
        sequence: u64,
        /// The last.
        last: u64,
    },
    /// Keys are trusted, and none of them has signed anything.
    Unsigned {
        /// The last entry that is sealed without a signature that counts.
        sequence: u64,
    },
}

impl Finding {
    /// The entry to look at.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        match self {
            Self::Changed { sequence, .. }
            | Self::Missing { sequence, .. }
            | Self::BeginningGone { sequence, .. }
            | Self::SealsMissing { sequence, .. }
            | Self::NoSeal { sequence, .. }
            | Self::Unsealed { sequence, .. }
            | Self::Unsigned { sequence } => *sequence,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { sequence, seal } => {
                write!(
                    f,
                    "entry {sequence} is not what seal {seal} says it was: it was changed, or another stands in its place"
                )
            }
            Self::Missing { sequence, last } if sequence == last => {
                write!(f, "entry {sequence} is missing")
            }
            Self::Missing { sequence, last } => write!(f, "entries {sequence} to {last} are missing"),
            Self::BeginningGone { sequence, last } => write!(
                f,
                "entries {sequence} to {last} are gone from the beginning, though neither age nor size explains it"
            ),
            Self::SealsMissing { sequence, first, last } => write!(
                f,
                "seals {first} to {last} are missing before entry {sequence}: what they covered is not proven"
            ),
            Self::NoSeal { sequence, reason } => {
                write!(
                    f,
                    "entry {sequence} says that it is a seal, and does not belong to the chain: {reason}"
                )
            }
            Self::Unsealed { sequence, last } => {
                write!(f, "entries {sequence} to {last} are in no seal, though later ones are")
            }
            Self::Unsigned { sequence } => {
                write!(
                    f,
                    "no seal is signed by a key that is trusted; what is sealed up to entry {sequence} can have been sealed anew by anybody who may write the bus"
                )
            }
        }
    }
}

/// What was looked at, and what is wrong with it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Entries that are there.
    pub entries: u64,
    /// The first of them; 0 without any.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// The last entry that a seal covers.
    pub sealed_through: u64,
    /// Entries behind it, which nothing proves yet.
    pub unsealed: u64,
    /// When the oldest of these was stored, Unix milliseconds.
    pub unsealed_since_ms: Option<u64>,
    /// Seals that belong to the chain.
    pub seals: u64,
    /// The last seal's hash: keep it elsewhere, and nobody can put another chain in place of this one.
    pub head: Option<String>,
    /// Seals by the key that signed them; those without a signature by an empty text.
    pub signers: BTreeMap<String, u64>,
    /// Whether keys were given to be trusted.
    pub is_trusted: bool,
    /// What is wrong, by sequence.
    pub findings: Vec<Finding>,
    /// How much is wrong in all.
    pub wrong: u64,
}

impl Report {
    pub(crate) fn found(&mut self, finding: Finding) {
        self.wrong += 1;
        let at = self.findings.partition_point(|known| known.sequence() <= finding.sequence());
        if at < MOST {
            self.findings.insert(at, finding);
            self.findings.truncate(MOST);
        }
    }

    /// Whether everything is as it was sealed.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.wrong == 0
    }
}
