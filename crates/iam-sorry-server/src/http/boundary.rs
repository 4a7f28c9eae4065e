//! What every request goes through before and after its handler, the pages' included, in this order: an id and the
//! client's address; the host it was meant for; limits; its body, whole and soon; the handler, in a task of its own;
//! errors as problems; headers that browsers and caches obey; one line in the log.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Method, Uri};
use http_body_util::BodyExt;
use iam_sorry_core::api::ProblemCode;
use iam_sorry_core::identity::Method as LoginMethod;
use iam_sorry_core::ssh::login::Origin;
use tokio::sync::watch;
use tracing::Instrument;

use super::address::{self, AddressRange};
use super::attempts::Attempts;
use super::limits::Limits;
use super::metrics::Metrics;
use super::problem::{self, ApiError, DrawPage};
use super::server::Peer;
use super::settings::HttpSettings;
use crate::caller::{Caller, RequestSource};
use crate::error::ServiceError;
use crate::login::source::AttemptRoute;

/// No request of ours is half as large.
pub const BODY_BYTES: usize = 64 * 1024;
/// Of a body that is too large, this much is read and thrown away, so that the client gets to read why.
const DRAINED_BYTES: usize = 4 * 1024 * 1024;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The limits, counts and facts that all requests share.
pub struct Boundary {
    origin: Origin,
    trusted: Vec<AddressRange>,
    limits: Limits,
    attempts: Attempts,
    metrics: Metrics,
    ids: RequestIds,
    read: Duration,
    patience: Duration,
    running: watch::Sender<usize>,
    draw_page: Option<DrawPage>,
}

/// What is known about a request besides what it asks; in its extensions, for API and pages.
pub struct RequestContext {
    /// Where it came from, and its id.
    pub source: RequestSource,
    person: OnceLock<String>,
    boundary: Arc<Boundary>,
}

impl Boundary {
    /// `attempts` are the routes whose requests try to sign somebody in; `draw_page` draws problems of addresses outside the
    /// API.
    pub fn new(
        settings: &HttpSettings,
        attempts: Vec<(AttemptRoute, LoginMethod)>,
        metrics: Metrics,
        draw_page: Option<DrawPage>,
    ) -> Arc<Self> {
        Arc::new(Self {
            origin: settings.origin.clone(),
            trusted: settings.trusted_proxies.clone(),
            limits: Limits::new(&settings.limits),
            attempts: Attempts::new(attempts),
            metrics,
            ids: RequestIds::new(),
            read: Duration::from_secs(settings.read_seconds.get().into()),
            patience: Duration::from_secs(settings.request_seconds.get().into()),
            running: watch::Sender::new(0),
            draw_page,
        })
    }

    /// Puts the boundary around all routes.
    pub fn around(self: &Arc<Self>, router: Router) -> Router {
        router
            .fallback(problem::not_found)
            .method_not_allowed_fallback(problem::method_not_allowed)
            .layer(middleware::from_fn_with_state(Arc::clone(self), pass))
    }

    /// Ready when no handler runs any more, also none whose client went away.
    pub async fn settled(&self) {
        // The sender is ours: it can't be gone.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// The counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where it came from: what a trusted proxy says is believed, nobody else.
    fn source_of(&self, peer: IpAddr, headers: &HeaderMap) -> RequestSource {
        let said = headers.get_all(FORWARDED_FOR);
        let address =
            address::client(peer, said.iter().map(|v| v.to_str().unwrap_or_default()), &self.trusted);
        RequestSource { address, request_id: self.ids.next() }
    }

    /// The id that a trusted proxy gave the request: for the log line alone, so that its log can be put beside ours. It
    /// names nothing here, since a client may choose it, and choose another's.
    fn proxy_id<'a>(&self, peer: IpAddr, headers: &'a HeaderMap) -> Option<&'a str> {
        let from_proxy = self.trusted.iter().any(|range| range.contains(peer));
        let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        given.filter(|id| from_proxy && is_id(id))
    }

    /// The `Host` must be the configured one: a page of somebody else's, whose name was made to point here (DNS
    /// rebinding), would otherwise talk to us as to its own server.
    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (uri.authority(), hosts.next(), hosts.next()) {
            (Some(authority), _, None) => Some(authority.as_str()), // RFC 9112, section 3.2.2
            (None, Some(host), None) => host.to_str().ok(),
            _ => None,
        };
        match host {
            Some(host) if same_authority(host, &self.origin) => Ok(()),
            _ => Err(ApiError::bad_request(format!(
                "The request was meant for another host.\nThis service is reached at {} only.",
                self.origin
            ))),
        }
    }

    fn check_limits(&self, request: &Request, address: IpAddr) -> Result<(), ApiError> {
        self.limits.address(address)?;
        if let Some(by) = self.attempts.by(request.method(), request.uri().path()) {
            self.limits.sign_in(by, address)?;
        }
        Ok(())
    }

    /// The request with its whole body in memory, so that no handler ever waits for a client.
    async fn with_body(&self, request: Request) -> Result<Request, ApiError> {
        let (parts, mut body) = request.into_parts();
        let reading = tokio::time::timeout(self.read, collect(&mut body));
        let bytes = match reading.await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                let _ = tokio::time::timeout(Duration::from_secs(2), drain(&mut body)).await;
                return Err(error);
            }
            Err(_) => return Err(ApiError::bad_request("The request's body did not arrive in time.")),
        };
        Ok(Request::from_parts(parts, Body::from(bytes)))
    }

    /// Runs the handler in a task of its own: a client that goes away does not stop an action half-way.
    async fn run(self: &Arc<Self>, request: Request, next: Next, request_id: &str) -> Response {
        // A sign-in that comes by GET is no reading: it goes on without its client.
        let reads_only = matches!(*request.method(), Method::GET | Method::HEAD)
            && self.attempts.by(request.method(), request.uri().path()).is_none();
        let counted = OpenOperation::count(self);
        let span = tracing::info_span!("request", id = request_id);
        let task = async move {
            let _counted = counted;
            next.run(request).await
        };
        let mut task = Task { handle: tokio::spawn(task.instrument(span)), stop_with_client: reads_only };
        match tokio::time::timeout(self.patience, &mut task.handle).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => {
                tracing::error!(request_id, "a handler panicked");
                ApiError::new(
                    ProblemCode::Internal,
                    "The service made a mistake; its log has it under the request's id.",
                )
                .into_response()
            }
            Err(_) => {
                let text = if reads_only {
                    "The answer took too long."
                } else {
                    "It takes long, and is still under way.\nAsk again with the same Idempotency-Key to learn what became of it."
                };
                ApiError::new(ProblemCode::AwsUnavailable, text).into_response()
            }
        }
    }

    fn finish(&self, response: Response, request_id: &str, is_page: bool) -> Response {
        let draw = self.draw_page.as_ref().filter(|_| is_page);
        let mut response = problem::render(response, request_id, draw);
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        for (name, value) in ALWAYS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for (name, value) in UNLESS_SET {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
        if self.origin.is_https() {
            headers.insert(
                header::STRICT_TRANSPORT_SECURITY,
                HeaderValue::from_static("max-age=31536000; includeSubDomains"),
            );
        }
        response
    }
}

const ALWAYS: [(HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

const UNLESS_SET: [(HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
];

impl RequestContext {
    /// To be called when it is known who asks: counts the request for them, and their id goes into the log line.
    ///
    /// # Errors
    /// The [`ServiceError`] of somebody who asks too much.
    pub fn signed_in(&self, caller: &Caller) -> Result<(), ServiceError> {
        let id = self.person.get_or_init(|| caller.identity.id());
        self.boundary.limits.person(id)
    }
}

async fn pass(State(boundary): State<Arc<Boundary>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.as_deref().unwrap_or("(none)");
    let peer = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
    let source = boundary.source_of(peer, request.headers());
    let request_id = source.request_id.clone();
    let proxy_id = boundary.proxy_id(peer, request.headers()).map(str::to_owned);
    let is_page = is_page(request.uri().path());
    let context =
        Arc::new(RequestContext { source, person: OnceLock::new(), boundary: Arc::clone(&boundary) });
    request.extensions_mut().insert(Arc::clone(&context));

    let response = match admit(&boundary, request, &context).await {
        Ok(request) => boundary.run(request, next, &request_id).await,
        Err(error) => error.into_response(),
    };
    let response = boundary.finish(response, &request_id, is_page);

    let (status, took) = (response.status().as_u16(), begun.elapsed());
    boundary.metrics.answered(&method, route, status, took);
    let person = context.person.get().map_or("", String::as_str);
    tracing::info!(target: "request", %method, route, status, ms = took.as_millis() as u64, person, request_id, proxy_id);
    response
}

async fn admit(boundary: &Boundary, request: Request, context: &RequestContext) -> Result<Request, ApiError> {
    // A load balancer asks by address, often, and learns nothing but yes or no.
    if !is_probe(request.uri().path()) {
        boundary.check_host(request.uri(), request.headers())?;
        boundary.check_limits(&request, context.source.address)?;
    }
    boundary.with_body(request).await
}

/// All of a body, or an error as soon as it is known to be too large.
async fn collect(body: &mut Body) -> Result<Bytes, ApiError> {
    use axum::body::HttpBody;
    let too_large = || {
        ApiError::new(
            ProblemCode::TooLarge,
            format!("The request's body is larger than {} KiB.", BODY_BYTES / 1024),
        )
    };
    if body.size_hint().lower() > BODY_BYTES as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| ApiError::bad_request("The request's body ended early, or is garbled."))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > BODY_BYTES {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

async fn drain(body: &mut Body) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > DRAINED_BYTES {
            return;
        }
    }
}

/// A handler's task, which a client that goes away ends only where it merely reads.
struct Task {
    handle: tokio::task::JoinHandle<Response>,
    stop_with_client: bool,
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.stop_with_client {
            self.handle.abort();
        }
    }
}

/// Counts a handler for as long as it runs.
struct OpenOperation(Arc<Boundary>);

impl OpenOperation {
    fn count(boundary: &Arc<Boundary>) -> Self {
        boundary.running.send_modify(|running| *running += 1);
        boundary.metrics.under_way().inc();
        Self(Arc::clone(boundary))
    }
}

impl Drop for OpenOperation {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
        self.0.metrics.under_way().dec();
    }
}

/// Ids that no two requests share, also not on two instances: some randomness of the process, then a count.
struct RequestIds {
    process: String,
    count: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        let mut random = [0; 6];
        // Without randomness nothing else of the service works either; ids only have to differ.
        if aws_lc_rs::rand::fill(&mut random).is_err() {
            random[..4].copy_from_slice(&std::process::id().to_be_bytes());
        }
        Self { process: random.iter().map(|byte| format!("{byte:02x}")).collect(), count: AtomicU64::new(1) }
    }

    fn next(&self) -> String {
        format!("{}-{:06x}", self.process, self.count.fetch_add(1, Ordering::Relaxed))
    }
}

fn is_id(text: &str) -> bool {
    (8..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn is_probe(path: &str) -> bool {
    path == "/healthz" || path == "/readyz"
}

fn is_page(path: &str) -> bool {
    !(is_probe(path) || path == "/metrics" || path == "/api" || path.starts_with("/api/"))
}

/// Host names know no case; the scheme's own port may be written or not (RFC 9110, section 4.2.3).
fn same_authority(host: &str, origin: &Origin) -> bool {
    let own = origin.authority();
    if host.eq_ignore_ascii_case(own) {
        return true;
    }
    let default = if origin.is_https() { ":443" } else { ":80" };
    !own.ends_with(default) && host.strip_suffix(default).is_some_and(|host| host.eq_ignore_ascii_case(own))
}
