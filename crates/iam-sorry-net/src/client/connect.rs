//! One connection: a name is resolved, both address families are tried (RFC 8305), a proxy is asked for a tunnel, and TLS is
//! begun. All of it within one limit of time.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{Request, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1::handshake;
use hyper::upgrade::Upgraded;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::error::{ConnectError, innermost};
use super::proxy::Proxy;

/// What protects a client's connections. A request whose URI has the other scheme is refused.
#[derive(Clone)]
pub enum Security {
    /// https alone, through a proxy if there is one.
    Https {
        /// From [`crate::client_config`].
        tls: Arc<ClientConfig>,
        /// None: directly.
        proxy: Option<Proxy>,
    },
    /// Plain http that stays on this machine: whatever the name says, the peer's address must be a loopback one.
    LoopbackHttp,
    /// Plain http to any machine: whoever is on the way reads everything.
    UnprotectedHttp,
}

/// Makes connections for hyper-util's pool.
#[derive(Clone)]
pub(super) struct Connector(Arc<Inner>);

struct Inner {
    security: Security,
    limit: Duration,
    tcp: HttpConnector,
}

impl Connector {
    pub fn new(mut security: Security, limit: Duration) -> Self {
        if let Security::Https { tls, .. } = &mut security {
            // No other protocol's server shall take our requests for its own (RFC 7301; ALPACA attack).
            Arc::make_mut(tls).alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self(Arc::new(Inner { security, limit, tcp }))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let connected = tokio::time::timeout(inner.limit, inner.connect(&target)).await;
            connected.unwrap_or(Err(ConnectError::TimedOut(inner.limit))).map(TokioIo::new)
        })
    }
}

impl Inner {
    async fn connect(&self, target: &Uri) -> Result<Stream, ConnectError> {
        match (&self.security, target.scheme_str()) {
            (Security::Https { tls, proxy }, Some("https")) => {
                match proxy.as_ref().and_then(|proxy| proxy.on_the_way_to(target)) {
                    None => secure(tls, target, self.dial(target).await?).await,
                    Some(proxy) => secure(tls, target, self.tunnel(tls, &proxy, target).await?).await,
                }
            }
            (Security::LoopbackHttp, Some("http")) => {
                let stream = self.dial(target).await?;
                // `localhost` is a name like any other to the resolver.
                let here = stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
                if here { Ok(Stream::new(stream)) } else { Err(ConnectError::NotLoopback) }
            }
            (Security::UnprotectedHttp, Some("http")) => self.dial(target).await.map(Stream::new),
            (_, scheme) => Err(ConnectError::WrongScheme(scheme.unwrap_or_default().to_owned())),
        }
    }

    async fn dial(&self, target: &Uri) -> Result<TcpStream, ConnectError> {
        let connected = self.tcp.clone().call(target.clone()).await;
        connected.map(TokioIo::into_inner).map_err(|error| ConnectError::Unreachable(innermost(&error)))
    }

    /// A way through a proxy. (hyper-util's `Tunnel` does the same, but keeps to itself with which status a proxy refuses,
    /// which is what its owner asks for.)
    async fn tunnel(
        &self,
        tls: &Arc<ClientConfig>,
        proxy: &Intercept,
        target: &Uri,
    ) -> Result<TokioIo<Upgraded>, ConnectError> {
        let failed = |reason: String| ConnectError::Proxy { proxy: name_of(proxy.uri()), reason };
        let stream =
            self.dial(proxy.uri()).await.map_err(|error| failed(format!("can't be reached: {error}")))?;
        let stream = match proxy.uri().scheme_str() {
            Some("https") => {
                let secured = secure(tls, proxy.uri(), stream).await;
                secured.map_err(|error| failed(format!("can't prove who it is: {error}")))?
            }
            _ => Stream::new(stream),
        };
        let broken = |error: hyper::Error| failed(format!("does not speak HTTP: {}", innermost(&error)));
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection.with_upgrades());
        let host = target.host().unwrap_or_default();
        let authority = format!("{host}:{}", target.port_u16().unwrap_or(443));
        let mut request = Request::connect(&authority).header(HOST, &authority);
        if let Some(password) = proxy.basic_auth() {
            request = request.header(PROXY_AUTHORIZATION, password);
        }
        let request = request.body(Empty::<&[u8]>::new());
        let request = request.map_err(|_| failed("can't be asked for such a host".to_owned()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if !response.status().is_success() {
            return Err(failed(format!("does not let us through ({})", response.status())));
        }
        hyper::upgrade::on(response).await.map(TokioIo::new).map_err(broken)
    }
}

async fn secure<S>(tls: &Arc<ClientConfig>, target: &Uri, stream: S) -> Result<Stream, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let host = target.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(|error| ConnectError::Tls(error.to_string()))?;
    let secured = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
    secured.map(Stream::new).map_err(|error| ConnectError::Tls(error.to_string()))
}

/// Not the whole authority: a password with an `@` in it could be left there.
fn name_of(proxy: &Uri) -> String {
    let default = if proxy.scheme_str() == Some("https") { 443 } else { 80 };
    format!("{}:{}", proxy.host().unwrap_or_default(), proxy.port_u16().unwrap_or(default))
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Https { .. } => "Https",
            Self::LoopbackHttp => "LoopbackHttp",
            Self::UnprotectedHttp => "UnprotectedHttp",
        })
    }
}

trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Bytes for S {}

/// A connection, however it was made.
pub(super) struct Stream(Box<dyn Bytes>);

impl Stream {
    fn new(stream: impl Bytes + 'static) -> Self {
        Self(Box::new(stream))
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
