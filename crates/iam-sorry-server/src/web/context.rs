//! Around every page: who visits, what the page may rely on, and what the browser is told.
//!
//! One middleware looks the session up, lets the handler answer, turns whatever went wrong into a page, and puts the
//! security headers on everything.

use std::sync::Arc;

use axum::extract::{Extension, FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use iam_sorry_core::api::ProblemCode;
use iam_sorry_core::ssh::login::Origin;
use secrecy::{ExposeSecret, SecretString};

use super::cookies::{Cookie, Cookies};
use super::views::{Flash, Frame, Section};
use super::{assets, forms, responses};
use crate::caller::{Caller, RequestSource};
use crate::error::ServiceError;
use crate::http::RequestContext;
use crate::service::Service;

/// What the pages need to know of the service.
#[derive(Clone)]
pub struct Site {
    /// The service.
    pub service: Service,
    origin: Origin,
    cookies: Cookies,
}

impl Site {
    /// For a service that people reach at `origin`.
    pub fn new(service: Service, origin: Origin) -> Self {
        let cookies = Cookies::new(&origin);
        Self { service, origin, cookies }
    }

    /// Where people reach it.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How its cookies are called.
    pub fn cookies(&self) -> &Cookies {
        &self.cookies
    }
}

/// One request for a page.
#[derive(Clone)]
pub struct PageContext(Arc<Inner>);

struct Inner {
    site: Site,
    source: RequestSource,
    caller: Option<Caller>,
    /// The session's token, or the random value before there is one: what forms and notes are bound to.
    secret: SecretString,
    note: Option<Flash>,
}

impl PageContext {
    /// The visit that a request belongs to.
    pub(super) fn of(extensions: &Extensions) -> Result<Self, ServiceError> {
        extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!("a page was routed around its middleware");
            ServiceError::new(ProblemCode::Internal, "The service could not make this page.")
        })
    }

    /// The site.
    pub fn site(&self) -> &Site {
        &self.0.site
    }

    /// The service.
    pub fn service(&self) -> &Service {
        &self.0.site.service
    }

    /// Where the request came from.
    pub fn source(&self) -> &RequestSource {
        &self.0.source
    }

    /// Who is signed in.
    pub fn caller(&self) -> Option<&Caller> {
        self.0.caller.as_ref()
    }

    /// A form's token is this browser's; takes the same time whatever is wrong.
    pub fn sent_form(&self, token: &str) -> bool {
        match &self.0.caller {
            Some(caller) => caller.sent_form(token),
            None => forms::vouched(self.0.secret.expose_secret(), "form", "", token),
        }
    }

    fn form_token(&self) -> String {
        let secret = self.0.secret.expose_secret();
        match &self.0.caller {
            Some(_) => crate::sessions::session::form_secret(secret).expose_secret().to_owned(),
            None => forms::vouch(secret, "form", ""),
        }
    }

    /// What goes around a page.
    ///
    /// # Errors
    /// internal, where the system gives no random bytes.
    pub fn frame(&self, title: impl Into<String>, section: Section) -> Result<Frame, ServiceError> {
        let info = self.service().service_info()?;
        Ok(Frame {
            service: info.name,
            version: env!("CARGO_PKG_VERSION"),
            style: assets::style_path(),
            title: title.into(),
            section,
            narrow: self.caller().is_none(),
            person: self.caller().map(|caller| caller.identity.name.clone()),
            form_token: self.form_token(),
            key: forms::random()?,
            note: self.0.note.clone(),
        })
    }

    /// A note for the page that comes next, as a cookie.
    pub(super) fn note_cookie(&self, note: &Flash) -> Option<HeaderValue> {
        let packed = note.pack(self.0.secret.expose_secret())?;
        self.site().cookies().set(Cookie::Flash, &packed, Some(60))
    }
}

/// A visit by somebody who is signed in. Anybody else is sent to sign in.
pub struct SignedIn {
    /// The visit.
    pub context: PageContext,
    /// Who.
    pub caller: Caller,
}

impl<S: Send + Sync> FromRequestParts<S> for SignedIn {
    type Rejection = ServiceError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ServiceError> {
        let context = PageContext::of(&parts.extensions)?;
        match context.caller().cloned() {
            Some(caller) => Ok(Self { context, caller }),
            None => Err(ServiceError::new(
                ProblemCode::SignInNeeded,
                "You are not signed in, or the session is over. Nothing was done.",
            )),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PageContext {
    type Rejection = ServiceError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ServiceError> {
        Self::of(&parts.extensions)
    }
}

/// Around every page.
pub(super) async fn around(
    State(site): State<Site>,
    Extension(request_context): Extension<Arc<RequestContext>>,
    mut request: Request,
    next: Next,
) -> Response {
    let place = Place::of(&request);
    let cookies = site.cookies().clone();
    let had_note = cookies.read(request.headers(), Cookie::Flash).is_some();
    let (context, trouble) = look_up(site, &request_context, request.headers()).await;
    let fresh = context.caller().is_none() && cookies.read(request.headers(), Cookie::Before).is_none();
    request.extensions_mut().insert(context.clone());
    let mut response = match trouble {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    if let Some(refusal) = what_went_wrong(&mut response) {
        response = responses::problem(&context, &place, refusal);
    }
    let headers = response.headers_mut();
    let shows_page = headers.get(header::CONTENT_TYPE).is_some();
    if fresh && shows_page {
        let value = cookies.set(Cookie::Before, context.0.secret.expose_secret(), None);
        value.map(|value| headers.append(header::SET_COOKIE, value));
    }
    if had_note && shows_page {
        cookies.clear(Cookie::Flash).map(|value| headers.append(header::SET_COOKIE, value));
    }
    harden(headers);
    response
}

/// Where the request wanted to go: what a problem's page leads back to.
pub(super) struct Place {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) path_and_query: String,
}

impl Place {
    fn of(request: &Request) -> Self {
        let uri = request.uri();
        Self {
            method: request.method().clone(),
            path: uri.path().to_owned(),
            path_and_query: uri.path_and_query().map_or("/", |both| both.as_str()).to_owned(),
        }
    }
}

/// The session behind the cookie. A cookie without a session is a visit before signing in, and so is trouble with the
/// database, which then is the answer.
async fn look_up(
    site: Site,
    request_context: &RequestContext,
    headers: &HeaderMap,
) -> (PageContext, Option<ServiceError>) {
    let cookies = site.cookies().clone();
    let context = |caller, secret, note| {
        let source = request_context.source.clone();
        PageContext(Arc::new(Inner { site: site.clone(), source, caller, secret, note }))
    };
    let mut trouble = None;
    if let Some(token) = cookies.read(headers, Cookie::Session) {
        match site.service.caller_by_token(request_context.source.clone(), token).await {
            Ok(caller) => {
                let trouble = request_context.signed_in(&caller).err();
                let note =
                    cookies.read(headers, Cookie::Flash).and_then(|cookie| Flash::unpack(token, cookie));
                return (context(Some(caller), token.into(), note), trouble);
            }
            Err(refusal) if refusal.code == ProblemCode::SignInNeeded => {}
            Err(refusal) => trouble = Some(refusal),
        }
    }
    let secret = match cookies.read(headers, Cookie::Before) {
        Some(value) => value.to_owned(),
        None => match forms::random() {
            Ok(value) => value,
            Err(refusal) => {
                trouble = Some(refusal);
                String::new()
            }
        },
    };
    (context(None, secret.into(), None), trouble)
}

/// The refusal that a handler or an extractor gave, or what axum's own answers mean.
fn what_went_wrong(response: &mut Response) -> Option<ServiceError> {
    if let Some(refusal) = response.extensions_mut().remove::<ServiceError>() {
        return Some(refusal);
    }
    let wrong = |code, text: &str| Some(ServiceError::new(code, text));
    match response.status() {
        StatusCode::METHOD_NOT_ALLOWED => wrong(
            ProblemCode::MethodNotAllowed,
            "This page can't be used in this way.\nGo to it by a link of ours.",
        ),
        status
            if status.is_client_error()
                && response.headers().get(header::CONTENT_TYPE).is_none_or(is_text) =>
        {
            wrong(ProblemCode::BadRequest, "The request is not of its form.")
        }
        _ => None,
    }
}

fn is_text(kind: &HeaderValue) -> bool {
    kind.as_bytes().starts_with(b"text/plain")
}

/// A refusal as a response: the middleware makes a page of it, knowing who visits.
impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The headers that keep browsers from doing more than showing the page; the boundary has those that are the same for
/// the API.
///
/// The referrer policy is same-origin and not no-referrer: both tell other sites nothing, but under the latter browsers
/// send `Origin: null` with our own forms (Fetch, "append a request Origin header").
pub(super) fn harden(headers: &mut HeaderMap) {
    let policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                  frame-ancestors 'none'; base-uri 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
