//! One connection to the service: TCP or a proxy's tunnel, TLS, HTTP/1.1. No redirect: the session goes to the address that
//! was named, and nowhere else. A proxy sees TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{Empty, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, PROXY_AUTHORIZATION};
use hyper::upgrade::Upgraded;
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioIo;
use iam_sorry_core::ssh::login::Origin;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::error::ServiceError;
use crate::error::{Error, Result};

/// A request's body, wiped when it is dropped.
pub type Body = Full<io::Cursor<Zeroizing<Vec<u8>>>>;
/// A connection on which requests can be sent.
pub type Connection = SendRequest<Body>;

const CONNECT: Duration = Duration::from_secs(15);

/// How connections to one service are made.
pub struct Transport {
    origin: Origin,
    /// None: plain http, on this machine.
    tls: Option<Tls>,
}

struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    proxy: Option<Intercept>,
}

impl Transport {
    /// `ca` is PEM text with the only authorities to trust; without it, the system's are. `proxy` is for https alone.
    ///
    /// # Errors
    /// Where there is no authority to trust.
    pub fn new(origin: Origin, ca: Option<&[u8]>, proxy: Option<Intercept>) -> Result<Self> {
        if !origin.is_https() {
            return Ok(Self { origin, tls: None });
        }
        let name = ServerName::try_from(origin.host().to_owned())
            .map_err(|_| Error::usage(format!("No certificate can be checked for {origin}")))?;
        let roots = match ca {
            Some(pem) => named_roots(pem)?,
            None => system_roots()?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::other(format!("TLS can't be set up: {e}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { origin, tls: Some(Tls { connector, name, proxy }) })
    }

    /// The service's address.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// A fresh connection.
    pub async fn connect(&self) -> std::result::Result<Connection, ServiceError> {
        let slow = |_| self.unreachable("it did not answer in time");
        tokio::time::timeout(CONNECT, self.connect_patiently()).await.map_err(slow)?
    }

    async fn connect_patiently(&self) -> std::result::Result<Connection, ServiceError> {
        let Some(tls) = &self.tls else {
            let stream = self.directly().await?;
            // `localhost` is a name like any other to the resolver.
            let here = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
            let elsewhere =
                || self.unreachable("the name leads to another machine, and plain http stays on this one");
            return if here { self.speak(stream).await } else { Err(elsewhere()) };
        };
        match &tls.proxy {
            None => self.secure(tls, self.directly().await?).await,
            Some(proxy) => self.secure(tls, self.tunnel(proxy).await?).await,
        }
    }

    async fn directly(&self) -> std::result::Result<TcpStream, ServiceError> {
        let stream = dial(self.origin.host(), self.origin.port());
        stream.await.map_err(|e| self.unreachable(&e.to_string()))
    }

    /// A way through a proxy (RFC 9110, section 9.3.6).
    async fn tunnel(&self, proxy: &Intercept) -> std::result::Result<TokioIo<Upgraded>, ServiceError> {
        // Not the whole authority: a password with an `@` in it could be left there.
        let (host, port) = (proxy.uri().host().unwrap_or_default(), proxy.uri().port_u16().unwrap_or(80));
        let failed = |why: &str| self.unreachable(&format!("the proxy {host}:{port} (HTTPS_PROXY) {why}"));
        let stream = dial(host.trim_matches(['[', ']']), port);
        let stream = stream.await.map_err(|e| failed(&format!("can't be reached: {e}")))?;
        let broken = |e: hyper::Error| failed(&format!("does not speak HTTP: {e}"));
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection.with_upgrades());
        let target = match self.origin.host() {
            address if address.contains(':') => format!("[{address}]:{}", self.origin.port()),
            name => format!("{name}:{}", self.origin.port()),
        };
        let mut request = Request::connect(&target).header(HOST, &target);
        if let Some(password) = proxy.basic_auth() {
            request = request.header(PROXY_AUTHORIZATION, password);
        }
        let request = request.body(Empty::<&[u8]>::new()).map_err(|_| failed("can't be asked for it"))?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        if !answer.status().is_success() {
            return Err(failed(&format!("does not let us through ({})", answer.status())));
        }
        hyper::upgrade::on(answer).await.map(TokioIo::new).map_err(broken)
    }

    async fn secure<S>(&self, tls: &Tls, stream: S) -> std::result::Result<Connection, ServiceError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |e: io::Error| ServiceError::Tls { origin: self.origin.clone(), why: e.to_string() };
        self.speak(tls.connector.connect(tls.name.clone(), stream).await.map_err(failed)?).await
    }

    async fn speak<S>(&self, stream: S) -> std::result::Result<Connection, ServiceError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |e: hyper::Error| self.unreachable(&e.to_string());
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends when the sender is dropped; what goes wrong on it shows in the request.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn unreachable(&self, why: &str) -> ServiceError {
        ServiceError::Unreachable { origin: self.origin.clone(), why: why.to_owned() }
    }
}

async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn named_roots(pem: &[u8]) -> Result<RootCertStore> {
    let useless = || Error::usage("There is no certificate in the file of --ca-file").hint("Name a PEM file");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(|_| useless())?).map_err(|_| useless())?;
    }
    if roots.is_empty() { Err(useless()) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(Error::other("The system has no certificate authorities to trust")
            .hint("Install ca-certificates, or name a PEM file: --ca-file FILE"));
    }
    Ok(roots)
}
