//! The wire under the SDK: which endpoints are allowed, the proxy, the CAs, and one lazily made client of iam-sorry-net.

use std::fmt;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use iam_sorry_net::{
    Client, ConnectError, Error, Security, TimeLimits, TrustError, TrustRoots, client_config,
};
use secrecy::SecretString;

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

fn proxy_of(proxy: &Proxy) -> Result<iam_sorry_net::Proxy, AwsError> {
    iam_sorry_net::Proxy::new(&proxy.url, proxy.no_proxy.as_deref()).map_err(|_| {
        AwsError::Settings(
            "The address of the proxy can't be read.\nSet it like this: export HTTPS_PROXY=http://proxy.example.org:3128"
                .into(),
        )
    })
}

/// One client with its pool, made at the first request: loading the system's CAs takes tens of milliseconds, and a plain-http
/// endpoint needs none.
pub(crate) struct Transport {
    security: Known,
    connect_timeout: Duration,
    connector: OnceLock<SharedHttpConnector>,
}

enum Known {
    Already(Security),
    /// https that trusts the system's authorities.
    OnceTheyAreLoaded {
        proxy: Option<iam_sorry_net::Proxy>,
    },
}

impl Transport {
    /// For https endpoints. `ca_bundle` is PEM text with the only authorities to trust; without it, the system's are.
    pub fn https(
        ca_bundle: Option<&[u8]>,
        proxy: Option<&Proxy>,
        connect_timeout: Duration,
    ) -> Result<Self, AwsError> {
        let proxy = proxy.map(proxy_of).transpose()?;
        let security = match ca_bundle {
            None => Known::OnceTheyAreLoaded { proxy },
            Some(pem) => {
                let tls = client_config(TrustRoots::Pem(pem)).map_err(|_| {
                    AwsError::Settings(
                        "The CA bundle holds no PEM certificates, or one that can't be read.\nCheck the file that \
                         AWS_CA_BUNDLE or ca_bundle names."
                            .into(),
                    )
                })?;
                Known::Already(Security::Https { tls: tls.into(), proxy })
            }
        };
        Ok(Self { security, connect_timeout, connector: OnceLock::new() })
    }

    /// For plain-http endpoints: no TLS, no proxy, and without `allow_remote` no other machine.
    pub fn plain(allow_remote: bool, connect_timeout: Duration) -> Self {
        let security = if allow_remote { Security::UnprotectedHttp } else { Security::LoopbackHttp };
        Self { security: Known::Already(security), connect_timeout, connector: OnceLock::new() }
    }

    fn security(&self) -> Result<Security, TrustError> {
        Ok(match &self.security {
            Known::Already(security) => security.clone(),
            Known::OnceTheyAreLoaded { proxy } => {
                let tls = client_config(TrustRoots::System)?;
                Security::Https { tls: tls.into(), proxy: proxy.clone() }
            }
        })
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("connect_timeout", &self.connect_timeout).finish_non_exhaustive()
    }
}

impl HttpClient for Transport {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let connector = self.connector.get_or_init(|| {
            // The SDK limits the time of each try, and of all.
            let limits = TimeLimits { connect: self.connect_timeout, request: None };
            let client = self.security().map(|security| Client::new(security, limits));
            SharedHttpConnector::new(Connector { client })
        });
        connector.clone()
    }
}

/// The client as the SDK wants it.
#[derive(Debug)]
struct Connector {
    client: Result<Client<SdkBody>, TrustError>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = match &self.client {
            Ok(client) => client.clone(),
            Err(error) => {
                let error = ConnectorError::other(error.clone().into(), None).never_connected();
                return HttpConnectorFuture::ready(Err(error));
            }
        };
        let mut request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let connection = capture_connection(&mut request);
        if let Some(capture) = request.extensions().get::<CaptureSmithyConnection>() {
            capture.set_connection_retriever(move || connection_of(&connection));
        }
        HttpConnectorFuture::new(async move {
            let response = client.send(request).await.map_err(connector_error)?;
            HttpResponse::try_from(response.into_http().map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// How the SDK gives up a connection: after a transient error it wants the next try on another one.
fn connection_of(captured: &CaptureConnection) -> Option<ConnectionMetadata> {
    captured.connection_metadata().as_ref()?;
    let captured = captured.clone();
    let give_up = move || {
        if let Some(connection) = captured.connection_metadata().as_ref() {
            connection.poison();
        }
    };
    Some(ConnectionMetadata::builder().proxied(false).poison_fn(give_up).build())
}

/// What the SDK may try again: all but what is not HTTP, and mistakes of ours.
pub(crate) fn connector_error(error: Error) -> ConnectorError {
    match error {
        Error::Connect(ConnectError::TimedOut(_)) => ConnectorError::timeout(error.into()).never_connected(),
        Error::Connect(_) => ConnectorError::io(error.into()).never_connected(),
        Error::TimedOut(_) => ConnectorError::timeout(error.into()),
        Error::Broken(_) => ConnectorError::io(error.into()),
        Error::Unsendable(_) => ConnectorError::user(error.into()),
        Error::NotHttp(_) | Error::TooLong(_) => ConnectorError::other(error.into(), None),
    }
}

/// Whether no connection came about, so that AWS can't have seen the request.
pub(crate) fn never_connected(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|error| {
        error.is::<TrustError>() || matches!(error.downcast_ref::<Error>(), Some(Error::Connect(_)))
    })
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Every https request of a machine without certificate authorities ends so, and certainly did nothing.
    #[test]
    fn with_nobody_to_trust_nothing_is_sent() {
        let connector = Connector { client: Err(TrustError::NoSystemRoots) };
        let sent = connector.call(HttpRequest::get("https://sts.amazonaws.com").unwrap());
        let error = runtime().block_on(sent).unwrap_err();
        assert!(never_connected(&error));
        assert!(error.source().unwrap().to_string().contains("no certificate authorities"), "{error:?}");
    }

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
