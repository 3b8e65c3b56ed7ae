//! What each provider takes, as data with its source.

use std::time::Duration;

use crate::budget::Rate;
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
    /// How many of them with what was sent before, while there is something new: fewer where they take from what the new ones need.
    pub again_at_once: usize,
    /// Whether a call is to be made once only, since each is paid for: it is recorded before, and asked for again under the same name.
    pub once: bool,
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
    /// How often; none when the provider says nothing of it.
    pub rate: Option<Rate>,
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

    /// What it takes of every kind.
    pub fn kinds(&self) -> impl Iterator<Item = PerCall> {
        [self.url, self.tag, self.prefix, self.all].into_iter().flatten()
    }

    /// The same without regard to how often and how many at once: only in tests that show why there are limits.
    #[must_use]
    pub fn unmetered(self) -> Self {
        let unmetered = |limit: Option<PerCall>| limit.map(|limit| PerCall { rate: None, ..limit });
        Self {
            url: unmetered(self.url),
            tag: unmetered(self.tag),
            prefix: unmetered(self.prefix),
            all: unmetered(self.all),
            calls_at_once: usize::MAX,
            again_at_once: usize::MAX,
            once: self.once,
        }
    }
}

const fn one(soft: bool) -> PerCall {
    PerCall { items: 1, bytes: usize::MAX, soft, rate: None }
}

/// Varnish with compose/varnish/keelson.vcl. A header line may have 8 kB (`http_req_hdr_len` in varnishd's manual); half of it leaves room for sites
/// that have lowered it. PURGE is about one URL and as many more as Varnish allows restarts (`max_restarts`), BAN about one expression, and a ban has no soft form. Calls at once are well below the
/// hundreds of threads that varnishd starts with, and rebounds leave the machine's cores to what is new.
pub const VARNISH: Limits = Limits {
    url: Some(PerCall { items: 5, bytes: 4_000, soft: true, rate: None }),
    tag: Some(PerCall { items: 256, bytes: 4_000, soft: true, rate: None }),
    prefix: Some(one(false)),
    all: Some(one(false)),
    calls_at_once: 32,
    again_at_once: 4,
    once: false,
};

/// A plan at Cloudflare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CloudflarePlan {
    /// Free.
    #[default]
    Free,
    /// Pro.
    Pro,
    /// Business.
    Business,
    /// Enterprise.
    Enterprise,
}

/// Cloudflare: developers.cloudflare.com/cache/how-to/purge-cache, "Availability and limits". By URL so many a second, by a moving average: the bucket holds
/// one call, and that much less comes back in a second, so that no second sees more. By tag, prefix or everything a token bucket of calls; a
/// prefix counts once for each host. There is nothing soft.
#[must_use]
pub fn cloudflare(plan: CloudflarePlan, hosts: usize) -> Limits {
    let (urls_a_second, urls, burst, every) = match plan {
        CloudflarePlan::Free => (800, 100, 25, Duration::from_secs(12)),
        CloudflarePlan::Pro => (1_500, 100, 25, Duration::from_millis(200)),
        CloudflarePlan::Business => (1_500, 100, 50, Duration::from_millis(100)),
        CloudflarePlan::Enterprise => (3_000, 500, 500, Duration::from_millis(20)),
    };
    let per_url = Duration::from_secs(1) / (urls_a_second - urls);
    let of_urls = Rate { bucket: 0, burst: urls, every: per_url, each: true };
    let calls = Rate { bucket: 1, burst, every, each: false };
    let up_to =
        |items: usize, rate: Rate| Some(PerCall { items, bytes: usize::MAX, soft: false, rate: Some(rate) });
    Limits {
        url: up_to(urls as usize, of_urls),
        tag: up_to(100, calls),
        prefix: up_to((100 / hosts.max(1)).max(1), calls),
        all: up_to(1, calls),
        calls_at_once: 4,
        again_at_once: 4,
        once: false,
    }
}

/// CloudFront: docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide, "Concurrent invalidation request maximum". Of one distribution 3,000 paths and, beside them, 15
/// wildcards may be in progress; a call here lasts until its invalidation is completed, so that three calls never exceed either. There are no
/// tags, and nothing is soft. Each path is paid for; asked for again under the same reference, it is the same invalidation.
pub const CLOUDFRONT: Limits = {
    const fn up_to(items: usize) -> Option<PerCall> {
        // As much as a record of the call may hold.
        Some(PerCall { items, bytes: 400_000, soft: false, rate: None })
    }
    Limits {
        url: up_to(1_000),
        tag: None,
        prefix: up_to(5),
        all: up_to(1),
        calls_at_once: 3,
        again_at_once: 3,
        once: true,
    }
};

/// Fastly: www.fastly.com/documentation/reference/api/purging and "Resource limits". 256 surrogate keys a call; an average of 100,000 purges an hour, which half
/// at once and half over the hour never exceeds. There are no prefixes, and everything is never purged softly.
pub const FASTLY: Limits = {
    let rate = Some(Rate { bucket: 0, burst: 50_000, every: Duration::from_millis(72), each: true });
    Limits {
        url: Some(PerCall { items: 1, bytes: usize::MAX, soft: true, rate }),
        tag: Some(PerCall { items: 256, bytes: usize::MAX, soft: true, rate }),
        prefix: None,
        all: Some(one(false)),
        calls_at_once: 16,
        again_at_once: 16,
        once: false,
    }
};
