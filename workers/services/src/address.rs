//! What may be connected to: services, and nothing that lies behind Keelson's back.
//!
//! Names say nothing about where they lead, so addresses are judged after resolution, and the address that was judged is the one connected to. A URL is read as
//! browsers do (WHATWG), so that `http://2852039166/`, `http://0251.0376.0251.0376/` and `http://[::ffff:169.254.169.254]/` are seen for what they are.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Whether services on this very machine may be connected to: where Keelson itself is bound to loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Whether loopback addresses are allowed.
    pub loopback: bool,
}

/// Where an instance is, parsed and of a kind that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `http://` or `https://`, to which paths are added.
    Http(Url),
    /// `tcp://host:port`
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// `nats://subject`
    Nats(String),
}

/// Longest URL of an instance, in bytes.
const MOST_URL_BYTES: usize = 512;
/// Metadata services of clouds that have an address which is not link-local: Oracle, Azure's wire server, Alibaba; and AWS over IPv6.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

impl Rules {
    /// Why an address is not connected to; none when it is.
    #[must_use]
    pub fn objection(self, address: IpAddr) -> Option<&'static str> {
        match address {
            IpAddr::V4(address) => self.objection_v4(address),
            IpAddr::V6(address) => match embedded(address) {
                Some(inner) => self.objection_v4(inner),
                None => self.objection_v6(address),
            },
        }
    }

    fn objection_v4(self, address: Ipv4Addr) -> Option<&'static str> {
        if METADATA_V4.contains(&address) {
            return Some("a metadata address");
        }
        if address.is_link_local() {
            return Some("a link-local or metadata address");
        }
        if address.is_loopback() {
            return (!self.loopback).then_some("a loopback address");
        }
        let nowhere = address.octets()[0] == 0 || address.octets()[0] >= 240 || address.is_multicast();
        nowhere.then_some("no address of a service")
    }

    fn objection_v6(self, address: Ipv6Addr) -> Option<&'static str> {
        if address == METADATA_V6 {
            return Some("a metadata address");
        }
        // The old site-local addresses are as near as link-local ones.
        if address.is_unicast_link_local() || address.segments()[0] & 0xffc0 == 0xfec0 {
            return Some("a link-local address");
        }
        if address.is_loopback() {
            return (!self.loopback).then_some("a loopback address");
        }
        (address.is_unspecified() || address.is_multicast()).then_some("no address of a service")
    }

    /// Reads where an instance is.
    ///
    /// # Errors
    /// What is wrong with it, beginning with the text itself.
    pub fn target(self, text: &str) -> Result<Target, String> {
        let wrong = |why: &str| format!("{:?} {why}", shown(text));
        if text.len() > MOST_URL_BYTES {
            return Err(wrong(&format!("has more than {MOST_URL_BYTES} bytes")));
        }
        let url = Url::parse(text).map_err(|error| wrong(&format!("is no URL: {error}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("has credentials in it, which would be shown to everybody"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("has a query or a fragment"));
        }
        let target = match url.scheme() {
            "http" | "https" => Target::Http(url.clone()),
            "tcp" => tcp(&url).ok_or_else(|| wrong("is not tcp://host:port"))?,
            "nats" => nats(&url)
                .ok_or_else(|| wrong("is not nats://subject, or one on which more is done than to answer"))?,
            _ => return Err(wrong("is none of http://, https://, tcp:// and nats://")),
        };
        match target.literal().and_then(|address| self.objection(address)) {
            Some(objection) => Err(wrong(&format!("is {objection}, and is not connected to"))),
            None => Ok(target),
        }
    }
}

impl Target {
    /// The address that it names, if that is one.
    fn literal(&self) -> Option<IpAddr> {
        match self {
            Self::Http(url) => match url.host()? {
                Host::Ipv4(address) => Some(address.into()),
                Host::Ipv6(address) => Some(address.into()),
                Host::Domain(_) => None,
            },
            Self::Tcp { host, .. } => host.trim_matches(['[', ']']).parse().ok(),
            Self::Nats(_) => None,
        }
    }

    /// The host and the port that are connected to; none for a subject.
    #[must_use]
    pub fn host(&self) -> Option<(&str, u16)> {
        match self {
            Self::Http(url) => Some((url.host_str()?.trim_matches(['[', ']']), url.port_or_known_default()?)),
            Self::Tcp { host, port } => Some((host.trim_matches(['[', ']']), *port)),
            Self::Nats(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(url.as_str().trim_end_matches('/')),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Nats(subject) => write!(f, "nats://{subject}"),
        }
    }
}

/// The IPv4 address inside an IPv6 one that leads there: mapped, compatible, NAT64, 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let parts = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match parts {
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(of(high, low)),
        [0, 0, 0, 0, 0xffff, 0, high, low] => Some(of(high, low)),
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

/// Hosts of schemes that browsers do not know are read as those of http, so that addresses in disguise are seen.
fn tcp(url: &Url) -> Option<Target> {
    let port = url.port()?;
    let known = Url::parse(&format!("http://{}:{port}", url.host_str()?)).ok()?;
    let is_bare = matches!(url.path(), "" | "/");
    is_bare.then(|| Some(Target::Tcp { host: known.host_str()?.to_owned(), port }))?
}

fn nats(url: &Url) -> Option<Target> {
    let subject = url.host_str()?;
    let fine = url.port().is_none()
        && matches!(url.path(), "" | "/")
        && subject.split('.').all(|token| !token.is_empty())
        && subject.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.$".contains(&byte));
    (fine && may_be_asked(subject)).then(|| Target::Nats(subject.to_owned()))
}

/// Whether to ask on a subject harms nobody: a question to JetStream or to Keelson could be a command.
fn may_be_asked(subject: &str) -> bool {
    let head = subject.split('.').next().unwrap_or_default();
    match head.strip_prefix('$') {
        Some(_) => subject.starts_with("$SRV.PING."),
        None => !head.starts_with("_INBOX") && (head != "keelson" || subject.starts_with("keelson.qry.")),
    }
}

/// A text from outside, cut to what is worth showing.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: Rules = Rules { loopback: true };
    const FAR: Rules = Rules { loopback: false };

    #[test]
    fn addresses_in_disguise_are_seen_for_what_they_are() {
        for text in [
            "http://169.254.169.254",
            "http://2852039166",
            "http://0xa9fea9fe",
            "http://0251.0376.0251.0376",
            "http://0xa9.0376.43518",
            "http://169.254.43518",
            "http://169.254.169.254.",
            "http://①⑥⑨.254.169.254",
            "http://%31%36%39.254.169.254",
            "https://[::ffff:169.254.169.254]",
            "http://[::ffff:a9fe:a9fe]",
            "http://[::169.254.169.254]",
            "http://[64:ff9b::169.254.169.254]",
            "http://[2002:a9fe:a9fe::1]",
            "http://[fe80::1]",
            "http://[fec0::1]",
            "http://[fd00:ec2::254]",
            "http://100.100.100.200",
            "http://192.0.0.192",
            "http://168.63.129.16",
            "http://0.0.0.0",
            "http://0",
            "http://[::]",
            "http://255.255.255.255",
            "http://224.0.0.1",
            "http://[ff02::1]",
            "tcp://169.254.169.254:80",
            "tcp://2852039166:80",
            "tcp://0251.0376.0251.0376:80",
            "tcp://[::ffff:169.254.169.254]:80",
        ] {
            for rules in [NEAR, FAR] {
                let refused = rules.target(text).unwrap_err();
                assert!(refused.contains("is not connected to"), "{text}: {refused}");
            }
        }
    }

    #[test]
    fn loopback_is_connected_to_only_from_loopback() {
        for text in [
            "http://127.0.0.1:5002",
            "http://2130706433",
            "http://0177.1",
            "http://127.1",
            "http://[::1]",
            "http://[::ffff:127.0.0.1]",
            "tcp://127.0.0.1:1",
        ] {
            assert!(NEAR.target(text).is_ok(), "{text}");
            assert!(FAR.target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_service_is_refused_by_name() {
        for text in [
            "",
            "content",
            "127.0.0.1:5002",
            "//127.0.0.1",
            "ftp://127.0.0.1",
            "file:///etc/passwd",
            "gopher://127.0.0.1:6379/_x",
            "unix:///run/x.sock",
            "http://ops:secret@127.0.0.1",
            "http://127.0.0.1/?a=b",
            "http://127.0.0.1/#a",
            "http://",
            "http://127.0.0.1:99999",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:80/path",
            "nats://",
            "nats://a..b",
            "nats://a.>",
            "nats://a.b:4222",
            "nats://$JS.API.STREAM.PURGE.AUDIT",
            "nats://$KV.services.service.a",
            "nats://$SRV.STATS",
            "nats://keelson.cmd.cdn.purge",
            "nats://keelson",
            "nats://_INBOX_ingress.1",
        ] {
            assert!(NEAR.target(text).is_err(), "{text}");
        }
        let long = format!("http://127.0.0.1/{}", "a".repeat(600));
        assert!(NEAR.target(&long).unwrap_err().len() < 200);
    }

    #[test]
    fn instances_have_one_name_however_they_are_written() {
        for (text, name) in [
            ("http://127.0.0.1:5002/", "http://127.0.0.1:5002"),
            ("HTTP://Content.Example:80", "http://content.example"),
            ("https://content.example/api/", "https://content.example/api"),
            ("tcp://Db.example:5432", "tcp://db.example:5432"),
            ("nats://keelson.qry.metrics.summary.4", "nats://keelson.qry.metrics.summary.4"),
            ("nats://$SRV.PING.search", "nats://$SRV.PING.search"),
        ] {
            assert_eq!(NEAR.target(text).unwrap().to_string(), name);
        }
    }

    #[test]
    fn private_networks_are_where_services_are() {
        for address in ["10.0.0.7", "172.16.3.4", "192.168.1.1", "fd12::7", "100.64.0.1", "8.8.8.8"] {
            assert_eq!(FAR.objection(address.parse().unwrap()), None, "{address}");
        }
    }
}
