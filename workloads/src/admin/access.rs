//! Who may change something by the admin pages.
//!
//! On loopback whoever has got onto the host may, unless a token is set; elsewhere nobody may without
//! one. A page of a browser's never may: it posts without being asked, and cannot hide that it does.

use std::fmt;
use std::net::SocketAddr;

use hyper::header::{AUTHORIZATION, HeaderMap, ORIGIN};

/// The longest token: more than any that is drawn at random.
const TOKEN_BYTES_MAX: usize = 256;
/// What stands before the token in its header, in whatever case (RFC 9110, section 11.1).
const SCHEME: &[u8] = b"bearer ";

/// What whoever changes something by guarded pages must know.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<[u8]>);

impl Token {
    /// What a token must be, to follow its name.
    pub const RULE: &str = "must be 1 to 256 visible ASCII characters";

    /// Takes a token; `None` for what is not by [`Token::RULE`].
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_right = (1..=TOKEN_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_right.then(|| Self(text.as_bytes().into()))
    }

    /// Takes as long for any text of this length, so that the time tells nothing of the token.
    fn is(&self, said: &[u8]) -> bool {
        let differing =
            self.0.iter().zip(said).fold(0, |bits, (ours, theirs)| bits | ours ^ theirs);
        self.0.len() == said.len() && differing == 0
    }
}

/// A secret stands in no log.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Whose changes are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody's: they are on this host.
    Loopback,
    Nobody,
    /// Theirs who know the token.
    Bearer(Token),
}

impl Access {
    /// Without a token.
    pub(super) fn at(address: SocketAddr) -> Self {
        if address.ip().is_loopback() { Self::Loopback } else { Self::Nobody }
    }

    /// Tells in words why a change is refused, and what helps.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        if headers.contains_key(ORIGIN) {
            return Err("a page of a browser's may change nothing: ask without an origin");
        }
        match self {
            Self::Loopback => Ok(()),
            Self::Nobody => {
                Err("these pages are not on loopback: start the server with a token in \
                                 FOREBAY_ADMIN_TOKEN, and send it as `authorization: bearer TOKEN`")
            }
            Self::Bearer(token) if said(headers).is_some_and(|said| token.is(said)) => Ok(()),
            Self::Bearer(_) => Err("send the server's token as `authorization: bearer TOKEN`"),
        }
    }
}

fn said(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, said) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(said)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_visible_and_not_shown() {
        for wrong in ["", "a b", "a\n", "\u{e9}", &"x".repeat(257)] {
            assert_eq!(Token::new(wrong), None, "{wrong:?}");
        }
        assert_eq!(format!("{:?}", Token::new("secret").unwrap()), "Token");
    }

    #[test]
    fn only_who_says_the_token_may_change_something() {
        let guarded = Access::Bearer(Token::new("secret").unwrap());
        for (said, is_let_in) in [
            (Some("bearer secret"), true),
            (Some("Bearer secret"), true),
            (Some("bearer secre"), false),
            (Some("bearer secrets"), false),
            (Some("bearer "), false),
            (Some("basic secret"), false),
            (Some("secret"), false),
            (None, false),
        ] {
            let value = said.map(|said| (AUTHORIZATION, HeaderValue::from_static(said)));
            let mut headers: HeaderMap = value.into_iter().collect();
            assert_eq!(guarded.check(&headers).is_ok(), is_let_in, "{said:?}");
            headers.insert(ORIGIN, HeaderValue::from_static("http://elsewhere"));
            assert!(guarded.check(&headers).is_err(), "{said:?} from a page");
        }
    }

    #[test]
    fn without_a_token_only_pages_on_loopback_change_something() {
        for (address, access) in [
            ("127.0.0.1:1", Access::Loopback),
            ("[::1]:1", Access::Loopback),
            ("0.0.0.0:1", Access::Nobody),
            ("10.0.0.1:1", Access::Nobody),
        ] {
            assert_eq!(Access::at(address.parse().unwrap()), access, "{address}");
        }
        assert!(Access::Loopback.check(&HeaderMap::new()).is_ok());
        let words = Access::Nobody.check(&HeaderMap::new()).unwrap_err();
        assert!(words.contains("FOREBAY_ADMIN_TOKEN"), "{words}");
    }
}
