//! Sign-in by password as a whole: limits, records, one refusal for all; and keys of people whom a directory knows.

use iam_sorry_core::api::{PersonInfo, ProblemCode};
use iam_sorry_core::audit::Outcome;
use iam_sorry_core::identity::{KeyOrigin, Method};
use testkit::Slapd;

use crate::rig::{FLOOR, HERE, OpenSshKey, Rig};
use crate::setup::Setup;

fn department() -> (Slapd, Rig) {
    let slapd = Slapd::department();
    let folder = tempfile::tempdir().unwrap();
    let login = login(&slapd, &folder, "");
    let rig = Rig::with(&login, folder, |methods| methods);
    (slapd, rig)
}

fn login(slapd: &Slapd, folder: &tempfile::TempDir, limits: &str) -> String {
    let directory = Setup::ldaps(slapd).toml(folder);
    format!("[ssh]\n[limits]\nrefusal_milliseconds = 0\n{limits}[ldap]\n{directory}")
}

#[tokio::test]
async fn a_password_opens_a_session_and_its_record_is_there_first() {
    let (_slapd, rig) = department();
    let session = rig.by_password(" Carol ", "carol-password", HERE).await.unwrap();
    let identity = &session.answer.identity;
    assert_eq!((identity.name.as_str(), identity.method), ("carol", Method::Ldap));
    assert_eq!(identity.groups, ["interns", "lab-ada"]);
    assert_eq!(session.answer.idle_seconds, 7200);
    assert_eq!(PersonInfo::from(&rig.caller(&session).await.unwrap().identity), *identity);
    let trail = rig.trail().await;
    assert_eq!((trail.len(), trail[0].action.as_str(), trail[0].address.as_str()), (1, "sign-in", HERE));
    assert_eq!((&trail[0].person.groups, trail[0].outcome), (&identity.groups, Some(Outcome::Success)));
}

#[tokio::test]
async fn every_refusal_says_the_same_and_is_recorded_with_its_reason() {
    let (slapd, rig) = department();
    slapd.lock("bob");
    slapd.set_attribute(&slapd.person_dn("erin"), "shadowExpire", &["1"]);
    let tries = [
        ("alice", "wrong", "wrong-password"),
        ("nobody", "wrong", "unknown-person"),
        ("bob", "bob-password", "wrong-password"),
        ("erin", "erin-password", "expired"),
        ("alice", "", "empty-password"),
        ("a\0lice", "alice-password", "impossible-name"),
        ("*", "alice-password", "unknown-person"),
    ];
    let mut refusals = Vec::new();
    for (name, password, reason) in tries {
        refusals.push(rig.by_password(name, password, HERE).await.unwrap_err());
        let newest = rig.trail().await.remove(0);
        assert_eq!(newest.details["reason"], reason, "{name}");
        assert_eq!((newest.outcome, newest.person.id.as_str()), (Some(Outcome::Failure), ""));
    }
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
    assert_eq!(refusals[0].code, ProblemCode::SignInRefused);
    let written = std::fs::read(rig.folder.path().join("store.db")).unwrap();
    let log = std::fs::read(rig.folder.path().join("store.db-wal")).unwrap_or_default();
    for secret in ["bob-password", "erin-password", "alice-password"] {
        let there = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!there(&written) && !there(&log), "{secret} was written");
    }
}

/// As long as the default, so that nobody learns from the time what was wrong.
#[tokio::test]
async fn a_refused_password_takes_its_time_whatever_was_wrong() {
    let slapd = Slapd::department();
    let folder = tempfile::tempdir().unwrap();
    let rig =
        Rig::with(&format!("[ldap]\n{}", Setup::ldaps(&slapd).toml(&folder)), folder, |methods| methods);
    for (name, password) in
        [("alice", "wrong"), ("nobody", "wrong"), ("alice", ""), ("a\0lice", "wrong"), ("", "wrong")]
    {
        let start = std::time::Instant::now();
        let refusal = rig.by_password(name, password, HERE).await.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::SignInRefused, "{name:?}");
        assert!(start.elapsed() >= FLOOR, "{name:?} {password:?}: {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn guessing_ends_soon_whatever_the_spelling() {
    let (_slapd, rig) = department();
    let spellings = ["alice", "ALICE", " alice", "Alice ", "\u{ff41}lice"];
    for name in spellings {
        assert_eq!(rig.by_password(name, "wrong", HERE).await.unwrap_err().code, ProblemCode::SignInRefused);
    }
    let refusal = rig.by_password("alIce", "alice-password", HERE).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::TooManyRequests, "even the right one");
    assert!(refusal.retry_after.is_some_and(|seconds| seconds > 0));
    assert_eq!(rig.trail().await[0].details["reason"], "too-often");
    // Unknown names end the same way, so that the limit tells nothing either.
    for _ in 0..5 {
        assert_eq!(rig.by_password("nobody", "x", HERE).await.unwrap_err().code, ProblemCode::SignInRefused);
    }
    assert_eq!(rig.by_password("nobody", "x", HERE).await.unwrap_err().code, ProblemCode::TooManyRequests);
    // She gets in from elsewhere, others from here, and she from here after a while.
    assert!(rig.by_password("alice", "alice-password", "192.0.2.99").await.is_ok());
    assert!(rig.by_password("bob", "bob-password", HERE).await.is_ok());
    rig.wait(31);
    assert!(rig.by_password("alice", "alice-password", HERE).await.is_ok());
}

#[tokio::test]
async fn guesses_at_the_same_time_are_no_more_than_guesses_in_a_row() {
    let (_slapd, rig) = department();
    let rig = std::sync::Arc::new(rig);
    let guess = |_| {
        let rig = rig.clone();
        tokio::spawn(async move { rig.by_password("alice", "wrong", HERE).await.unwrap_err().code })
    };
    let mut tried = 0;
    for guess in (0..40).map(guess).collect::<Vec<_>>() {
        match guess.await.unwrap() {
            ProblemCode::SignInRefused => tried += 1,
            other => assert_eq!(other, ProblemCode::TooManyRequests),
        }
    }
    assert_eq!(tried, 5);
}

#[tokio::test]
async fn a_class_behind_one_address_gets_in() {
    let (_slapd, rig) = department();
    for _ in 0..60 {
        assert!(rig.by_password("alice", "alice-password", HERE).await.is_ok());
    }
}

#[tokio::test]
async fn a_directory_that_is_away_is_said_to_be_and_opens_nothing() {
    let (slapd, rig) = department();
    let key = OpenSshKey::new("ed25519");
    let session = rig.by_password("alice", "alice-password", HERE).await.unwrap();
    let caller = rig.caller(&session).await.unwrap();
    rig.register(&caller, &key).await.unwrap();
    slapd.stop();
    let refusals = [
        rig.by_password("alice", "alice-password", HERE).await.unwrap_err(),
        rig.by_password("alice", "wrong", HERE).await.unwrap_err(),
        rig.by_key(&key).await.unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!((refusal.code, refusal.retry_after), (ProblemCode::DirectoryUnavailable, Some(10)));
        assert!(!refusal.detail.contains("127.0.0.1"), "{}", refusal.detail);
    }
    assert_eq!(rig.trail().await[0].details["reason"], "not-checked");
    assert!(rig.caller(&session).await.is_ok(), "who is signed in goes on");
    slapd.restart();
    // After three failures in a row it is left alone for a moment.
    let begun = std::time::Instant::now();
    while let Err(refusal) = rig.by_key(&key).await {
        assert_eq!(refusal.code, ProblemCode::DirectoryUnavailable);
        assert!(begun.elapsed().as_secs() < 60, "{refusal:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_registered_key_is_its_persons_as_the_directory_has_them_now() {
    let (slapd, rig) = department();
    let key = OpenSshKey::new("ed25519");
    let session = rig.by_password("alice", "alice-password", HERE).await.unwrap();
    let caller = rig.caller(&session).await.unwrap();
    let registered = rig.register(&caller, &key).await.unwrap();
    assert_eq!(registered.comment, "me@home");
    let again = rig.register(&caller, &key).await.unwrap_err();
    assert_eq!(again.code, ProblemCode::Conflict);

    let by_key = rig.by_key(&key).await.unwrap().answer.identity;
    assert_eq!((by_key.id(), by_key.method), (caller.identity.id(), Method::SshKey));
    slapd.add_group("new-lab", &[&slapd.person_dn("alice")]);
    slapd.rename("alice", "liddell");
    let changed = rig.by_key(&key).await.unwrap().answer.identity;
    assert_eq!((changed.name.as_str(), changed.id()), ("liddell", caller.identity.id()));

    slapd.lock("liddell");
    assert_eq!(rig.by_key(&key).await.unwrap_err().code, ProblemCode::SignInRefused);
    assert_eq!(rig.trail().await[0].details["reason"], "disabled");
    slapd.unlock("liddell");
    assert!(rig.by_key(&key).await.is_ok());

    // What the directory says of her own key goes before what she registered.
    slapd.set_ssh_keys("liddell", &[&key.line]);
    rig.wait(60);
    let session = rig.by_key(&key).await.unwrap();
    assert_eq!(rig.caller(&session).await.unwrap().session.key.unwrap().registered_by, KeyOrigin::Directory);
    slapd.set_ssh_keys("liddell", &[]);

    rig.service.remove_ssh_key(&caller, &registered.fingerprint).await.unwrap();
    assert_eq!(rig.by_key(&key).await.unwrap_err().code, ProblemCode::SignInRefused);
    let again = rig.service.remove_ssh_key(&caller, &registered.fingerprint).await.unwrap_err();
    assert_eq!(again.code, ProblemCode::NotFound);
    assert!(rig.service.list_ssh_keys(&caller).await.unwrap().is_empty());
    let actions: Vec<_> = rig.trail().await.into_iter().map(|event| event.action).collect();
    assert!(actions.contains(&"register-key".into()) && actions.contains(&"remove-ssh-key".into()));
}

#[tokio::test]
async fn nobody_removes_anothers_key() {
    let (_slapd, rig) = department();
    let key = OpenSshKey::new("ed25519");
    let alice = rig.by_password("alice", "alice-password", HERE).await.unwrap();
    let bob = rig.by_password("bob", "bob-password", HERE).await.unwrap();
    let (alice, bob) = (rig.caller(&alice).await.unwrap(), rig.caller(&bob).await.unwrap());
    let registered = rig.register(&alice, &key).await.unwrap();
    let refusal = rig.service.remove_ssh_key(&bob, &registered.fingerprint).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::NotFound);
    // He has the private key too, and still it stays hers.
    assert_eq!(rig.register(&bob, &key).await.unwrap_err().code, ProblemCode::Conflict);
    assert_eq!(rig.by_key(&key).await.unwrap().answer.identity.name, "alice");
}

#[tokio::test]
async fn who_is_disabled_in_the_directory_is_out_within_minutes_and_groups_follow() {
    let (slapd, rig) = department();
    let alice = rig.by_password("alice", "alice-password", HERE).await.unwrap();
    let bob = rig.by_password("bob", "bob-password", HERE).await.unwrap();
    let minute = || rig.wait(60);
    slapd.add_group("new-lab", &[&slapd.person_dn("alice")]);
    slapd.lock("bob");
    rig.wait(14 * 60);
    assert_eq!(rig.caller(&alice).await.unwrap().identity.groups.labels(), ["lab-dirk"]);
    assert!(rig.caller(&bob).await.is_ok());
    minute();
    assert_eq!(rig.caller(&alice).await.unwrap().identity.groups.labels(), ["lab-dirk", "new-lab"]);
    assert_eq!(
        rig.caller(&alice).await.unwrap().identity.groups.labels(),
        ["lab-dirk", "new-lab"],
        "and it is kept"
    );
    assert_eq!(rig.caller(&bob).await.unwrap_err().code, ProblemCode::SignInNeeded);
    let record = rig.trail().await.remove(0);
    assert_eq!((record.action.as_str(), record.person.name.as_str()), ("end-session", "bob"));
    assert_eq!(record.details["reason"], "disabled");
    slapd.unlock("bob");
    assert!(rig.caller(&bob).await.is_err(), "what has ended does not come back");

    // A directory that is away ends nobody's session; it is asked again a minute later.
    slapd.delete(&format!("cn=new-lab,{}", slapd.groups_base()));
    rig.wait(15 * 60);
    slapd.stop();
    assert!(rig.caller(&alice).await.is_ok());
    slapd.restart();
    minute();
    assert_eq!(rig.caller(&alice).await.unwrap().identity.groups.labels(), ["lab-dirk"]);

    // Wrong passwords of somebody else's lock her account for a while, but don't throw her out.
    slapd.set_attribute(&slapd.person_dn("alice"), "pwdAccountLockedTime", &["20261122180000Z"]);
    rig.wait(15 * 60);
    assert!(rig.caller(&alice).await.is_ok());
    slapd.delete(&slapd.person_dn("alice"));
    rig.wait(15 * 60);
    assert_eq!(rig.caller(&alice).await.unwrap_err().code, ProblemCode::SignInNeeded);
}
