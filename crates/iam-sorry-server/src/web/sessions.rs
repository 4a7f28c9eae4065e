//! Where one is signed in, and the SSH keys that sign one in.

use axum::extract::Query;
use http::header;
use iam_sorry_core::api::{PageQuery, RegisterSshKey, SessionInfo, SshKeyInfo};
use serde::Deserialize;

use super::answers::{self, Answer};
use super::cookies::Cookie;
use super::forms::Sent;
use super::places;
use super::views::{Link, Moment, Note, Section, SessionRow, SessionsPage, SshKeyRow};
use super::visit::SignedIn;

/// The query of the page.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct SessionsQuery {
    cursor: Option<String>,
    all: bool,
}

/// `GET /sessions`.
pub(super) async fn show(signed: SignedIn, Query(query): Query<SessionsQuery>) -> Answer {
    let (service, caller) = (signed.visit.service(), &signed.caller);
    let all = query.all;
    let page = PageQuery { cursor: query.cursor, limit: Some(100), all };
    let sessions = service.list_sessions(caller, page).await?;
    let keys = service.list_ssh_keys(caller).await?;
    let auditor = service.me(caller).await?.auditor;
    let link = |href: &str, label: &str| Link { href: href.to_owned(), label: label.to_owned() };
    let next = sessions.next.map(|cursor| format!("/sessions?all={all}&cursor={}", places::encode(&cursor)));
    answers::page(&SessionsPage {
        frame: signed.visit.frame("Sessions", Section::Sessions)?,
        everybody: all,
        sessions: sessions.items.into_iter().map(SessionRow::from).collect(),
        next,
        // Who oversees the audit mostly oversees sessions too; the rules decide when the link is used.
        switch: match all {
            true => Some(link("/sessions", "Only mine")),
            false => auditor.then(|| link("/sessions?all=true", "Everybody's sessions")),
        },
        keys: keys.into_iter().map(SshKeyRow::from).collect(),
    })
}

/// `POST /sessions/end`. Ending the session in use is signing out.
pub(super) async fn end(signed: SignedIn, sent: Sent) -> Answer {
    let id = sent.text("id");
    signed.visit.service().end_session(&signed.caller, id).await?;
    if id == signed.caller.session.id {
        let mut response = answers::go("/signed-out");
        let cleared = signed.visit.site().cookies().clear(Cookie::Session);
        cleared.map(|value| response.headers_mut().append(header::SET_COOKIE, value));
        return Ok(response);
    }
    Ok(answers::go_saying(&signed.visit, "/sessions", &Note::plain("The session was ended.")))
}

/// `POST /sessions/ssh-keys`.
pub(super) async fn register_key(signed: SignedIn, sent: Sent) -> Answer {
    let request = RegisterSshKey { public_key: sent.text("public_key").trim().to_owned() };
    let key = signed.visit.service().register_ssh_key(&signed.caller, request).await?;
    let note = Note::plain(format!("The key {} may sign you in now.", key.fingerprint));
    Ok(answers::go_saying(&signed.visit, "/sessions", &note))
}

/// `POST /sessions/ssh-keys/remove`.
pub(super) async fn remove_key(signed: SignedIn, sent: Sent) -> Answer {
    let fingerprint = sent.text("fingerprint");
    signed.visit.service().remove_ssh_key(&signed.caller, fingerprint).await?;
    let note = Note::plain(format!("The key {fingerprint} signs nobody in any more."));
    Ok(answers::go_saying(&signed.visit, "/sessions", &note))
}

impl From<SessionInfo> for SessionRow {
    fn from(session: SessionInfo) -> Self {
        Self {
            method: session.method.to_string(),
            signed_in: Moment::parse(&session.signed_in_at),
            last_used: Moment::parse(&session.last_used_at),
            ends: Moment::parse(&session.expires_at),
            id: session.id,
            name: session.name,
            address: session.address,
            current: session.current,
        }
    }
}

impl From<SshKeyInfo> for SshKeyRow {
    fn from(key: SshKeyInfo) -> Self {
        Self {
            fingerprint: key.fingerprint,
            comment: key.comment,
            registered: Moment::parse(&key.registered_at),
        }
    }
}
