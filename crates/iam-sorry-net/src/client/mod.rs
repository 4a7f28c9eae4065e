//! The HTTP/1.1 client: hyper-util's pool of connections, with limits.

pub(crate) mod connect;
pub(crate) mod error;
pub(crate) mod proxy;
pub(crate) mod secret;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use http::response::Parts;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Incoming};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use connect::{Connector, Security};
use error::Error;

/// How long a client waits.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimits {
    /// For a connection: name, TCP, proxy and TLS.
    pub connect: Duration,
    /// For a request, from its beginning to the last byte of the response; none if the caller has a limit of its own.
    pub request: Option<Duration>,
}

/// An HTTP/1.1 client for one kind of servers. It keeps idle connections for 90 seconds, follows no redirect, reads no
/// cookie and no compressed body. Cloning is cheap and shares the connections.
///
/// A request needs an absolute URI; its `Host` is made from it.
pub struct Client<B> {
    pooled: legacy::Client<Connector, B>,
    single: legacy::Client<Connector, B>,
    limit: Option<Duration>,
}

impl<B> Client<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    /// Opens no connection yet.
    pub fn new(security: Security, limits: TimeLimits) -> Self {
        let connector = Connector::new(security, limits.connect);
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        // Without a timer idle connections would be kept for ever.
        let pooled = builder.pool_timer(TokioTimer::new()).build(connector.clone());
        let single = builder.pool_max_idle_per_host(0).build(connector);
        Self { pooled, single, limit: limits.request }
    }

    /// Sends a request, over a connection that lay idle if there is one, and gives the head of the response. An idle
    /// connection may have been closed by the other side, which sometimes shows only while the request is being sent, as
    /// [`Error::Broken`]: for requests that may be sent again.
    ///
    /// # Errors
    /// [`Error`]; a status that means an error is a response like any other.
    pub async fn send(&self, request: Request<B>) -> Result<Response, Error> {
        self.within_limit(&self.pooled, request).await
    }

    /// The same over a new connection, closed after it: for requests that must not be sent again.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_on_new_connection(&self, request: Request<B>) -> Result<Response, Error> {
        self.within_limit(&self.single, request).await
    }

    async fn within_limit(
        &self,
        client: &legacy::Client<Connector, B>,
        request: Request<B>,
    ) -> Result<Response, Error> {
        let time = Time { limit: self.limit, end: self.limit.map(|limit| Instant::now() + limit) };
        let sent = client.request(request);
        let response = time.within(async { sent.await.map_err(|error| Error::of_request(&error)) }).await?;
        let (head, body) = response.into_parts();
        Ok(Response { head, body, time })
    }
}

impl<B> Clone for Client<B> {
    fn clone(&self) -> Self {
        Self { pooled: self.pooled.clone(), single: self.single.clone(), limit: self.limit }
    }
}

impl<B> fmt::Debug for Client<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// The head of a response, with its body still to come.
pub struct Response {
    head: Parts,
    body: Incoming,
    time: Time,
}

impl Response {
    /// Redirects and errors included.
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The headers of the response.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The whole body, in a buffer that is wiped; of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::TooLong`] as soon as it is; [`Error::TimedOut`] at the end of the request's time.
    pub async fn whole_body(mut self, limit: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut whole = Zeroizing::new(Vec::with_capacity(limit.min(16 * 1024)));
        while let Some(piece) = self.time.within(next(&mut self.body)).await? {
            if whole.len() + piece.len() > limit {
                return Err(Error::TooLong(limit));
            }
            secret::append(&mut whole, &piece);
        }
        Ok(whole)
    }

    /// The next piece of a body of any length; `None` at its end. Each piece has as much time as a request has.
    ///
    /// # Errors
    /// [`Error::Broken`] if the connection ends before the body: what was read so far is not the whole.
    pub async fn next_piece(&mut self) -> Result<Option<Bytes>, Error> {
        let limit = self.time.limit;
        Time { limit, end: limit.map(|limit| Instant::now() + limit) }.within(next(&mut self.body)).await
    }

    /// For callers with limits of their own.
    pub fn into_http(self) -> http::Response<Incoming> {
        http::Response::from_parts(self.head, self.body)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.head.status).finish_non_exhaustive()
    }
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Error> {
    while let Some(frame) = body.frame().await {
        // Trailers are nothing to anybody here.
        if let Ok(data) = frame.map_err(|error| Error::of_connection(&error))?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// The time of one request.
#[derive(Clone, Copy)]
struct Time {
    limit: Option<Duration>,
    end: Option<Instant>,
}

impl Time {
    async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let (Some(limit), Some(end)) = (self.limit, self.end) else { return work.await };
        timeout_at(end, work).await.unwrap_or(Err(Error::TimedOut(limit)))
    }
}
