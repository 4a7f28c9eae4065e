//! What every TLS or HTTP client of this workspace needs, in one place: which certificate authorities are trusted, how
//! TLS is set up, the way through a proxy, limits of time and size, and buffers that are wiped.
//!
//! Everything comes in as a value: nothing here reads a variable or a settings file. (The system's certificate
//! authorities are found by rustls-native-certs, which looks at `SSL_CERT_FILE` and `SSL_CERT_DIR`.)
//!
//! [`client_config`] alone serves protocols that bring their own transport (LDAP, PostgreSQL). The feature `http` adds
//! [`Client`], an HTTP/1.1 client on hyper-util's pool. It follows no redirect: what a request carries is for the address
//! that was named. It never speaks plain http unless its [`Security`] says so.

#[cfg(feature = "http")]
mod client;
mod tls;

#[cfg(feature = "http")]
pub use client::connect::Security;
#[cfg(feature = "http")]
pub use client::error::{ConnectError, Error};
#[cfg(feature = "http")]
pub use client::proxy::{InvalidProxy, Proxy};
#[cfg(feature = "http")]
pub use client::secret::{SecretBody, secret_body};
#[cfg(feature = "http")]
pub use client::{Client, Response, TimeLimits};
pub use tls::{TrustError, TrustRoots, client_config};
