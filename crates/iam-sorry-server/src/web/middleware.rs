//! Around every page: the session is looked up, the handler answers, whatever went wrong becomes a page, and everything gets
//! the security headers.

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use iam_sorry_core::api::ProblemCode;
use secrecy::ExposeSecret;

use super::context::{PageContext, Place, Site};
use super::cookies::Cookie;
use super::security_headers::harden;
use super::views::Flash;
use super::{responses, tokens};
use crate::error::ServiceError;
use crate::http::RequestContext;

/// Around every page.
pub(super) async fn around(
    State(site): State<Site>,
    Extension(request_context): Extension<Arc<RequestContext>>,
    mut request: Request,
    next: Next,
) -> Response {
    let place = Place::of(&request);
    let (cookies, policy) = (site.cookies().clone(), site.policy().clone());
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
        let value = cookies.set(Cookie::Before, context.secret().expose_secret(), None);
        value.map(|value| headers.append(header::SET_COOKIE, value));
    }
    if had_note && shows_page {
        cookies.clear(Cookie::Flash).map(|value| headers.append(header::SET_COOKIE, value));
    }
    harden(headers, &policy);
    response
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
        PageContext::new(site.clone(), source, caller, secret, note)
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
        None => match tokens::random() {
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
