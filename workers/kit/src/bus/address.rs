//! NATS_URL: addresses, and the credentials that may be written into them (which the client library does not read itself).

use async_nats::{ConnectOptions, ServerAddr};

use super::ConnectError;

/// The comma-separated addresses in `url`.
pub(super) fn parse(url: &str) -> Result<Vec<ServerAddr>, ConnectError> {
    url.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(parse_one)
        .collect::<Result<Vec<_>, _>>()
        .and_then(|servers| {
            let none = || ConnectError::Address { address: without_user(url), reason: "it is empty".into() };
            if servers.is_empty() { Err(none()) } else { Ok(servers) }
        })
}

fn parse_one(address: &str) -> Result<ServerAddr, ConnectError> {
    address.parse().map_err(|error: std::io::Error| ConnectError::Address {
        address: without_user(address),
        reason: error.to_string(),
    })
}

/// The addresses as they may be shown.
pub(super) fn shown(servers: &[ServerAddr]) -> String {
    servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect::<Vec<_>>().join(",")
}

/// `user:password@` or `token@` of the first address that has one. The library's options hold one set for all servers.
pub(super) fn authentication(servers: &[ServerAddr]) -> ConnectOptions {
    let written = servers.iter().find_map(|server| Some((server.username()?, server.password())));
    match written {
        Some((user, Some(password))) => {
            ConnectOptions::with_user_and_password(decoded(user), decoded(password))
        }
        Some((token, None)) => ConnectOptions::with_token(decoded(token)),
        None => ConnectOptions::new(),
    }
}

/// Undoes percent-encoding; what is not valid UTF-8 after it is taken as it stands.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.get(..2)).flatten().and_then(hex_byte);
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn without_user(address: &str) -> String {
    match (address.find("://"), address.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}{}", &address[..scheme + 3], &address[at + 1..])
        }
        (None, Some(at)) => address[at + 1..].to_owned(),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_their_secrets() {
        let cases = [
            ("nats://127.0.0.1:4222", "127.0.0.1:4222"),
            ("nats://u:p@h:1, h2", "h:1,h2:4222"),
            ("127.0.0.1:4333", "127.0.0.1:4333"),
        ];
        for (url, expected) in cases {
            assert_eq!(shown(&parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_secrets() {
        for url in ["", " , ", "http://u:secret@h:1", "nats://u:secret@[::1"] {
            let said = parse(url).unwrap_err().to_string();
            assert!(!said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn escapes_are_undone() {
        let cases =
            [("p%40ss", "p@ss"), ("plain", "plain"), ("100%", "100%"), ("%zz", "%zz"), ("%ff", "%ff")];
        for (written, meant) in cases {
            assert_eq!(decoded(written), meant);
        }
    }
}
