//! Where one is signed in, and the SSH keys that sign one in.

use axum::extract::Query;
use http::header;
use iam_sorry_core::api::{PageQuery, SessionInfo, SshKeyInfo};
use serde::Deserialize;

use super::answers::{self, Answer};
use super::cookies::Cookie;
use super::forms::Sent;
use super::places;
use super::views::{Link, Moment, Note, RegisterKeyPage, Section, SessionRow, SessionsPage, SshKeyRow};
use super::visit::SignedIn;
use crate::services::PastedSignature;

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
        may_register: service.may_register_ssh_keys(caller),
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

/// `POST /sessions/ssh-keys`: a browser can't sign with an SSH key, so the page shows what is to be signed, and takes the
/// signature.
pub(super) async fn register_key(signed: SignedIn, sent: Sent) -> Answer {
    let line = sent.text("public_key").trim();
    let by_hand = signed.visit.service().registration_by_hand(&signed.caller, line).await?;
    let command = format!(
        "ssh-keygen -Y sign -n {} -f ~/.ssh/id_ed25519 <<'END'\n{}END",
        by_hand.namespace, by_hand.text
    );
    answers::page(&RegisterKeyPage {
        frame: signed.visit.frame("Register an SSH key", Section::Sessions)?,
        command,
        nonce: by_hand.nonce,
        public_key: by_hand.public_key,
        expires: Moment::parse(&by_hand.expires_at),
    })
}

/// `POST /sessions/ssh-keys/signed`.
pub(super) async fn register_signed_key(signed: SignedIn, sent: Sent) -> Answer {
    let pasted = PastedSignature {
        public_key: sent.text("public_key").to_owned(),
        nonce: sent.text("nonce").to_owned(),
        armour: sent.text("signature").to_owned(),
    };
    let key = signed.visit.service().register_by_hand(&signed.caller, &pasted).await?;
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
            registered_by: key.registered_by.map(|by| by.to_string()),
        }
    }
}
