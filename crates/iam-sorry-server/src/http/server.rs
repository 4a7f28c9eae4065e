//! The accept loop: connections one by one, with limits for the slow and the many, TLS, and a stop that lets what is
//! under way finish. HTTP/1.1 (RFC 9112) only: what HTTP/2 brings is the reverse proxy's business.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::settings::{HttpSettings, HttpSettingsError, Rate};
use super::slow::Impatient;
use super::tls::{Certificates, TlsError};

/// The peer of a connection, put into every request that comes over it.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Heads of requests may be as large as this; ours are under 2 KiB.
const HEAD_BYTES: usize = 16 * 1024;
/// Headers in a request; browsers send about 20.
const HEADERS: usize = 64;

/// A listening service.
pub struct Server {
    listener: TcpListener,
    settings: HttpSettings,
    certificates: Option<Arc<Certificates>>,
    tls: Option<Arc<ServerConfig>>,
}

/// Why it can't listen.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Settings that can't be used, or not safely.
    #[error(transparent)]
    Settings(#[from] HttpSettingsError),
    /// Certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address is taken, or not this machine's.
    #[error("Nothing can listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl Server {
    /// Binds the address and reads the certificate; from now on connections queue up.
    ///
    /// # Errors
    /// [`ServerError`], with the way out.
    pub async fn bind(settings: &HttpSettings) -> Result<Self, ServerError> {
        settings.check()?;
        let certificates = settings.tls.as_ref().map(Certificates::load).transpose()?;
        let tls = certificates.as_ref().map(|certificates| certificates.server_config()).transpose()?;
        let listener = listen(settings.listen).await?;
        Ok(Self { listener, settings: settings.clone(), certificates, tls })
    }

    /// The listener for `/metrics`, where the settings name one: plain HTTP, few connections.
    ///
    /// # Errors
    /// [`ServerError`], with the way out.
    pub async fn bind_metrics(settings: &HttpSettings) -> Result<Option<Self>, ServerError> {
        let Some(address) = settings.metrics_listen else { return Ok(None) };
        let listener = listen(address).await?;
        let mut settings = settings.clone();
        settings.max_connections = Rate::new(16, 1).per_second;
        settings.stop_seconds = 1;
        Ok(Some(Self { listener, settings, certificates: None, tls: None }))
    }

    /// Where it listens (the settings' port may be 0).
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// For [`Certificates::reload`], where there is TLS.
    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        self.certificates.clone()
    }

    /// Serves until `stop` is ready; then accepts no more, lets requests that are under way finish, for as long as
    /// `stop_seconds`, and closes.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()>) {
        let Self { listener, settings, tls, .. } = self;
        let connections = Connections {
            router,
            tls: tls.map(TlsAcceptor::from),
            read: Duration::from_secs(settings.read_seconds.get().into()),
            write: Duration::from_secs(settings.write_seconds.get().into()),
            graceful: GracefulShutdown::new(),
            places: Arc::new(Semaphore::new(settings.max_connections.get() as usize)),
            per_address: Arc::default(),
            settings,
        };
        tokio::select! {
            () = connections.accept(&listener) => {}
            () = stop => {}
        }
        drop(listener);
        let patience = Duration::from_secs(connections.settings.stop_seconds.into());
        if tokio::time::timeout(patience, connections.graceful.shutdown()).await.is_err() {
            tracing::warn!("connections were still open at the end of stop_seconds; they are cut");
        }
    }
}

/// Open connections by address.
type Counts = Arc<Mutex<HashMap<IpAddr, u32>>>;

struct Connections {
    router: Router,
    tls: Option<TlsAcceptor>,
    read: Duration,
    write: Duration,
    graceful: GracefulShutdown,
    places: Arc<Semaphore>,
    per_address: Counts,
    settings: HttpSettings,
}

impl Connections {
    async fn accept(&self, listener: &TcpListener) {
        loop {
            // A place first: those for whom there is none wait in the kernel's queue.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or a connection that went away before we took it.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Some(counted) = self.count(peer.ip()) else {
                tracing::debug!(address = %peer.ip(), "too many connections from one address; closed");
                continue;
            };
            let _ = stream.set_nodelay(true);
            let serving = self.serve_one(stream, peer, self.graceful.watcher());
            tokio::spawn(async move {
                // Errors here are clients that went away, were too slow or spoke no TLS: they know.
                if let Err(error) = serving.await {
                    tracing::debug!(address = %peer.ip(), %error, "connection");
                }
                drop((place, counted));
            });
        }
    }

    /// One more from this address, or none where it has too many. Proxies bring everybody's, so they are not counted.
    fn count(&self, address: IpAddr) -> Option<Counted> {
        if self.settings.trusted_proxies.iter().any(|range| range.contains(address)) {
            return Some(Counted { of: None });
        }
        let key = super::address::limit_key(address.to_canonical());
        let mut counts = self.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        if *count >= self.settings.max_connections_per_address.get() {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Counted { of: Some((Arc::clone(&self.per_address), key)) })
    }

    fn serve_one(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        watcher: Watcher,
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send + 'static {
        let (router, tls, read) = (self.router.clone(), self.tls.clone(), self.read);
        let stream = Impatient::new(stream, self.write);
        async move {
            match tls {
                None => serve_http(stream, peer, router, read, watcher).await,
                Some(acceptor) => {
                    let stream = tokio::time::timeout(read, acceptor.accept(stream))
                        .await
                        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                    serve_http(stream, peer, router, read, watcher).await
                }
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    read: Duration,
    watcher: Watcher,
) -> Result<(), ConnectionError> {
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(read)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    Ok(watcher.watch(connection).await?)
}

/// A connection that counts for its address until it is dropped.
struct Counted {
    of: Option<(Counts, IpAddr)>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some((counts, key)) = self.of.take() else { return };
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| ServerError::Listen { address, source })
}
