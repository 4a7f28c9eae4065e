//! The wire under the SDK: which endpoints are allowed, the proxy, the CAs, and one lazily made connector.

use std::fmt;
use std::net::IpAddr;
use std::sync::OnceLock;

use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};

use crate::errors::AwsError;

/// An HTTP proxy; the address may carry a password.
#[derive(Clone)]
pub struct Proxy {
    /// `http://[user:password@]host:port`.
    pub url: SecretString,
    /// Hosts not to use it for, comma-separated, as in NO_PROXY.
    pub no_proxy: Option<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("no_proxy", &self.no_proxy).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndpointKind {
    Https,
    LoopbackHttp,
    RemoteHttp,
}

/// Reads scheme and host of an endpoint; strict, so that nothing passes for loopback that is not
/// (`http://127.0.0.1@example.com`, `http://localhost.example.com`).
pub(crate) fn endpoint_kind(endpoint: &str) -> Result<EndpointKind, AwsError> {
    let invalid = || {
        AwsError::Settings(format!(
            "{endpoint:?} can't be an endpoint.\nGive an address such as https://sts.eu-central-1.amazonaws.com"
        ))
    };
    let (scheme, rest) = endpoint.split_once("://").ok_or_else(invalid)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if authority.is_empty()
        || authority.contains(|c: char| c == '@' || c == '\\' || c == '%' || !c.is_ascii_graphic())
    {
        return Err(invalid());
    }
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']').ok_or_else(invalid)?.0,
        None => authority.split(':').next().unwrap_or(authority),
    };
    let loopback =
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match scheme.to_ascii_lowercase().as_str() {
        "https" => Ok(EndpointKind::Https),
        "http" if loopback => Ok(EndpointKind::LoopbackHttp),
        "http" => Ok(EndpointKind::RemoteHttp),
        _ => Err(invalid()),
    }
}

pub(crate) fn proxy_config(proxy: &Proxy) -> Result<ProxyConfig, AwsError> {
    // The SDK's error would repeat the address, password and all.
    let config = ProxyConfig::https(proxy.url.expose_secret()).map_err(|_| {
        AwsError::Settings(
            "The address of the proxy can't be read.\nSet it like this: export HTTPS_PROXY=http://proxy.example.org:3128"
                .into(),
        )
    })?;
    Ok(match &proxy.no_proxy {
        Some(hosts) => config.no_proxy(hosts),
        None => config,
    })
}

pub(crate) fn tls_context(ca_bundle: Option<&[u8]>) -> Result<TlsContext, AwsError> {
    let mut builder = TlsContext::builder();
    if let Some(pem) = ca_bundle {
        // The SDK panics on a bundle that it can't read, so every certificate is tried here first.
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let mut roots = RootCertStore::empty();
        let usable = certificates.is_ok_and(|list| {
            !list.is_empty() && list.into_iter().all(|certificate| roots.add(certificate).is_ok())
        });
        if !usable {
            return Err(AwsError::Settings(
                "The CA bundle holds no PEM certificates, or one that can't be read.\nCheck the file that \
                 AWS_CA_BUNDLE or ca_bundle names."
                    .into(),
            ));
        }
        builder =
            builder.with_trust_store(TrustStore::empty().with_native_roots(false).with_pem_certificate(pem));
    }
    builder.build().map_err(|e| AwsError::Settings(format!("TLS could not be set up: {e}")))
}

/// One connector with its pool, made at the first request: loading the system's CAs takes tens of milliseconds, and a
/// plain-http endpoint needs none. (The SDK's own client loads them whenever a service client is made.)
pub(crate) struct Transport {
    tls: Option<(TlsContext, Option<ProxyConfig>)>,
    connector: OnceLock<SharedHttpConnector>,
}

impl Transport {
    /// For https endpoints.
    pub fn https(tls: TlsContext, proxy: Option<ProxyConfig>) -> Self {
        Self { tls: Some((tls, proxy)), connector: OnceLock::new() }
    }

    /// For plain-http endpoints: no TLS, no proxy.
    pub fn plain() -> Self {
        Self { tls: None, connector: OnceLock::new() }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl HttpClient for Transport {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        // The timeouts in `settings` are the same for every client that one `Aws` makes, so one connector serves all.
        self.connector
            .get_or_init(|| {
                let builder = Connector::builder()
                    .connector_settings(settings.clone())
                    .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()));
                SharedHttpConnector::new(match &self.tls {
                    None => builder.build_http(),
                    Some((tls, proxy)) => {
                        let mut builder = builder;
                        builder.set_proxy_config(proxy.clone());
                        builder
                            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
                            .tls_context(tls.clone())
                            .build()
                    }
                })
            })
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for local in ["http://localhost:4566", "http://127.0.0.1", "HTTP://127.8.9.1:1/x", "http://[::1]:99/"]
        {
            assert_eq!(endpoint_kind(local).unwrap(), EndpointKind::LoopbackHttp, "{local}");
        }
        for remote in [
            "http://example.com",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://10.0.0.1:80",
            "http://[::2]",
            "http://0.0.0.0:1",
            "http://127.1",
        ] {
            assert_eq!(endpoint_kind(remote).unwrap(), EndpointKind::RemoteHttp, "{remote}");
        }
        for bad in [
            "localhost:4566",
            "ftp://localhost",
            "http://",
            "http:///x",
            "http://127.0.0.1@example.com/",
            "http://example.com\\@localhost",
            "http://local host",
            "http://[::1",
            "",
        ] {
            assert!(endpoint_kind(bad).is_err(), "{bad}");
        }
        assert_eq!(endpoint_kind("https://sts.amazonaws.com").unwrap(), EndpointKind::Https);
    }
}
