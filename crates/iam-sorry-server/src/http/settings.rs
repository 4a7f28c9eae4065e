//! How the service is reached: `[http]` in the configuration.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use iam_sorry_core::ssh::login::Origin;
use serde::Deserialize;

use super::address::AddressRange;

/// `[http]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// The address that people and programs use, `https://HOST[:PORT]`. Sign-in signatures are bound to it, and a request
    /// for any other host is refused (DNS rebinding).
    pub origin: Origin,
    /// Where to listen, `ADDRESS:PORT`.
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    /// Certificate and key; none behind a reverse proxy on the same machine.
    #[serde(default)]
    pub tls: Option<TlsSettings>,
    /// Reverse proxies, as addresses or ranges (`10.1.2.0/24`): only theirs are believed when they say whom a request
    /// came from.
    #[serde(default)]
    pub trusted_proxies: Vec<AddressRange>,
    /// Connections at once; more wait in the kernel's queue.
    #[serde(default = "max_connections")]
    pub max_connections: NonZeroU32,
    /// Connections at once from one address, trusted proxies aside; more are closed.
    #[serde(default = "max_connections_per_address")]
    pub max_connections_per_address: NonZeroU32,
    /// Seconds within which a request's head must be there, and then its body.
    #[serde(default = "ten_seconds")]
    pub read_seconds: NonZeroU32,
    /// Seconds without progress after which a client that does not take its answer is cut off.
    #[serde(default = "thirty_seconds")]
    pub write_seconds: NonZeroU32,
    /// Seconds after which a request is answered even though its action is still under way (it goes on).
    #[serde(default = "request_seconds")]
    pub request_seconds: NonZeroU32,
    /// Seconds that a stop waits for what is under way.
    #[serde(default = "stop_seconds")]
    pub stop_seconds: u32,
    /// Where Prometheus reads `/metrics`, plain HTTP; nowhere if absent. Never on `listen`, which everybody reaches.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// How many requests are too many.
    #[serde(default)]
    pub limits: LimitSettings,
}

/// `[http.tls]`: PEM files, read again on SIGHUP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate, then the intermediate ones.
    pub certificate: PathBuf,
    /// Its private key (PKCS#8, SEC1 or PKCS#1), readable by nobody else.
    pub key: PathBuf,
}

/// `[http.limits]`: requests a second that may go on for ever, and how many may come at once before that counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// A signed-in person, over all of their sessions.
    pub per_person: Rate,
    /// An address (IPv6: a /64), signed in or not.
    pub per_address: Rate,
    /// Attempts to sign in from an address.
    pub sign_in_per_address: Rate,
}

/// So many a second, after so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// A second, in the long run.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

impl Default for LimitSettings {
    fn default() -> Self {
        // A login node of a cluster is one address with many people and hundreds of jobs that start together.
        Self {
            per_person: Rate::new(50, 500),
            per_address: Rate::new(200, 2_000),
            sign_in_per_address: Rate::new(5, 100),
        }
    }
}

impl Rate {
    /// Zero becomes one: a limit that lets nothing through is no limit but a fault.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self { per_second: at_least_one(per_second), burst: at_least_one(burst) }
    }
}

/// Settings that can't be used, or not safely.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpSettingsError {
    /// Sessions and secrets would cross the network in the clear.
    #[error(
        "http.listen is {0}, which other machines reach, and there is no [http.tls].\nGive it certificate and key, or \
         listen on 127.0.0.1 behind a reverse proxy that speaks TLS."
    )]
    PlainToOthers(SocketAddr),
    /// The metrics' place is the service's.
    #[error(
        "http.metrics_listen and http.listen are the same address, {0}.\nGive the metrics a port of their own."
    )]
    SamePlace(SocketAddr),
    /// Anybody could say whom a request came from.
    #[error(
        "http.trusted_proxies has a range so wide that anybody is in it and could claim any address: addresses in rules, limits and the audit trail would mean nothing.\nName the addresses of your proxies, such as \"10.1.2.3\"."
    )]
    TrustsEverybody,
    /// TLS here, but people are told http.
    #[error("http.origin is {0}, but [http.tls] is set.\nWrite https:// in http.origin.")]
    TlsButHttp(String),
}

impl HttpSettings {
    /// With everything else as it is by default.
    pub fn new(origin: Origin, listen: SocketAddr) -> Self {
        Self {
            origin,
            listen,
            tls: None,
            trusted_proxies: Vec::new(),
            max_connections: max_connections(),
            max_connections_per_address: max_connections_per_address(),
            read_seconds: ten_seconds(),
            write_seconds: thirty_seconds(),
            request_seconds: request_seconds(),
            stop_seconds: stop_seconds(),
            metrics_listen: None,
            limits: LimitSettings::default(),
        }
    }

    /// What one field can't see by itself.
    ///
    /// # Errors
    /// [`HttpSettingsError`], with the way out.
    pub fn check(&self) -> Result<(), HttpSettingsError> {
        if self.tls.is_none() && !self.listen.ip().is_loopback() {
            return Err(HttpSettingsError::PlainToOthers(self.listen));
        }
        if self.tls.is_some() && !self.origin.is_https() {
            return Err(HttpSettingsError::TlsButHttp(self.origin.to_string()));
        }
        if self.trusted_proxies.iter().any(AddressRange::is_too_wide) {
            return Err(HttpSettingsError::TrustsEverybody);
        }
        if self.metrics_listen.is_some_and(|metrics| metrics == self.listen && metrics.port() != 0) {
            return Err(HttpSettingsError::SamePlace(self.listen));
        }
        Ok(())
    }
}

fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8750))
}

fn max_connections() -> NonZeroU32 {
    Rate::new(1_024, 1).per_second
}

fn max_connections_per_address() -> NonZeroU32 {
    Rate::new(512, 1).per_second
}

fn ten_seconds() -> NonZeroU32 {
    Rate::new(10, 1).per_second
}

fn thirty_seconds() -> NonZeroU32 {
    Rate::new(30, 1).per_second
}

// A new key may take AWS a minute to know (docs of IAM: eventual consistency), and the service waits for it.
fn request_seconds() -> NonZeroU32 {
    Rate::new(100, 1).per_second
}

fn stop_seconds() -> u32 {
    60
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<HttpSettings, String> {
        let settings: HttpSettings = toml::from_str(text).map_err(|error| error.to_string())?;
        settings.check().map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        let settings = of("origin = \"https://iam.example.org\"\nlisten = \"127.0.0.1:8750\"").unwrap();
        assert_eq!(settings.origin.authority(), "iam.example.org");
        for address in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[2001:db8::1]:80"] {
            let error =
                of(&format!("origin = \"https://iam.example.org\"\nlisten = \"{address}\"")).unwrap_err();
            assert!(error.contains("[http.tls]"), "{error}");
        }
        let error = of("origin = \"http://iam.example.org\"").unwrap_err();
        assert!(error.contains("plain http"), "{error}");
    }

    #[test]
    fn nobody_trusts_the_whole_network() {
        let with =
            |ranges: &str| of(&format!("origin = \"https://a.example\"\ntrusted_proxies = [{ranges}]"));
        for range in ["0.0.0.0/0", "::/0", "128.0.0.0/1", "10.0.0.0/8\", \"0.0.0.0/1"] {
            assert!(with(&format!("\"{range}\"")).unwrap_err().contains("trusted_proxies"), "{range}");
        }
        for range in ["10.0.0.0/8", "127.0.0.1", "fd00::/16", "2001:db8::/32"] {
            with(&format!("\"{range}\"")).unwrap();
        }
    }

    #[test]
    fn what_it_does_not_know_it_refuses() {
        assert!(of("origin = \"https://iam.example.org\"\nlissen = \"127.0.0.1:1\"").is_err());
        assert!(of("origin = \"https://iam.example.org\"\nmax_connections = 0").is_err());
        assert!(of("origin = \"https://a.example\"\ntrusted_proxies = [\"10.0.0.0/33\"]").is_err());
        assert!(
            of("origin = \"https://a.example\"\n[limits]\nper_person = { per_second = 1, burst = 0 }")
                .is_err()
        );
        let text = "origin = \"http://127.0.0.1:1\"\n[tls]\ncertificate = \"a\"\nkey = \"b\"";
        assert!(of(text).unwrap_err().contains("https://"));
    }
}
