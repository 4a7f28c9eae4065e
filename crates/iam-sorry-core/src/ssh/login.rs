//! What an SSH key signs to sign in at a department service, or to be registered there, and the origin that the signature
//! is bound to.
//!
//! The message is a few lines of text. The client writes the origin that it dialled itself, never what a server says, so
//! a signature that a relay in the middle obtains names the relay, and is worthless everywhere else. The namespace
//! keeps it apart from every other use of the key (sealed values, git, `ssh-keygen -Y sign`); signing in and registering
//! have one each, so that neither signature serves for the other.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::sshsig;

/// The SSHSIG namespace of sign-ins.
pub const NAMESPACE: &str = "login@iam-sorry";

/// The SSHSIG namespace of registrations.
pub const REGISTER_NAMESPACE: &str = "register-key@iam-sorry";

/// No real value of a challenge is longer.
const LONGEST: usize = 128;
/// No real name of a person, or `issuer/subject`, is longer.
const LONGEST_PERSON: usize = 512;
/// A host name's longest form (RFC 1035, section 2.3.4).
const LONGEST_HOST: usize = 253;

/// Where a service is reached, in one spelling: `https://host[:port]`, lower case, the scheme's own port left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    text: String,
    host: String,
    port: u16,
    https: bool,
}

/// The text names no origin that may be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrigin {
    /// Not `https://host[:port]`.
    #[error("'{0}' is no address of a service: expected https://HOST or https://HOST:PORT")]
    Form(String),
    /// Plain http to another machine: whoever is on the way could take the session.
    #[error("'{0}' is plain http: a service on another machine is reached over https only")]
    PlainHttp(String),
}

/// A challenge that holds what no service of ours sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the sign-in challenge is garbled (its {0})")]
pub struct InvalidChallenge(&'static str);

/// The message of a sign-in. `nonce`, `request` and `time` are the challenge's, byte for byte.
///
/// # Errors
/// [`InvalidChallenge`] where one of them could not have come from a service: empty, over 128 bytes, or with anything
/// but visible ASCII in it (a line break would put lines of a server's choice under the person's signature).
pub fn login_message(
    origin: &Origin,
    nonce: &str,
    request: &str,
    time: &str,
) -> Result<Vec<u8>, InvalidChallenge> {
    check_plain(nonce, request, time)?;
    Ok(format!("iam-sorry login v1\norigin: {origin}\nnonce: {nonce}\nrequest: {request}\ntime: {time}\n")
        .into_bytes())
}

/// The message of a registration, by which the key agrees to sign in `person` (`issuer/subject`), whose login name is
/// `name`. Whoever is asked to sign it reads for whom.
///
/// # Errors
/// [`InvalidChallenge`] as for [`login_message`], and for a person or name that is empty, over 512 bytes, or holds a
/// control character.
pub fn registration_message(
    origin: &Origin,
    (person, name): (&str, &str),
    nonce: &str,
    request: &str,
    time: &str,
) -> Result<Vec<u8>, InvalidChallenge> {
    check_plain(nonce, request, time)?;
    for (what, value) in [("person", person), ("name", name)] {
        if !(1..=LONGEST_PERSON).contains(&value.len()) || value.chars().any(breaks_a_line) {
            return Err(InvalidChallenge(what));
        }
    }
    Ok(format!(
        "iam-sorry register key v1\norigin: {origin}\nperson: {person}\nname: {name}\nnonce: {nonce}\nrequest: {request}\n\
         time: {time}\n"
    )
    .into_bytes())
}

fn check_plain(nonce: &str, request: &str, time: &str) -> Result<(), InvalidChallenge> {
    for (name, value) in [("nonce", nonce), ("request", request), ("time", time)] {
        let plain = (1..=LONGEST).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic());
        if !plain {
            return Err(InvalidChallenge(name));
        }
    }
    Ok(())
}

/// Also Unicode's own line breaks, and what turns the direction of the text: a person reads this before they sign.
fn breaks_a_line(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What the key signs for [`login_message`]: an SSHSIG blob (PROTOCOL.sshsig) in the namespace [`NAMESPACE`].
pub fn to_be_signed(message: &[u8]) -> Vec<u8> {
    sshsig::to_be_signed(NAMESPACE, message)
}

/// The same for [`registration_message`], in [`REGISTER_NAMESPACE`].
pub fn registration_to_be_signed(message: &[u8]) -> Vec<u8> {
    sshsig::to_be_signed(REGISTER_NAMESPACE, message)
}

impl Origin {
    /// Reads an origin as a person types it: case, the default port and one closing slash don't matter.
    ///
    /// # Errors
    /// [`InvalidOrigin`]; http is accepted for this machine's own addresses only.
    pub fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let shown = || text.chars().filter(|c| !c.is_control()).take(80).collect::<String>();
        let form = || InvalidOrigin::Form(shown());
        let lower = text.trim().to_ascii_lowercase();
        let (https, rest) = match (lower.strip_prefix("https://"), lower.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(form()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let default = if https { 443 } else { 80 };
        let port = match port {
            None => default,
            // `parse` alone would take `+443`.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(form)?
            }
            Some(_) => return Err(form()),
        };
        let host = Host::parse(host).ok_or_else(form)?;
        if !https && !host.is_loopback() {
            return Err(InvalidOrigin::PlainHttp(shown()));
        }
        let scheme = if https { "https" } else { "http" };
        let text = match port == default {
            true => format!("{scheme}://{host}"),
            false => format!("{scheme}://{host}:{port}"),
        };
        let host = match host {
            Host::V6(address) => address.to_string(),
            other => other.to_string(),
        };
        Ok(Self { text, host, port, https })
    }

    /// `https://host[:port]`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host to connect to and to check a certificate for: a name or an address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, also where it goes without saying.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is https; plain http is this machine's alone.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// What a `Host` header says: host and, where it is not the scheme's own, port.
    pub fn authority(&self) -> &str {
        self.text.split_once("://").map_or("", |(_, authority)| authority)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Origin {
    type Error = InvalidOrigin;

    fn try_from(text: String) -> Result<Self, InvalidOrigin> {
        Self::parse(&text)
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.text
    }
}

enum Host {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Name(String),
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            return inner.strip_suffix(']')?.parse().ok().map(Self::V6);
        }
        // `127.1` and `0x7f.1` are addresses to some resolvers and names to others (WHATWG URL, "ends in a number").
        let last = text.rsplit('.').next()?;
        if last.starts_with(|c: char| c.is_ascii_digit()) {
            return text.parse().ok().map(Self::V4);
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        (text.len() <= LONGEST_HOST && text.split('.').all(label)).then(|| Self::Name(text.to_owned()))
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::V4(address) => address.is_loopback(),
            Self::V6(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => write!(f, "[{address}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_origin_has_one_spelling() {
        for (typed, normal) in [
            ("https://Keys.Example.EDU", "https://keys.example.edu"),
            ("https://keys.example.edu/", "https://keys.example.edu"),
            ("https://keys.example.edu:443", "https://keys.example.edu"),
            (" HTTPS://keys.example.edu:8443/ ", "https://keys.example.edu:8443"),
            ("https://10.1.2.3", "https://10.1.2.3"),
            ("https://[2001:DB8:0::1]:443", "https://[2001:db8::1]"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://localhost:80", "http://localhost"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
        ] {
            let origin = Origin::parse(typed).unwrap();
            assert_eq!(origin.as_str(), normal);
            assert_eq!(Origin::parse(origin.as_str()).as_ref(), Ok(&origin));
        }
        let origin = Origin::parse("https://[2001:db8::1]:8443").unwrap();
        assert_eq!((origin.host(), origin.port()), ("2001:db8::1", 8443));
        assert_eq!(origin.authority(), "[2001:db8::1]:8443");
    }

    #[test]
    fn what_could_be_read_two_ways_is_no_origin() {
        for text in [
            "",
            "https://",
            "keys.example.edu",
            "ftp://keys.example.edu",
            "https://a@keys.example.edu",
            "https://keys.example.edu/path",
            "https://keys.example.edu//",
            "https://keys.example.edu?x",
            "https://keys.example.edu#x",
            "https://keys.example.edu:0",
            "https://keys.example.edu:+443",
            "https://keys.example.edu:65536",
            "https://keys.example.edu:",
            "https://keys..edu",
            "https://.edu",
            "https://keys.example.edu.",
            "https://kéys.edu",
            "https://keys%2eedu",
            "https://a\\b",
            "https://127.1",
            "https://0x7f.1",
            "https://010.0.0.1",
            "https://[::1",
            "https://::1",
            "https://a b",
            "https://a\nb",
        ] {
            assert!(matches!(Origin::parse(text), Err(InvalidOrigin::Form(_))), "{text:?}");
        }
        for text in ["http://keys.example.edu", "http://10.0.0.1", "http://localhost.example.edu"] {
            assert!(matches!(Origin::parse(text), Err(InvalidOrigin::PlainHttp(_))), "{text}");
        }
    }

    #[test]
    fn the_message_is_five_lines_and_a_server_adds_none() {
        let origin = Origin::parse("https://keys.example.edu").unwrap();
        let message = login_message(&origin, "bm9uY2U", "SHA256:abc", "2026-11-22T19:00:00Z").unwrap();
        assert_eq!(
            String::from_utf8(message).unwrap(),
            "iam-sorry login v1\norigin: https://keys.example.edu\nnonce: bm9uY2U\nrequest: SHA256:abc\n\
             time: 2026-11-22T19:00:00Z\n"
        );
        for bad in ["", "a\nb", "a b", "a\u{1b}", "é", &"x".repeat(129)] {
            assert!(login_message(&origin, bad, "r", "t").is_err(), "{bad:?}");
            assert!(login_message(&origin, "n", bad, "t").is_err(), "{bad:?}");
            assert!(login_message(&origin, "n", "r", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_registration_names_its_person_and_is_no_login() {
        let origin = Origin::parse("https://keys.example.edu").unwrap();
        let of = |person, name| {
            registration_message(&origin, (person, name), "bm9uY2U", "SHA256:abc", "2026-11-22")
        };
        assert_eq!(
            String::from_utf8(of("corp/5f0c", "alice").unwrap()).unwrap(),
            "iam-sorry register key v1\norigin: https://keys.example.edu\nperson: corp/5f0c\nname: alice\nnonce: bm9uY2U\n\
             request: SHA256:abc\ntime: 2026-11-22\n"
        );
        assert!(of("corp/5f0c", "Ålice Müller").is_ok());
        for bad in ["", "a\nb", "a\u{1b}", "a\u{2028}b", "a\u{202e}b", &"x".repeat(513)] {
            assert!(of(bad, "alice").is_err() && of("corp/5f0c", bad).is_err(), "{bad:?}");
        }
        assert_ne!(to_be_signed(b"m"), registration_to_be_signed(b"m"));
    }

    proptest::proptest! {
        #[test]
        fn a_normal_form_is_its_own_normal_form(text in "(https?://)?[a-zA-Z0-9.:\\[\\]@/%_-]{0,40}") {
            if let Ok(origin) = Origin::parse(&text) {
                proptest::prop_assert_eq!(Origin::parse(origin.as_str()), Ok(origin.clone()));
                proptest::prop_assert_eq!(origin.as_str().to_ascii_lowercase(), origin.as_str());
            }
        }
    }
}
