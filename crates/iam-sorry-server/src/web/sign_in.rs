//! Signing in and out.

use axum::extract::Query;
use axum::response::Response;
use http::header;
use iam_sorry_core::api::{LdapLogin, ProblemCode};
use iam_sorry_core::identity::Via;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::context::{PageContext, SignedIn};
use super::cookies::Cookie;
use super::forms::Sent;
use super::responses::{self, Answer};
use super::urls;
use super::views::{DevSignInPage, OfferCard, OfferStep, Section, SignInPage, SignedOutPage};
use crate::error::ServiceError;
use crate::login::source::{Dialogue, Offer};
use crate::sessions::NewSession;

/// `?next=` of the sign-in page.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct SignInQuery {
    next: String,
}

/// `?token=` of the development link.
#[derive(Deserialize)]
pub(super) struct LinkQuery {
    token: String,
}

/// `GET /sign-in`.
pub(super) async fn show(context: PageContext, Query(query): Query<SignInQuery>) -> Answer {
    let next = urls::local(&query.next);
    if context.caller().is_some() {
        return Ok(responses::go(next));
    }
    responses::page(&form(&context, next, "", None)?)
}

/// `POST /sign-in`. What was refused is told on the page itself, with the name still there.
pub(super) async fn sign_in(context: PageContext, sent: Sent) -> Answer {
    let next = urls::local(sent.text("next"));
    let login = LdapLogin {
        username: sent.text("username").to_owned(),
        password: SecretString::from(sent.text("password")),
    };
    match context.service().sign_in_ldap(context.source(), Via::Browser, login).await {
        Ok(session) => enter(&context, &session, next),
        Err(refusal) => {
            let again = [
                ProblemCode::SignInRefused,
                ProblemCode::BadRequest,
                ProblemCode::TooManyRequests,
                ProblemCode::DirectoryUnavailable,
            ];
            if !again.contains(&refusal.code) {
                return Err(refusal);
            }
            let page = form(&context, next, sent.text("username"), Some(&refusal))?;
            let mut response = responses::page_with(refusal.code, &page)?;
            if let Some(seconds) = refusal.retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            Ok(response)
        }
    }
}

/// `GET /sign-in/dev`: asks first, so that nothing that only looks at links uses it up (CVE-2026-33757).
pub(super) async fn show_link(context: PageContext, Query(query): Query<LinkQuery>) -> Answer {
    let mut frame = context.frame("Sign in", Section::None)?;
    frame.narrow = true;
    responses::page(&DevSignInPage { frame, token: Zeroizing::new(query.token) })
}

/// `POST /sign-in/dev`.
pub(super) async fn use_link(context: PageContext, sent: Sent) -> Answer {
    let link = SecretString::from(sent.text("token"));
    let session = context.service().sign_in_dev(context.source(), &link).await?;
    enter(&context, &session, urls::HOME)
}

/// `POST /sign-out`.
pub(super) async fn sign_out(signed: SignedIn, _sent: Sent) -> Answer {
    signed.context.service().sign_out(&signed.caller).await?;
    let mut response = responses::go("/signed-out");
    let cleared = signed.context.site().cookies().clear(Cookie::Session);
    cleared.map(|value| response.headers_mut().append(header::SET_COOKIE, value));
    Ok(response)
}

/// `GET /signed-out`.
pub(super) async fn signed_out(context: PageContext) -> Answer {
    if context.caller().is_some() {
        return Ok(responses::go(urls::HOME));
    }
    responses::page(&SignedOutPage { frame: context.frame("Signed out", Section::None)? })
}

/// The new session's cookie. The token is always a new one, whatever cookie the browser had before (session fixation).
fn enter(context: &PageContext, session: &NewSession, next: &str) -> Result<Response, ServiceError> {
    let cookies = context.site().cookies();
    let token = session.answer.token.expose_secret();
    let Some(cookie) = cookies.set(Cookie::Session, token, None) else {
        tracing::error!("a session token does not fit a cookie");
        return Err(ServiceError::new(ProblemCode::Internal, "The service could not open the session."));
    };
    let mut response = responses::go(next);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    cookies.clear(Cookie::Before).map(|value| response.headers_mut().append(header::SET_COOKIE, value));
    Ok(response)
}

fn form(
    context: &PageContext,
    next: &str,
    username: &str,
    refusal: Option<&ServiceError>,
) -> Result<SignInPage, ServiceError> {
    let origin = context.site().origin().as_str();
    let dialogues = context.service().login_methods().dialogues();
    Ok(SignInPage {
        frame: context.frame("Sign in", Section::None)?,
        problem: refusal.map(|refusal| refusal.detail.clone()),
        username: username.to_owned(),
        next: next.to_owned(),
        offers: dialogues.filter_map(|(offer, dialogue)| card(offer, &dialogue, origin)).collect(),
    })
}

/// None: it begins elsewhere.
fn card(offer: Offer, dialogue: &Dialogue<'_>, origin: &str) -> Option<OfferCard> {
    let step = match dialogue {
        Dialogue::Password(_) => OfferStep::Password,
        Dialogue::Challenge { arguments } => {
            let command = format!("iam-sorry login {origin} {}", (*arguments)?);
            OfferStep::Command(command.trim_end().to_owned())
        }
        Dialogue::Redirect { start, .. } => OfferStep::Provider(start.clone()),
    };
    Some(OfferCard { id: offer.id, label: offer.label, step })
}
