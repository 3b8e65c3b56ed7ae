//! What each provider takes, as data with its source.

use crate::selector::Kind;

/// What a provider takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// URLs.
    pub url: Option<PerCall>,
    /// Tags.
    pub tag: Option<PerCall>,
    /// Prefixes.
    pub prefix: Option<PerCall>,
    /// Everything.
    pub all: Option<PerCall>,
    /// Calls that may be under way at once.
    pub calls_at_once: usize,
}

/// What one call takes of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerCall {
    /// How many.
    pub items: usize,
    /// How long they may be together, with one byte between them.
    pub bytes: usize,
    /// Whether they can be purged softly. If not, a soft purge is done as a hard one: readers wait longer and see nothing old.
    pub soft: bool,
}

impl Limits {
    /// What a call takes of a kind; none when the provider knows nothing of it.
    #[must_use]
    pub fn of(&self, kind: Kind) -> Option<PerCall> {
        match kind {
            Kind::Url => self.url,
            Kind::Tag => self.tag,
            Kind::Prefix => self.prefix,
            Kind::All => self.all,
        }
    }
}

const fn one(soft: bool) -> Option<PerCall> {
    Some(PerCall { items: 1, bytes: usize::MAX, soft })
}

/// Varnish with compose/varnish/keelson.vcl. A header line may have 8 kB (`http_req_hdr_len` in varnishd's manual); half of it leaves room for sites
/// that have lowered it. PURGE is about one URL, BAN about one expression, and a ban has no soft form. Calls at once are well below the
/// hundreds of threads that varnishd starts with.
pub const VARNISH: Limits = Limits {
    url: one(true),
    tag: Some(PerCall { items: 256, bytes: 4_000, soft: true }),
    prefix: one(false),
    all: one(false),
    calls_at_once: 32,
};
