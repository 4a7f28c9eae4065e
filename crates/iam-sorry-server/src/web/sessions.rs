//! Where one is signed in, and the SSH keys that sign one in.

use axum::extract::Query;
use http::header;
use iam_sorry_core::api::{PageQuery, SessionInfo, SshKeyInfo};
use serde::Deserialize;

use super::context::SignedIn;
use super::cookies::Cookie;
use super::forms::Sent;
use super::responses::{self, Answer};
use super::urls;
use super::views::{Flash, Link, Moment, RegisterKeyPage, Section, SessionRow, SessionsPage, SshKeyRow};
use crate::sessions::ssh_keys::PastedSignature;

/// The query of the page.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct SessionsQuery {
    cursor: Option<String>,
    all: bool,
}

/// `GET /sessions`.
pub(super) async fn show(signed: SignedIn, Query(query): Query<SessionsQuery>) -> Answer {
    let (service, caller) = (signed.context.service(), &signed.caller);
    let all = query.all;
    let page = PageQuery { cursor: query.cursor, limit: Some(100), all };
    let sessions = service.list_sessions(caller, page).await?;
    let keys = service.list_ssh_keys(caller).await?;
    let auditor = service.me(caller).await?.auditor;
    let link = |href: &str, label: &str| Link { href: href.to_owned(), label: label.to_owned() };
    let next = sessions.next.map(|cursor| format!("/sessions?all={all}&cursor={}", urls::encode(&cursor)));
    responses::page(&SessionsPage {
        frame: signed.context.frame("Sessions", Section::Sessions)?,
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
    signed.context.service().end_session(&signed.caller, id).await?;
    if id == signed.caller.session.id {
        let mut response = responses::go("/signed-out");
        let cleared = signed.context.site().cookies().clear(Cookie::Session);
        cleared.map(|value| response.headers_mut().append(header::SET_COOKIE, value));
        return Ok(response);
    }
    Ok(responses::go_saying(&signed.context, "/sessions", &Flash::plain("The session was ended.")))
}

/// `POST /sessions/ssh-keys`: a browser can't sign with an SSH key, so the page shows what is to be signed, and takes the
/// signature.
pub(super) async fn register_key(signed: SignedIn, sent: Sent) -> Answer {
    let line = sent.text("public_key").trim();
    let by_hand = signed.context.service().registration_by_hand(&signed.caller, line).await?;
    let command = format!(
        "ssh-keygen -Y sign -n {} -f ~/.ssh/id_ed25519 <<'END'\n{}END",
        by_hand.namespace, by_hand.text
    );
    responses::page(&RegisterKeyPage {
        frame: signed.context.frame("Register an SSH key", Section::Sessions)?,
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
    let key = signed.context.service().register_by_hand(&signed.caller, &pasted).await?;
    let note = Flash::plain(format!("The key {} may sign you in now.", key.fingerprint));
    Ok(responses::go_saying(&signed.context, "/sessions", &note))
}

/// `POST /sessions/ssh-keys/remove`.
pub(super) async fn remove_key(signed: SignedIn, sent: Sent) -> Answer {
    let fingerprint = sent.text("fingerprint");
    signed.context.service().remove_ssh_key(&signed.caller, fingerprint).await?;
    let note = Flash::plain(format!("The key {fingerprint} signs nobody in any more."));
    Ok(responses::go_saying(&signed.context, "/sessions", &note))
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
