//! Sessions: how long they last, who sees and ends them, and that nothing stored opens one.

use std::time::{Duration, Instant};

use iam_sorry_core::api::{PageQuery, ProblemCode};
use iam_sorry_core::audit::{Decision, Outcome};
use iam_sorry_server::caller::Caller;
use iam_sorry_server::sessions::NewSession;
use iam_sorry_server::sessions::secrets::form_secret;
use secrecy::ExposeSecret;

use crate::rig::{HERE, OpenSshKey, Rig, origin};

/// Ada, bob, and hal, who is at the help desk and may end everybody's sessions by the rules.
struct People {
    rig: Rig,
    ada: OpenSshKey,
    bob: OpenSshKey,
    hal: OpenSshKey,
}

fn people() -> People {
    let [ada, bob, hal] = [(); 3].map(|()| OpenSshKey::new("ed25519"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("people.toml");
    let entry = |name: &str, group: &str, key: &OpenSshKey| {
        format!("[[people]]\nname = \"{name}\"\ngroups = [\"{group}\"]\nkeys = [\"{}\"]\n", key.line)
    };
    let text = [entry("ada", "physics", &ada), entry("bob", "physics", &bob), entry("hal", "helpdesk", &hal)];
    std::fs::write(&file, text.concat()).unwrap();
    let rig = Rig::with(&settings(&file), folder, |methods| methods);
    People { rig, ada, bob, hal }
}

fn settings(file: &std::path::Path) -> String {
    format!("[ssh]\nfile = {file:?}\n[limits]\nrefusal_milliseconds = 0\n")
}

impl People {
    async fn signed_in(&self, key: &OpenSshKey) -> (NewSession, Caller) {
        let session = self.rig.by_key(key).await.unwrap();
        let caller = self.rig.caller(&session).await.unwrap();
        (session, caller)
    }
}

async fn ended(rig: &Rig, session: &NewSession) -> bool {
    match rig.caller(session).await {
        Ok(_) => false,
        Err(refusal) => {
            assert_eq!(refusal.code, ProblemCode::SignInNeeded);
            assert!(
                refusal.detail.contains("iam-sorry login https://keys.example.edu"),
                "{}",
                refusal.detail
            );
            true
        }
    }
}

#[tokio::test]
async fn a_session_ends_when_idle_and_at_the_latest_after_its_longest_time() {
    let all = people();
    let (idle, _) = all.signed_in(&all.ada).await;
    all.rig.wait(119 * 60);
    assert!(!ended(&all.rig, &idle).await);
    all.rig.wait(119 * 60);
    assert!(!ended(&all.rig, &idle).await, "it was used in between");
    all.rig.wait(121 * 60);
    assert!(ended(&all.rig, &idle).await);

    let (busy, _) = all.signed_in(&all.ada).await;
    for _ in 0..11 {
        all.rig.wait(3600);
        assert!(!ended(&all.rig, &busy).await);
    }
    all.rig.wait(3601);
    assert!(ended(&all.rig, &busy).await);

    // The clock is set back by a day: sessions from the future are none.
    let (future, _) = all.signed_in(&all.ada).await;
    all.rig.wait(-86_400);
    assert!(ended(&all.rig, &future).await);
    all.rig.wait(86_400 * 2);
    assert_eq!(all.rig.service.sweep_sessions().await.unwrap(), 3);
}

#[tokio::test]
async fn what_is_no_token_opens_nothing() {
    let all = people();
    let (session, _) = all.signed_in(&all.ada).await;
    let token = session.answer.token.expose_secret().to_owned();
    assert!(token.starts_with("iss_") && token.len() == 47, "256 bits");
    let mut other = token.clone();
    other.replace_range(10..11, if &token[10..11] == "A" { "B" } else { "A" });
    for wrong in ["", "iss_", &token[..46], &format!("{token} "), &other, &session.id, &token.to_uppercase()]
    {
        let refusal = all.rig.service.caller_by_token(origin(HERE), wrong).await.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::SignInNeeded);
    }
    assert_ne!(all.signed_in(&all.ada).await.0.answer.token.expose_secret(), &token, "never the same again");
}

#[tokio::test]
async fn forms_carry_a_secret_of_their_session() {
    let all = people();
    let (mine, caller) = all.signed_in(&all.ada).await;
    let (other, _) = all.signed_in(&all.bob).await;
    let secret = form_secret(mine.answer.token.expose_secret());
    assert!(caller.sent_form(secret.expose_secret()));
    let foreign = form_secret(other.answer.token.expose_secret());
    for wrong in ["", foreign.expose_secret(), mine.answer.token.expose_secret()] {
        assert!(!caller.sent_form(wrong));
    }
    // Neither token nor form secret can be made of what is stored.
    let mut written = std::fs::read(all.rig.folder.path().join("store.db")).unwrap();
    written.extend(std::fs::read(all.rig.folder.path().join("store.db-wal")).unwrap_or_default());
    for secret in [mine.answer.token.expose_secret(), secret.expose_secret()] {
        assert!(!written.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}

#[tokio::test]
async fn whoever_signs_out_is_out_here_at_once_and_elsewhere_in_seconds() {
    let all = people();
    let elsewhere = all.rig.second(&settings(&all.rig.folder.path().join("people.toml")));
    let (session, caller) = all.signed_in(&all.ada).await;
    let (kept, _) = all.signed_in(&all.ada).await;
    let token = session.answer.token.expose_secret();
    assert!(elsewhere.caller_by_token(origin(HERE), token).await.is_ok(), "now it remembers");
    all.rig.service.sign_out(&caller).await.unwrap();
    assert!(ended(&all.rig, &session).await);
    let start = Instant::now();
    while elsewhere.caller_by_token(origin(HERE), token).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10), "it never forgets");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!ended(&all.rig, &kept).await, "the other one stays");
    assert_eq!(all.rig.trail().await[0].action, "sign-out");
    all.rig.service.sign_out(&caller).await.unwrap();
}

#[tokio::test]
async fn people_see_and_end_their_own_sessions_and_only_the_help_desk_others() {
    let all = people();
    let (ada_session, ada) = all.signed_in(&all.ada).await;
    let (_, bob) = all.signed_in(&all.bob).await;
    let (_, hal) = all.signed_in(&all.hal).await;
    let service = &all.rig.service;
    let mine = service.list_sessions(&ada, PageQuery::default()).await.unwrap();
    assert_eq!(mine.items.len(), 1);
    assert!(mine.items[0].current && mine.items[0].id == ada_session.id && mine.items[0].name == "ada");

    let everybodys = PageQuery { all: true, ..PageQuery::default() };
    let refusal = service.list_sessions(&bob, everybodys.clone()).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::NotAllowed);
    assert!(!refusal.reasons.is_empty());
    assert_eq!(service.end_session(&bob, &ada_session.id).await.unwrap_err().code, ProblemCode::NotAllowed);
    assert_eq!(
        service.end_sessions_of(&bob, &ada.identity.id()).await.unwrap_err().code,
        ProblemCode::NotAllowed
    );
    let denied = all.rig.trail().await.remove(0);
    assert_eq!((denied.decision, denied.person.name.as_str()), (Some(Decision::Deny), "bob"));
    assert!(!ended(&all.rig, &ada_session).await);

    assert_eq!(service.list_sessions(&hal, everybodys).await.unwrap().items.len(), 3);
    service.end_session(&hal, &ada_session.id).await.unwrap();
    assert!(ended(&all.rig, &ada_session).await);
    let record = all.rig.trail().await.remove(0);
    assert_eq!((record.action.as_str(), record.outcome), ("end-session", Some(Outcome::Success)));
    assert_eq!(
        (record.details["whose"].as_str(), record.rules.as_slice()),
        ("file/ada", ["helpdesk".to_owned()].as_slice())
    );
    assert_eq!(service.end_session(&hal, &ada_session.id).await.unwrap_err().code, ProblemCode::NotFound);

    let (first, ada) = all.signed_in(&all.ada).await;
    let (second, _) = all.signed_in(&all.ada).await;
    assert_eq!(service.end_sessions_of(&ada, &ada.identity.id()).await.unwrap(), 2);
    assert!(ended(&all.rig, &first).await && ended(&all.rig, &second).await);
}

#[tokio::test]
async fn pages_of_sessions() {
    let all = people();
    for _ in 0..5 {
        all.rig.by_key(&all.ada).await.unwrap();
    }
    let (_, ada) = all.signed_in(&all.ada).await;
    let service = &all.rig.service;
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = PageQuery { cursor, limit: Some(4), all: false };
        let page = service.list_sessions(&ada, page).await.unwrap();
        seen.extend(page.items.into_iter().map(|session| session.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6);
    for query in [
        PageQuery { limit: Some(0), ..PageQuery::default() },
        PageQuery { limit: Some(501), ..PageQuery::default() },
        PageQuery { cursor: Some("nonsense".into()), ..PageQuery::default() },
    ] {
        assert_eq!(service.list_sessions(&ada, query).await.unwrap_err().code, ProblemCode::BadRequest);
    }
}

#[tokio::test]
async fn me() {
    let all = people();
    let (session, ada) = all.signed_in(&all.ada).await;
    let me = all.rig.service.me(&ada).await.unwrap();
    assert_eq!((me.identity, me.session.id, me.auditor), (session.answer.identity, session.id, false));
    assert_eq!(me.namespaces.iter().map(|n| n.path.as_str()).collect::<Vec<_>>(), ["/iam-sorry/ada/"]);
    let (_, bob) = all.signed_in(&all.bob).await;
    assert!(all.rig.service.me(&bob).await.unwrap().namespaces.is_empty());
}

#[tokio::test]
async fn the_development_link_works_once_from_here_and_its_sessions_end_with_it() {
    let secret = secrecy::SecretString::from("a link of 256 random bits");
    let folder = tempfile::tempdir().unwrap();
    let quick = "[limits]\nrefusal_milliseconds = 0\n";
    let file = folder.path().join("people.toml");
    std::fs::write(&file, "").unwrap();
    let login = format!("[ssh]\nfile = {file:?}\n{quick}");
    let rig = Rig::with(&login, folder, |methods| methods.with_dev_link().unwrap());
    rig.service.begin_dev_link(&secret).await.unwrap();
    let (there, here) = (origin(HERE), origin("127.0.0.1"));
    let from = |address| rig.service.sign_in_dev(address, &secret);
    assert_eq!(from(&there).await.unwrap_err().code, ProblemCode::SignInRefused);
    let session = from(&here).await.unwrap();
    assert_eq!(session.answer.identity.id(), "dev/admin");
    assert_eq!(from(&here).await.unwrap_err().code, ProblemCode::SignInRefused);
    assert!(rig.caller(&session).await.is_ok());
    // The same database, served without --dev: its admin is nobody there.
    let earnest = rig.second(&login);
    let token = session.answer.token.expose_secret();
    assert_eq!(
        earnest.caller_by_token(origin(HERE), token).await.unwrap_err().code,
        ProblemCode::SignInNeeded
    );
}
