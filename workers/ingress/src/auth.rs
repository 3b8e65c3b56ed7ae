//! Who is calling, and what that allows. Pure: a header, the tokens and the time in, a caller or a refusal out.

use keelson_kit::config::{Scope, Token, TokenHash};
use subtle::ConstantTimeEq;

use crate::problem::{Kind, Problem};

/// The principal of whoever sent no token.
pub const ANONYMOUS: &str = "anonymous";

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Public,
    /// The read scope; nothing when bound to loopback.
    Read,
    /// The telemetry scope; nothing when bound to loopback, so that any OpenTelemetry SDK works out of the box there.
    Telemetry,
    /// The admin scope, always.
    Admin,
}

/// Whoever sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's id, or [`ANONYMOUS`].
    pub principal: String,
    scopes: Vec<Scope>,
}

/// The tokens that open the doors.
#[derive(Debug)]
pub struct Keys {
    tokens: Vec<Token>,
    open_to_this_machine: bool,
}

impl Keys {
    /// The tokens, and whether HTTP is bound to loopback, where reading and telemetry need none.
    #[must_use]
    pub fn new(tokens: Vec<Token>, loopback: bool) -> Self {
        Self { tokens, open_to_this_machine: loopback }
    }

    /// Everyone who can be told apart, [`ANONYMOUS`] included.
    pub fn principals(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().map(|token| token.id.as_str()).chain([ANONYMOUS])
    }

    /// The caller behind an `Authorization` header.
    ///
    /// # Errors
    /// 401 for a header that names no valid token; no header at all is an anonymous caller.
    pub fn identify(&self, authorization: Option<&[u8]>, now_ms: u64) -> Result<Caller, Problem> {
        let Some(header) = authorization else {
            return Ok(self.caller(ANONYMOUS, &[]));
        };
        let bearer = std::str::from_utf8(header).ok().and_then(bearer).ok_or_else(|| {
            Problem::new(Kind::Unauthenticated, "the Authorization header must be `Bearer` and a token")
        })?;
        let token = self.find(bearer).ok_or_else(|| {
            Problem::new(Kind::Unauthenticated, "this token is not known here; `keelson token` makes one")
        })?;
        if has_expired(token, now_ms) {
            return Err(Problem::new(Kind::Unauthenticated, format!("the token {:?} has expired", token.id)));
        }
        Ok(self.caller(&token.id, &token.scopes))
    }

    /// Looks at every token and all of its hash, so that the time taken tells nothing.
    fn find(&self, bearer: &str) -> Option<&Token> {
        let hash = TokenHash::of(bearer);
        let same = |token: &Token| bool::from(token.sha256.0.ct_eq(&hash.0));
        self.tokens.iter().fold(None, |found, token| if same(token) { Some(token) } else { found })
    }

    fn caller(&self, principal: &str, scopes: &[Scope]) -> Caller {
        let open = [Scope::Read, Scope::Telemetry];
        let open = open.iter().filter(|_| self.open_to_this_machine);
        Caller { principal: principal.to_owned(), scopes: scopes.iter().chain(open).copied().collect() }
    }
}

impl Caller {
    /// Whether the caller may do what asks for `access`.
    ///
    /// # Errors
    /// 401 where a token would help, 403 where another one is needed.
    pub fn may(&self, access: Access) -> Result<(), Problem> {
        let needed = match access {
            Access::Public => return Ok(()),
            Access::Read => Scope::Read,
            Access::Telemetry => Scope::Telemetry,
            Access::Admin => Scope::Admin,
        };
        if self.scopes.iter().any(|scope| *scope == needed || *scope == Scope::Admin) {
            return Ok(());
        }
        let word = format!("{needed:?}").to_lowercase();
        Err(if self.principal == ANONYMOUS {
            let detail = format!(
                "send `Authorization: Bearer` and a token with the {word} scope; `keelson token` makes one"
            );
            Problem::new(Kind::Unauthenticated, detail)
        } else {
            let detail = format!("the token {:?} lacks the {word} scope", self.principal);
            Problem::new(Kind::Forbidden, detail)
        })
    }
}

/// The token of a `Bearer` header; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn has_expired(token: &Token, now_ms: u64) -> bool {
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    token.expires.is_some_and(|expires| now_ms >= expires.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_764_000_000_000;

    fn token(id: &str, secret: &str, scopes: &[Scope], expires_ms: Option<i64>) -> Token {
        let expires = expires_ms.map(|ms| jiff::Timestamp::from_millisecond(ms).expect("a time"));
        Token { id: id.into(), sha256: TokenHash::of(secret), scopes: scopes.to_vec(), expires }
    }

    fn keys(loopback: bool) -> Keys {
        let now = NOW_MS as i64;
        let tokens = vec![
            token("root", "secret-a", &[Scope::Admin], Some(now + 1)),
            token("grafana", "secret-r", &[Scope::Read], None),
            token("apps", "secret-t", &[Scope::Telemetry], None),
            token("past", "secret-p", &[Scope::Admin], Some(now)),
        ];
        Keys::new(tokens, loopback)
    }

    /// The status for each access, 200 being "go on".
    fn statuses(loopback: bool, header: Option<&str>) -> [u16; 4] {
        let caller = keys(loopback).identify(header.map(str::as_bytes), NOW_MS);
        [Access::Public, Access::Read, Access::Telemetry, Access::Admin].map(|access| {
            let allowed = caller.clone().and_then(|caller| caller.may(access));
            allowed.map_or_else(|problem| problem.status().as_u16(), |()| 200)
        })
    }

    #[test]
    fn who_may_do_what() {
        let cases = [
            // header                        to the world          on loopback
            (None, [200, 401, 401, 401], [200, 200, 200, 401]),
            (Some("Bearer secret-a"), [200, 200, 200, 200], [200, 200, 200, 200]),
            (Some("bearer  secret-a "), [200, 200, 200, 200], [200, 200, 200, 200]),
            (Some("Bearer secret-r"), [200, 200, 403, 403], [200, 200, 200, 403]),
            (Some("Bearer secret-t"), [200, 403, 200, 403], [200, 200, 200, 403]),
            (Some("Bearer secret-p"), [401; 4], [401; 4]),
            (Some("Bearer secret"), [401; 4], [401; 4]),
            (Some("Bearer "), [401; 4], [401; 4]),
            (Some("Basic secret-a"), [401; 4], [401; 4]),
            (Some("secret-a"), [401; 4], [401; 4]),
            (Some(""), [401; 4], [401; 4]),
        ];
        for (header, world, loopback) in cases {
            assert_eq!(statuses(false, header), world, "{header:?} to the world");
            assert_eq!(statuses(true, header), loopback, "{header:?} on loopback");
        }
    }

    #[test]
    fn a_header_that_is_no_text_is_refused() {
        assert!(keys(true).identify(Some(b"Bearer \xff"), NOW_MS).is_err());
    }
}
