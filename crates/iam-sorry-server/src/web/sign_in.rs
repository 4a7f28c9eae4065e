//! Signing in and out.

use axum::extract::Query;
use axum::response::Response;
use http::header;
use iam_sorry_core::api::{LdapLogin, ProblemCode};
use iam_sorry_core::identity::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::answers::{self, Answer};
use super::cookies::Cookie;
use super::forms::Sent;
use super::places;
use super::views::{DevSignInPage, Section, SignInPage, SignedOutPage};
use super::visit::{SignedIn, Visit};
use crate::services::{NewSession, Refusal};

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
pub(super) async fn show(visit: Visit, Query(query): Query<SignInQuery>) -> Answer {
    let next = places::local(&query.next);
    if visit.caller().is_some() {
        return Ok(answers::go(next));
    }
    answers::page(&form(&visit, next, "", None)?)
}

/// `POST /sign-in`. What was refused is told on the page itself, with the name still there.
pub(super) async fn sign_in(visit: Visit, sent: Sent) -> Answer {
    let next = places::local(sent.text("next"));
    let login = LdapLogin {
        username: sent.text("username").to_owned(),
        password: SecretString::from(sent.text("password")),
    };
    match visit.service().sign_in_ldap(visit.origin(), login).await {
        Ok(session) => enter(&visit, &session, next),
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
            let page = form(&visit, next, sent.text("username"), Some(&refusal))?;
            let mut response = answers::page_with(refusal.code, &page)?;
            if let Some(seconds) = refusal.retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            Ok(response)
        }
    }
}

/// `GET /sign-in/dev`: asks first, so that nothing that only looks at links uses it up (CVE-2026-33757).
pub(super) async fn show_link(visit: Visit, Query(query): Query<LinkQuery>) -> Answer {
    let mut frame = visit.frame("Sign in", Section::None)?;
    frame.narrow = true;
    answers::page(&DevSignInPage { frame, token: Zeroizing::new(query.token) })
}

/// `POST /sign-in/dev`.
pub(super) async fn use_link(visit: Visit, sent: Sent) -> Answer {
    let link = SecretString::from(sent.text("token"));
    let session = visit.service().sign_in_dev(visit.origin(), &link).await?;
    enter(&visit, &session, places::HOME)
}

/// `POST /sign-out`.
pub(super) async fn sign_out(signed: SignedIn, _sent: Sent) -> Answer {
    signed.visit.service().sign_out(&signed.caller).await?;
    let mut response = answers::go("/signed-out");
    let cleared = signed.visit.site().cookies().clear(Cookie::Session);
    cleared.map(|value| response.headers_mut().append(header::SET_COOKIE, value));
    Ok(response)
}

/// `GET /signed-out`.
pub(super) async fn signed_out(visit: Visit) -> Answer {
    if visit.caller().is_some() {
        return Ok(answers::go(places::HOME));
    }
    answers::page(&SignedOutPage { frame: visit.frame("Signed out", Section::None)? })
}

/// The new session's cookie. The token is always a new one, whatever cookie the browser had before (session fixation).
fn enter(visit: &Visit, session: &NewSession, next: &str) -> Result<Response, Refusal> {
    let cookies = visit.site().cookies();
    let token = session.answer.token.expose_secret();
    let Some(cookie) = cookies.set(Cookie::Session, token, None) else {
        tracing::error!("a session token does not fit a cookie");
        return Err(Refusal::new(ProblemCode::Internal, "The service could not open the session."));
    };
    let mut response = answers::go(next);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    cookies.clear(Cookie::Before).map(|value| response.headers_mut().append(header::SET_COOKIE, value));
    Ok(response)
}

fn form(visit: &Visit, next: &str, username: &str, refusal: Option<&Refusal>) -> Result<SignInPage, Refusal> {
    let methods = visit.service().service_info()?.methods;
    Ok(SignInPage {
        frame: visit.frame("Sign in", Section::None)?,
        problem: refusal.map(|refusal| refusal.detail.clone()),
        username: username.to_owned(),
        next: next.to_owned(),
        origin: visit.site().origin().as_str().to_owned(),
        password: methods.contains(&Method::Ldap),
        ssh_key: methods.contains(&Method::SshKey),
    })
}
