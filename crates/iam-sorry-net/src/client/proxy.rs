//! The proxy on the way to https servers, and the servers that are reached without it.

use std::fmt;
use std::sync::Arc;

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use secrecy::{ExposeSecret, SecretString};

/// An HTTP proxy that tunnels (CONNECT: RFC 9110, section 9.3.6). It sees where a connection goes, and TLS.
#[derive(Clone)]
pub struct Proxy {
    matcher: Arc<Matcher>,
    speaks_tls: bool,
}

/// The text is not `http://[USER:PASSWORD@]HOST[:PORT]`, nor the same with https. It is not repeated, since it may hold a
/// password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no address of an HTTP proxy")]
pub struct InvalidProxy;

impl Proxy {
    /// `url` as in HTTPS_PROXY: `http://[USER:PASSWORD@]HOST[:PORT]`; without a scheme, http is meant. `no_proxy` as in
    /// NO_PROXY, by curl's rules: names (with all below them), addresses and ranges (`10.0.0.0/8`), separated by commas; `*`
    /// is every name, but no address.
    ///
    /// # Errors
    /// [`InvalidProxy`], also for a SOCKS proxy.
    pub fn new(url: &SecretString, no_proxy: Option<&str>) -> Result<Self, InvalidProxy> {
        let matcher =
            |no_proxy: &str| Matcher::builder().https(url.expose_secret()).no(no_proxy.to_owned()).build();
        // The matcher takes no notice of what it can't read, and then would let everything through without a proxy.
        let anywhere = Uri::from_static("https://host.invalid");
        let found = matcher("").intercept(&anywhere).ok_or(InvalidProxy)?;
        let speaks_tls = match found.uri().scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(InvalidProxy),
        };
        let authority = found.uri().authority().ok_or(InvalidProxy)?;
        // `http::Uri` takes any text for a port, and then knows of none.
        let odd_port = authority.port_u16().is_none() && !authority.as_str().ends_with(authority.host());
        if authority.host().is_empty() || odd_port {
            return Err(InvalidProxy);
        }
        Ok(Self { matcher: Arc::new(matcher(no_proxy.unwrap_or_default())), speaks_tls })
    }

    /// Whether the proxy itself is spoken to over TLS (`https://`).
    pub fn speaks_tls(&self) -> bool {
        self.speaks_tls
    }

    /// The proxy, unless `target` is reached without it.
    pub(super) fn on_the_way_to(&self, target: &Uri) -> Option<Intercept> {
        self.matcher.intercept(target)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(url: &str, no_proxy: Option<&str>) -> Result<Proxy, InvalidProxy> {
        Proxy::new(&url.into(), no_proxy)
    }

    #[test]
    fn an_address_that_is_none_of_a_proxy_is_an_error() {
        for url in [
            "",
            "http://",
            "http://me:hunter2@",
            "me:hunter2@:x",
            "socks5://127.0.0.1:1080",
            "ftp://proxy.example.org",
            "nonsense user:hunter2",
            "http://proxy.example.org:port",
        ] {
            assert!(proxy(url, None).is_err(), "{url}");
            assert!(proxy(url, Some("*")).is_err(), "{url}");
        }
        for (url, speaks_tls) in [
            ("http://proxy.example.org", false),
            ("proxy.example.org:3128", false),
            ("http://me:hunter2@proxy.example.org:3128/", false),
            ("http://[::1]:3128", false),
            ("https://proxy.example.org", true),
        ] {
            let proxy = proxy(url, None).unwrap();
            assert_eq!(proxy.speaks_tls(), speaks_tls, "{url}");
            assert!(!format!("{proxy:?}").contains("hunter2"));
        }
    }

    #[test]
    fn no_proxy_says_who_is_reached_without_it() {
        let used = |no_proxy: &str, target: &'static str| {
            let proxy = proxy("http://proxy.example.org:3128", Some(no_proxy)).unwrap();
            proxy.on_the_way_to(&Uri::from_static(target)).is_some()
        };
        let list = "example.com, .internal ,10.0.0.0/8,192.0.2.1,2001:db8::/32";
        for without in [
            "https://example.com",
            "https://keys.example.com:8443/path",
            "https://EXAMPLE.com",
            "https://a.internal",
            "https://10.255.0.1",
            "https://192.0.2.1:443",
            "https://[2001:db8::7]",
        ] {
            assert!(!used(list, without), "{without}");
            assert!(used("", without), "{without}");
        }
        for with in
            ["https://notexample.com", "https://example.com.evil.org", "https://11.0.0.1", "https://[::1]"]
        {
            assert!(used(list, with), "{with}");
        }
        assert!(!used("*", "https://example.com") && used("*", "https://192.0.2.1"));
        assert!(!used("", "http://example.com"), "plain http has no business with a proxy");
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_leads_somewhere(url in "((https?|socks5)://)?([a-z]{0,3}(:[a-z@]{0,3})?@)?[a-z0-9.:\\[\\]]{0,12}") {
            if let Ok(proxy) = proxy(&url, None) {
                let found = proxy.on_the_way_to(&Uri::from_static("https://example.com")).unwrap();
                proptest::prop_assert!(found.uri().host().is_some_and(|host| !host.is_empty()), "{url}");
            }
        }
    }
}
