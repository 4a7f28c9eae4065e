//! What a page knows of its request: the site, who visits, and what the form or page before it did.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Extensions, HeaderValue, Method, StatusCode};
use iam_sorry_core::api::ProblemCode;
use iam_sorry_core::ids::{AccountName, UserRef};
use iam_sorry_core::ssh::login::Origin;
use secrecy::{ExposeSecret, SecretString};

use super::cookies::{Cookie, Cookies};
use super::views::{Flash, Frame, Section};
use super::{assets, security_headers, tokens};
use crate::caller::{Caller, RequestSource};
use crate::error::ServiceError;
use crate::service::Service;

/// What the pages need to know of the service.
#[derive(Clone)]
pub struct Site {
    /// The service.
    pub service: Service,
    origin: Origin,
    cookies: Cookies,
    policy: HeaderValue,
}

impl Site {
    /// For a service that people reach at `origin`.
    pub fn new(service: Service, origin: Origin) -> Self {
        let cookies = Cookies::new(&origin);
        // An origin has no character that a header may not have.
        let policy = security_headers::policy(&service.login_methods().leads_to());
        let policy = policy.unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { service, origin, cookies, policy }
    }

    /// Where people reach it.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The Content-Security-Policy of its pages.
    pub fn policy(&self) -> &HeaderValue {
        &self.policy
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
    /// `secret`: what forms and flash messages are bound to.
    pub(super) fn new(
        site: Site,
        source: RequestSource,
        caller: Option<Caller>,
        secret: SecretString,
        note: Option<Flash>,
    ) -> Self {
        Self(Arc::new(Inner { site, source, caller, secret, note }))
    }

    /// What the cookies of this browser hold while nobody is signed in.
    pub(super) fn secret(&self) -> &SecretString {
        &self.0.secret
    }

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
            None => tokens::vouched(self.0.secret.expose_secret(), "form", "", token),
        }
    }

    fn form_token(&self) -> String {
        let secret = self.0.secret.expose_secret();
        match &self.0.caller {
            Some(_) => crate::sessions::secrets::form_secret(secret).expose_secret().to_owned(),
            None => tokens::vouch(secret, "form", ""),
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
            key: tokens::random()?,
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

impl SignedIn {
    /// The user that a page is about, as its address names it: `NAME`, or `ACCOUNT/NAME`.
    ///
    /// # Errors
    /// invalid-name; not-found for an account that the service does not have.
    pub fn user(&self, name: &str) -> Result<UserRef, ServiceError> {
        self.context.service().user_ref(name)
    }

    /// What pages call a user of this name in this account.
    pub fn label(&self, account: &AccountName, name: &str) -> String {
        match self.context.service().first_account() == account {
            true => name.to_owned(),
            false => format!("{account}/{name}"),
        }
    }
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

/// Where the request wanted to go: what a problem's page leads back to.
pub(super) struct Place {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) path_and_query: String,
}

impl Place {
    pub(super) fn of(request: &Request) -> Self {
        let uri = request.uri();
        Self {
            method: request.method().clone(),
            path: uri.path().to_owned(),
            path_and_query: uri.path_and_query().map_or("/", |both| both.as_str()).to_owned(),
        }
    }
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
