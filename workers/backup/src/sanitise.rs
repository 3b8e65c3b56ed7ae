//! Which settings a backup may have in plain words. Pure.
//!
//! A value is kept only where the name is known to be harmless, and nothing in the value itself looks like a secret: what is not known is
//! a secret. What is left out keeps its name and a fingerprint, so that a change shows.

use std::collections::HashSet;
use std::sync::LazyLock;

use keelson_schemas::backup::Redacted;
use regex::{Regex, RegexSet};

/// Names whose values are no secrets, as they are written in environments; `*` stands for anything.
const HARMLESS_VARIABLES: [&str; 40] = [
    "*_SERVICE_URL",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "CDN_DOMAIN",
    "CDN_PROVIDER",
    "CLOUDFLARE_ZONE_ID",
    "CLOUDFRONT_DISTRIBUTION_ID",
    "DATABASE_SHARDING",
    "FASTLY_SERVICE_ID",
    "HOME",
    "HOST",
    "HOSTNAME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "KEELSON_CONFIG",
    "KEELSON_DATA_DIR",
    "KEELSON_HTTP_ADDR",
    "KEELSON_NATS_SERVER",
    "KEELSON_URL",
    "LANG",
    "LC_*",
    "LOGNAME",
    "LOG_FORMAT",
    "LOG_LEVEL",
    "MONGODB_REPLICA_SET",
    "MONGODB_SHARD_HOSTS",
    "MONGODB_URI",
    "NATS_URL",
    "NODE_ENV",
    "NO_PROXY",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_SERVICE_NAME",
    "PATH",
    "PORT",
    "RESTIC_COMPRESSION",
    "RESTIC_REPOSITORY",
    "RUST_LOG",
    "TZ",
    "USER",
    "VARNISH_URLS",
];

/// Keys of keelson.toml whose values are no secrets, by their last part; numbers and booleans need not be named.
const HARMLESS_KEYS: [&str; 66] = [
    "addr",
    "alertmanager_url",
    "api_url",
    "by",
    "components",
    "data_dir",
    "description",
    "distribution_id",
    "domain",
    "drill_target",
    "edge",
    "email_to",
    "encodings",
    "endpoint",
    "env_files",
    "equal",
    "expires",
    "external_url",
    "files",
    "filter",
    "for",
    "format",
    "from",
    "full_every",
    "group_by",
    "group_interval",
    "group_wait",
    "health_interval",
    "health_path",
    "hosts",
    "keep_firing_for",
    "local_cache",
    "longest_fetch",
    "matchers",
    "mongodb_uri",
    "name",
    "no_data",
    "origin",
    "pagerduty_url",
    "plan",
    "providers",
    "rebound",
    "rebound_all",
    "receiver",
    "repeat_interval",
    "repository",
    "restic",
    "rule_files",
    "scopes",
    "server",
    "service_id",
    "service_name",
    "severity",
    "signal",
    "source",
    "spool",
    "steady",
    "summary",
    "timeout",
    "timezone",
    "type",
    "urls",
    "version_header",
    "where",
    "window",
    "zone_id",
];

/// Names that say of themselves that they are secrets, whatever else they say.
static SECRET_NAME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)passw|passwd|passphrase|\bpwd\b|_pwd|secret|token|credential|cookie|session|salt|private|signature|signing|bearer|auth(?:_|$)|api[-_]?key|access[-_]?key|routing[-_]?key|encryption|\bkey$|_key$|_pin$|^pin$|dsn$|connection[-_]?string|webhook",
    )
});

/// What known secrets look like. Sources: the providers' own documentation, GitHub's and gitleaks' published lists of formats.
static KNOWN_FORMATS: LazyLock<RegexSet> = LazyLock::new(|| {
    let patterns = [
        r"-----BEGIN",
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}",
        r"\bgh[pousr]_[A-Za-z0-9]{16,}",
        r"\bgithub_pat_",
        r"\bglpat-",
        r"\bxox[a-z]-",
        r"\b(?:sk|rk|pk|whsec)_(?:live|test)?_?[A-Za-z0-9]{8,}",
        r"\bsk-[A-Za-z0-9_-]{16,}",
        r"\bAIza[A-Za-z0-9_-]{20,}",
        r"\bya29\.",
        r"\bGOCSPX-",
        r"\bSG\.[A-Za-z0-9_-]{8,}\.",
        r"\beyJ[A-Za-z0-9_-]{8,}\.",
        r"(?i)hooks\.slack\.com/|discord(?:app)?\.com/api/webhooks|webhook\.office\.com",
        r"\bnpm_[A-Za-z0-9]{16,}",
        r"\bpypi-[A-Za-z0-9_-]{16,}",
        r"\bdckr_pat_",
        r"\bhf_[A-Za-z0-9]{16,}",
        r"\bshp(?:at|ca|pa|ss)_",
        r"\bdo[opr]_v1_",
        r"\bhv[sbr]\.[A-Za-z0-9_-]{8,}",
        r"\bkey-[0-9a-f]{16,}",
        r"\bS[UAONX][A-Z2-7]{54,}",
        r"AGE-SECRET-KEY-",
        r"PuTTY-User-Key-File",
        r"(?i)\b(?:bearer|basic|digest)\s+[A-Za-z0-9+/=._~-]{8,}",
        r"(?i)(?:passw(?:or)?d|pwd|secret|token|accountkey|sharedaccesskey|api_?key|sig(?:nature)?)\s*[=:]",
        r"\$(?:2[aby]|argon2[a-z]*|[156]|scrypt|pbkdf2[a-z0-9-]*)\$",
    ];
    RegexSet::new(patterns).unwrap_or_else(|error| unreachable!("the patterns are fixed: {error}"))
});

/// Runs of characters of which secrets are made, paths aside.
static RUN: LazyLock<Regex> = LazyLock::new(|| pattern(r"[A-Za-z0-9+_=~-]{20,}"));
/// The same with slashes: base64 has them.
static BASE64: LazyLock<Regex> = LazyLock::new(|| pattern(r"[A-Za-z0-9+/=]{28,}"));
/// An address with somebody's name in front of the host.
static USERINFO: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s]*@"));

/// What an address has whose password was not written as it should be, or one without a scheme.
static CREDENTIALS: LazyLock<Regex> = LazyLock::new(|| pattern(r"[^\s/:@]+:[^\s@]*@[^\s]"));
const REMOVED: &str = "<redacted>@";

const UNKNOWN: &str = "its name is not known to be harmless";
const BY_NAME: &str = "its name says that it is a secret";
const BY_FORMAT: &str = "it looks like a key or a token";
const BY_ENTROPY: &str = "it looks like something random";
const BY_CREDENTIALS: &str = "it has a name and a password in it";
const BY_LINES: &str = "it goes over several lines";
const BY_ADDRESS: &str = "a name and a password in an address were removed";

/// What may be kept, and with which key the rest is fingerprinted.
pub struct Sanitiser {
    /// Names beside the known ones, `*` for anything.
    allowed: Vec<String>,
    key: [u8; 32],
}

/// Which names are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Those of environments.
    Variables,
    /// Those of keelson.toml.
    Keys,
}

/// What becomes of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Its value, or what may be told of it.
    pub value: Option<String>,
    /// Why that is not all.
    pub redacted: Option<Redacted>,
}

impl Sanitiser {
    /// One that keeps these names, too.
    #[must_use]
    pub fn new(allowed: &[String], key: [u8; 32]) -> Self {
        Self { allowed: allowed.to_vec(), key }
    }

    /// What becomes of a setting.
    #[must_use]
    pub fn judge(&self, names: Names, name: &str, value: &str) -> Judged {
        let told = self.name(name);
        let reason = match names {
            _ if SECRET_NAME.is_match(name) => Some(BY_NAME),
            Names::Variables if value.contains('\n') => Some(BY_LINES),
            _ if !self.is_known(names, name) && !is_plain(names, value) => Some(UNKNOWN),
            _ => None,
        };
        let without = USERINFO.replace_all(value, "$scheme<redacted>@");
        let reason = reason.or_else(|| looks_secret(&without)).or_else(|| {
            let left = without.replace(REMOVED, "");
            CREDENTIALS.is_match(&left).then_some(BY_CREDENTIALS)
        });
        if let Some(reason) = reason {
            return Judged { value: None, redacted: Some(self.redacted(told, reason, value)) };
        }
        let removed = without != value;
        let redacted = removed.then(|| self.redacted(told, BY_ADDRESS, value));
        Judged { value: Some(without.into_owned()), redacted }
    }

    /// A name, unless it is a secret itself.
    #[must_use]
    pub fn name(&self, name: &str) -> String {
        if looks_secret(name).is_none() && !USERINFO.is_match(name) {
            return name.to_owned();
        }
        format!("<redacted {}>", self.fingerprint(name))
    }

    fn redacted(&self, name: String, reason: &str, value: &str) -> Redacted {
        Redacted { name, reason: reason.to_owned(), fingerprint: self.fingerprint(value) }
    }

    fn fingerprint(&self, value: &str) -> String {
        blake3::keyed_hash(&self.key, value.as_bytes()).to_hex()[..16].to_owned()
    }

    fn is_known(&self, names: Names, name: &str) -> bool {
        let known = match names {
            Names::Variables => HARMLESS_VARIABLES.iter().any(|known| fits(known, name)),
            Names::Keys => HARMLESS_KEYS.contains(&name.rsplit('.').next().unwrap_or_default()),
        };
        known || self.allowed.iter().any(|allowed| fits(allowed, name))
    }
}

/// In Keelson's own file nothing that is a number or a yes is a secret; an application's variable may be a PIN.
fn is_plain(names: Names, value: &str) -> bool {
    let yes_or_no = matches!(value, "true" | "false" | "");
    yes_or_no || (names == Names::Keys && value.parse::<f64>().is_ok() && value.len() <= 12)
}

/// What speaks against a value whatever its name is.
fn looks_secret(value: &str) -> Option<&'static str> {
    if KNOWN_FORMATS.is_match(value) {
        return Some(BY_FORMAT);
    }
    let random = RUN.find_iter(value).any(|run| is_random(run.as_str()))
        || BASE64.find_iter(value).any(|run| is_base64(run.as_str()));
    random.then_some(BY_ENTROPY)
}

/// Words repeat few letters and have no digits among them; names with a number at the end, such as hosts, are not that long.
fn is_random(run: &str) -> bool {
    let digits = run.bytes().filter(u8::is_ascii_digit).count();
    let letters = run.bytes().filter(u8::is_ascii_alphabetic).count();
    digits >= 2 && letters >= 2 && entropy(run) > 3.0
}

fn is_base64(run: &str) -> bool {
    let has = |is: fn(&u8) -> bool| run.bytes().any(|byte| is(&byte));
    has(u8::is_ascii_digit)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && entropy(run) > 4.0
}

/// Shannon's, in bits a character.
fn entropy(run: &str) -> f64 {
    let bytes: HashSet<u8> = run.bytes().collect();
    let total = run.len() as f64;
    let share = |byte: &u8| run.bytes().filter(|other| other == byte).count() as f64 / total;
    bytes.iter().map(share).map(|share| -share * share.log2()).sum()
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => {
            name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
        }
    }
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| unreachable!("the pattern is fixed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sanitiser() -> Sanitiser {
        Sanitiser::new(&["CLICK_*".to_owned()], [7; 32])
    }

    fn variable(name: &str, value: &str) -> Judged {
        sanitiser().judge(Names::Variables, name, value)
    }

    #[test]
    fn what_is_known_to_be_harmless_is_kept_and_nothing_else() {
        for (name, value) in [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/bin:/root/.nvm/versions/node/v20.11.1/bin"),
            ("CONTENT_SERVICE_URL", "http://content-01.internal.example.com:3001/v1"),
            ("CLICK_THEME", "dark"),
            ("MONGODB_SHARD_HOSTS", "mongo-1.example.com:27017,mongo-2.example.com:27017"),
            ("CLOUDFRONT_DISTRIBUTION_ID", "EDFDVBD6EXAMPLE"),
            ("RUST_LOG", "info,keelson_backup=debug"),
            ("WHATEVER", "true"),
        ] {
            let judged = variable(name, value);
            assert_eq!((judged.value.as_deref(), judged.redacted), (Some(value), None), "{name}");
        }
        for (name, value, why) in [
            ("WHATEVER", "harmless", UNKNOWN),
            ("WHATEVER", "1234", UNKNOWN),
            ("CLICK_SESSION_KEY", "dark", BY_NAME),
            ("DB_PASSWORD", "true", BY_NAME),
            ("PATH", "/usr/bin:ghp_16C7e42F292c6912E7710c838347Ae178B4a", BY_FORMAT),
            ("CLICK_THEME", "p8dK2mNq7xV4tR9wLz3B", BY_ENTROPY),
            ("CLICK_THEME", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", BY_ENTROPY),
        ] {
            let judged = variable(name, value);
            assert_eq!((judged.value, judged.redacted.unwrap().reason.as_str()), (None, why), "{name}");
        }
    }

    #[test]
    fn an_address_is_kept_without_who_uses_it() {
        for (value, kept) in [
            (
                "mongodb://ada:hunter2@a:27017,b/?replicaSet=rs0",
                "mongodb://<redacted>@a:27017,b/?replicaSet=rs0",
            ),
            ("mongodb://ada:hu%40nt@er2@a/", "mongodb://<redacted>@a/"),
            ("nats://s3cr@a:4222,nats://s3cr@b", "nats://<redacted>@a:4222,nats://<redacted>@b"),
        ] {
            let judged = variable("MONGODB_URI", value);
            let (told, redacted) = (judged.value.unwrap(), judged.redacted.unwrap());
            assert_eq!((told.as_str(), redacted.reason.as_str()), (kept, BY_ADDRESS));
            assert!(!told.contains("hunter2") && !told.contains("s3cr"), "{told}");
        }
        for value in [
            "mongodb://a/?x=1&password=b",
            "mongodb://ada:hun/ter2@a/",
            "nats://hun/ter2@a",
            "ada:hunter2@a:3306/click",
            "https://a.example/,https://ada:h#2@b.example/",
        ] {
            assert_eq!(variable("MONGODB_URI", value).value, None, "{value}");
        }
        let mail = sanitiser().judge(Names::Keys, "alerting.receivers.email_to", "ops@example.com");
        assert_eq!(mail.value.as_deref(), Some("ops@example.com"));
    }

    #[test]
    fn a_fingerprint_tells_the_same_from_another_and_needs_its_key() {
        let of = |sanitiser: &Sanitiser, value: &str| {
            sanitiser.judge(Names::Variables, "DB_PASSWORD", value).redacted.unwrap().fingerprint
        };
        let other = Sanitiser::new(&[], [8; 32]);
        assert_eq!(of(&sanitiser(), "a"), of(&sanitiser(), "a"));
        assert_ne!(of(&sanitiser(), "a"), of(&sanitiser(), "b"));
        assert_ne!(of(&sanitiser(), "a"), of(&other, "a"));
    }

    #[test]
    fn a_name_that_is_a_secret_is_not_told() {
        let judged = variable("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "1");
        assert!(judged.redacted.unwrap().name.starts_with("<redacted "));
        assert_eq!(sanitiser().name("OTEL_EXPORTER_OTLP_ENDPOINT"), "OTEL_EXPORTER_OTLP_ENDPOINT");
    }

    #[test]
    fn keys_of_the_file_are_known_by_their_last_part() {
        let judge = |name: &str, value: &str| sanitiser().judge(Names::Keys, name, value).value;
        assert_eq!(judge("http.addr", "127.0.0.1:8080").as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(judge("metrics.slow_query_ms", "100").as_deref(), Some("100"));
        for name in [
            "alerting.smtp.url",
            "backup.password",
            "alerting.receivers.webhook_url",
            "alerting.receivers.pagerduty_routing_key",
        ] {
            assert_eq!(judge(name, "x"), None, "{name}");
        }
    }
}
