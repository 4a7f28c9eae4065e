//! The pages' cookies: which there are, how they are named, read and set.
//!
//! Over TLS all are `__Host-` cookies (RFC 6265bis, 4.1.3.2): Secure, Path=/, no Domain, so no other host, not even a
//! subdomain, can plant one. On plain loopback, where browsers differ about Secure, they have plain names with the port
//! in them, because cookies don't tell ports apart and two services on one machine would end each other's sessions.
//!
//! `SameSite=Lax` rather than Strict: a link in a mail should find a person signed in, and a browser sign-in that comes
//! back from a provider must see its own cookie. Lax sends cookies along with navigations by GET alone, and a GET
//! changes nothing here; every POST is checked in [`super::forms`].

use http::{HeaderMap, HeaderValue, header};
use iam_sorry_core::ssh::login::Origin;

/// What a cookie is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// The session's token.
    Session,
    /// A random value that the sign-in form is bound to (login CSRF).
    Before,
    /// What was done by the form before the page that is shown next.
    Flash,
}

/// How this service names its cookies.
#[derive(Clone, Debug)]
pub struct Cookies {
    prefix: String,
    secure: bool,
}

impl Cookies {
    /// For a service at this origin.
    pub fn new(origin: &Origin) -> Self {
        match origin.is_https() {
            true => Self { prefix: "__Host-iam-sorry".into(), secure: true },
            false => Self { prefix: format!("iam-sorry-{}", origin.port()), secure: false },
        }
    }

    fn name(&self, cookie: Cookie) -> String {
        let suffix = match cookie {
            Cookie::Session => "",
            Cookie::Before => "-before",
            Cookie::Flash => "-note",
        };
        format!("{}{suffix}", self.prefix)
    }

    /// Its value in a request. Where there are two of one name (planted on loopback), neither is believed.
    pub fn read<'a>(&self, headers: &'a HeaderMap, cookie: Cookie) -> Option<&'a str> {
        let name = self.name(cookie);
        let mut values = headers
            .get_all(header::COOKIE)
            .into_iter()
            .filter_map(|header| header.to_str().ok())
            .flat_map(|header| header.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(found, _)| *found == name)
            .map(|(_, value)| value);
        let value = values.next()?;
        (values.next().is_none() && !value.is_empty()).then_some(value)
    }

    /// A header that sets it, for the browser's session or for `seconds`. None for values that no cookie can hold.
    pub fn set(&self, cookie: Cookie, value: &str, seconds: Option<u32>) -> Option<HeaderValue> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !value.bytes().all(allowed) || value.len() > 3800 {
            return None;
        }
        let secure = if self.secure { "; Secure" } else { "" };
        let age = seconds.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
        let text = format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{age}", self.name(cookie));
        let mut header = HeaderValue::try_from(text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// A header that takes it away.
    pub fn clear(&self, cookie: Cookie) -> Option<HeaderValue> {
        self.set(cookie, "", Some(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(origin: &str) -> Cookies {
        Cookies::new(&Origin::parse(origin).unwrap())
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|v| (header::COOKIE, HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn over_tls_a_cookie_has_the_host_prefix_and_all_it_needs() {
        let set = cookies("https://aws.example.edu").set(Cookie::Session, "iss_x", None).unwrap();
        assert_eq!(set, "__Host-iam-sorry=iss_x; Path=/; HttpOnly; SameSite=Lax; Secure");
        assert!(set.is_sensitive());
        let gone = cookies("http://127.0.0.1:8080").clear(Cookie::Flash).unwrap();
        assert_eq!(gone, "iam-sorry-8080-note=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    }

    #[test]
    fn a_value_that_would_end_the_header_is_none() {
        for bad in ["a;b", "a\r\nSet-Cookie: x=y", "a b", "ä"] {
            assert!(cookies("https://a.example").set(Cookie::Session, bad, None).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_cookie_that_is_there_twice_is_not_believed() {
        let ours = cookies("https://a.example");
        let read = |values: &[&str]| ours.read(&headers(values), Cookie::Session).map(str::to_owned);
        assert_eq!(read(&["x=1; __Host-iam-sorry=t; y=2"]).as_deref(), Some("t"));
        assert_eq!(read(&["x=1", "__Host-iam-sorry=t"]).as_deref(), Some("t"));
        assert_eq!(read(&["__Host-iam-sorry=t; __Host-iam-sorry=u"]), None);
        assert_eq!(read(&["__Host-iam-sorry=t", "__Host-iam-sorry=u"]), None);
        assert_eq!(read(&["__host-iam-sorry=t; iam-sorry-443=u; __Host-iam-sorry="]), None);
    }
}
