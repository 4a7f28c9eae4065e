//! Requests to the service, repeated if that is safe. Responses are checked, since something else may answer: a proxy,
//! a login page, a server that never stops.

use std::future::Future;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode};
use iam_sorry_aws::Cancel;
use iam_sorry_core::api::{self, Problem, ProblemCode};
use iam_sorry_core::ssh::login::Origin;
use iam_sorry_net::{Response, SecretBody, Security, TimeLimits, secret_body};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::error::ServiceError;
use crate::error::{Error, Result};
use crate::output::Output;

/// Lists are paged, so the service's responses are much shorter.
const MAX_RESPONSE_BYTES: usize = 8 << 20;
/// Credentials of a user may take a minute, until AWS accepts a new key everywhere.
const LIMITS: TimeLimits =
    TimeLimits { connect: Duration::from_secs(15), request: Some(Duration::from_secs(150)) };
/// The longest pause that a service may request, in seconds.
const MAX_RETRY_AFTER_SECONDS: u32 = 60;

/// How often a request is sent, and whether pauses are reported.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Attempts in all.
    pub max_attempts: u32,
    /// Whether to report pauses: a person waits for this one request.
    pub report_pauses: bool,
}

/// A client of one service, with one session or none.
pub struct Client {
    origin: Origin,
    http: iam_sorry_net::Client<SecretBody>,
    token: Option<SecretString>,
    cancel: Cancel,
    retry_policy: RetryPolicy,
    out: Output,
}

/// The body of a successful response.
struct ResponseBody {
    body: Zeroizing<Vec<u8>>,
}

/// A request to the service's API.
struct ApiRequest<'a> {
    method: Method,
    path: &'a str,
    body: Option<Zeroizing<Vec<u8>>>,
    /// An idempotency key. With one, or if it changes nothing, the request can be repeated.
    key: Option<&'a str>,
}

impl ApiRequest<'_> {
    fn is_safe_to_repeat(&self) -> bool {
        self.key.is_some() || self.method == Method::GET
    }
}

impl Client {
    pub fn new(origin: Origin, security: Security, out: Output) -> Self {
        let http = iam_sorry_net::Client::new(security, LIMITS);
        let retry_policy = RetryPolicy { max_attempts: 3, report_pauses: true };
        Self { origin, http, token: None, cancel: Cancel::new(), retry_policy, out }
    }

    /// Uses this session token.
    ///
    /// # Errors
    /// Kind `Profile` if the token can't be sent in a header.
    pub fn with_token(mut self, token: SecretString) -> Result<Self> {
        let text = token.expose_secret();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::profile("The session token holds characters that no token has")
                .hint("Look at IAM_SORRY_TOKEN, or sign in again: iam-sorry login URL"));
        }
        self.token = Some(token);
        Ok(self)
    }

    /// Stops when `cancel` fires.
    #[must_use]
    pub fn with_cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    #[must_use]
    pub fn with_retry_policy(mut self, retry_policy: RetryPolicy) -> Self {
        self.retry_policy = retry_policy;
        self
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> std::result::Result<T, ServiceError> {
        let request = ApiRequest { method: Method::GET, path, body: None, key: None };
        self.read(&self.send(&request).await?)
    }

    /// All items of a paged list, up to `most`.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        most: usize,
    ) -> std::result::Result<Vec<T>, ServiceError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let with = match &cursor {
                Some(cursor) if path.contains('?') => format!("{path}&cursor={}", encoded(cursor)),
                Some(cursor) => format!("{path}?cursor={}", encoded(cursor)),
                None => path.to_owned(),
            };
            let page: api::Page<T> = self.get(&with).await?;
            let empty = page.items.is_empty();
            items.extend(page.items);
            // A page that leads to itself would be requested for ever.
            let next = page.next.filter(|next| !empty && cursor.as_ref() != Some(next));
            if next.is_none() || items.len() >= most {
                items.truncate(most);
                return Ok(items);
            }
            cursor = next;
        }
    }

    /// A request that changes something, under an idempotency key: a new one, or the stored one of a bulk run.
    pub async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        key: &str,
    ) -> std::result::Result<T, ServiceError> {
        let body = body.map(to_json);
        self.read(&self.send(&ApiRequest { method, path, body, key: Some(key) }).await?)
    }

    /// A request that must not be sent twice, such as a sign-in. `body` is JSON.
    pub async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> std::result::Result<T, ServiceError> {
        self.read(&self.send(&ApiRequest { method: Method::POST, path, body, key: None }).await?)
    }

    /// As [`Client::post_once`], for a value without secrets.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> std::result::Result<T, ServiceError> {
        self.post_once(path, Some(to_json(body))).await
    }

    /// A request whose response has no body.
    pub async fn execute(&self, method: Method, path: &str) -> std::result::Result<(), ServiceError> {
        let key = new_key();
        self.send(&ApiRequest { method, path, body: None, key: Some(&key) }).await.map(drop)
    }

    /// A response of any length, piece by piece.
    pub async fn download(&self, path: &str) -> std::result::Result<Download<'_>, ServiceError> {
        let request = ApiRequest { method: Method::GET, path, body: None, key: None };
        let begun = async { self.checked(self.exchange(&request).await?).await };
        Ok(Download { client: self, response: self.unless_cancelled(begun).await? })
    }

    /// Sends a request, and repeats it if that is safe and may help.
    async fn send(&self, request: &ApiRequest<'_>) -> std::result::Result<ResponseBody, ServiceError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let answer = self.unless_cancelled(self.send_once(request)).await;
            let Err(error) = answer else { return answer };
            let Some(pause) =
                pause_after(&error, request, tried).filter(|_| tried < self.retry_policy.max_attempts)
            else {
                return Err(error);
            };
            if self.retry_policy.report_pauses && pause >= Duration::from_secs(2) {
                let why = error.to_string();
                let why = why.lines().next().unwrap_or_default();
                self.out.progress(format!("{why} Trying again in {} s", pause.as_secs()));
            }
            self.unless_cancelled(async {
                tokio::time::sleep(pause).await;
                Ok(())
            })
            .await?;
        }
    }

    async fn send_once(&self, request: &ApiRequest<'_>) -> std::result::Result<ResponseBody, ServiceError> {
        let response = self.checked(self.exchange(request).await?).await?;
        let expected = response.status() != StatusCode::NO_CONTENT;
        if expected && !is_json(response.headers()) {
            return Err(self.unexpected(&response));
        }
        Ok(ResponseBody { body: self.whole(response).await? })
    }

    /// One request, and the head of its response. A request that must not be sent twice gets a new connection: an idle
    /// one may have been closed by the other side, which shows only in the next request.
    async fn exchange(&self, request: &ApiRequest<'_>) -> std::result::Result<Response, ServiceError> {
        let http = self.http_request(request)?;
        let sent = match request.is_safe_to_repeat() {
            true => self.http.send(http).await,
            false => self.http.send_on_new_connection(http).await,
        };
        sent.map_err(|error| self.failed(error))
    }

    fn http_request(
        &self,
        request: &ApiRequest<'_>,
    ) -> std::result::Result<Request<SecretBody>, ServiceError> {
        let mut http = Request::builder()
            .method(request.method.clone())
            .uri(format!("{}{}{}", self.origin, api::PREFIX, request.path))
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("iam-sorry/", env!("CARGO_PKG_VERSION")));
        if let Some(key) = request.key {
            http = http.header(api::IDEMPOTENCY_KEY, key);
        }
        if request.body.is_some() {
            http = http.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            let bearer = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
            let mut value = HeaderValue::from_str(&bearer).map_err(|_| self.unsendable())?;
            value.set_sensitive(true);
            http = http.header(header::AUTHORIZATION, value);
        }
        let body = request.body.clone().unwrap_or_default();
        http.body(secret_body(body)).map_err(|_| self.unsendable())
    }

    /// The response, unless it is a redirect, a problem, or no response of a department service.
    async fn checked(&self, response: Response) -> std::result::Result<Response, ServiceError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_redirection() {
            return Err(ServiceError::Redirected { origin: self.origin().clone(), status: status.as_u16() });
        }
        let unexpected = self.unexpected(&response);
        if !is_json(response.headers()) {
            return Err(unexpected);
        }
        let seconds = response.headers().get(header::RETRY_AFTER);
        let retry_after = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = self.whole(response).await?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => {
                let (origin, problem) = (self.origin().clone(), Box::new(problem));
                Err(ServiceError::Problem { origin, problem, retry_after })
            }
            Err(_) => Err(unexpected),
        }
    }

    async fn whole(&self, response: Response) -> std::result::Result<Zeroizing<Vec<u8>>, ServiceError> {
        response.whole_body(MAX_RESPONSE_BYTES).await.map_err(|error| self.failed(error))
    }

    fn read<T: DeserializeOwned>(&self, answer: &ResponseBody) -> std::result::Result<T, ServiceError> {
        // serde's message may contain what it read, which may be a secret.
        serde_json::from_slice(&answer.body).map_err(|e| ServiceError::UnexpectedResponse {
            origin: self.origin().clone(),
            what: format!("its JSON lacks something at line {}, column {}", e.line(), e.column()),
        })
    }

    async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = std::result::Result<T, ServiceError>>,
    ) -> std::result::Result<T, ServiceError> {
        tokio::select! {
            ended = work => ended,
            () = self.cancel.cancelled() => Err(ServiceError::Interrupted),
        }
    }

    fn failed(&self, error: iam_sorry_net::Error) -> ServiceError {
        ServiceError::of(&self.origin, error)
    }

    fn unexpected(&self, response: &Response) -> ServiceError {
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind: String = kind.unwrap_or("no content type").chars().take(60).collect();
        let what = format!("HTTP {} with {kind}", response.status().as_u16());
        ServiceError::UnexpectedResponse { origin: self.origin().clone(), what }
    }

    fn unsendable(&self) -> ServiceError {
        let what = "the request can't be written down".to_owned();
        ServiceError::UnexpectedResponse { origin: self.origin().clone(), what }
    }
}

/// A response whose body is being read.
pub struct Download<'a> {
    client: &'a Client,
    response: Response,
}

impl Download<'_> {
    /// The next piece of the body; `None` at the end.
    ///
    /// # Errors
    /// If the connection breaks off; the body is then incomplete.
    pub async fn next(&mut self) -> std::result::Result<Option<Vec<u8>>, ServiceError> {
        let (client, response) = (self.client, &mut self.response);
        let read = async { response.next_piece().await.map_err(|error| client.failed(error)) };
        Ok(client.unless_cancelled(read).await?.map(|piece| piece.to_vec()))
    }
}

/// The pause before another attempt; `None` if another would not help or is not safe.
fn pause_after(error: &ServiceError, request: &ApiRequest<'_>, tried: u32) -> Option<Duration> {
    let backoff = Duration::from_millis(250 << tried.min(6));
    match error {
        ServiceError::Problem { problem, retry_after, .. } => match problem.code {
            // The service has not begun, and asks for a repetition.
            ProblemCode::TooManyRequests
            | ProblemCode::Stopping
            | ProblemCode::AuditUnavailable
            | ProblemCode::StoreUnavailable
            | ProblemCode::DirectoryUnavailable
            | ProblemCode::AwsUnavailable
            | ProblemCode::Busy
                if request.is_safe_to_repeat() || problem.code == ProblemCode::TooManyRequests =>
            {
                match retry_after {
                    Some(seconds) if *seconds > MAX_RETRY_AFTER_SECONDS => None,
                    Some(seconds) => Some(Duration::from_secs(u64::from(*seconds)).max(backoff / 2)),
                    None => Some(backoff),
                }
            }
            _ => None,
        },
        // The service may be restarting.
        ServiceError::Unreachable { .. } => Some(backoff),
        ServiceError::ConnectionLost { .. } if request.is_safe_to_repeat() => Some(backoff),
        _ => None,
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.eq_ignore_ascii_case("application/problem+json")
}

fn to_json(value: &impl Serialize) -> Zeroizing<Vec<u8>> {
    // These types always serialize; an empty body would be refused, not misread.
    Zeroizing::new(serde_json::to_vec(value).unwrap_or_default())
}

/// A new idempotency key.
pub fn new_key() -> String {
    let mut bytes = [0; 18];
    // Without randomness two keys would be equal, and the service would report that.
    let _ = rand::fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Percent-encodes all but RFC 3986's unreserved characters, for a path segment or a value in a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// `?name=value&...` with the values that are there.
pub fn query(fields: &[(&str, Option<&str>)]) -> String {
    let fields = fields.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded((*value)?))));
    let fields: Vec<String> = fields.collect();
    if fields.is_empty() { String::new() } else { format!("?{}", fields.join("&")) }
}
