//! Who may register which SSH key, and whom a key signs in that several people claim.

use iam_sorry_core::api::{ProblemCode, RegisterSshKey};
use iam_sorry_core::audit::Outcome;
use iam_sorry_core::identity::KeyOrigin;
use iam_sorry_core::ssh::login;
use iam_sorry_server::caller::Caller;
use iam_sorry_server::error::ServiceError;
use iam_sorry_server::sessions::NewSession;
use iam_sorry_server::sessions::ssh_keys::PastedSignature;
use testkit::Slapd;

use crate::rig::{HERE, ORIGIN, OpenSshKey, Rig};
use crate::setup::Setup;

fn department() -> (Slapd, Rig) {
    let slapd = Slapd::department();
    let folder = tempfile::tempdir().unwrap();
    let directory = Setup::ldaps(&slapd).toml(&folder);
    let login = format!("[ssh]\n[limits]\nrefusal_milliseconds = 0\n[ldap]\n{directory}");
    let rig = Rig::with(&login, folder, |methods| methods);
    (slapd, rig)
}

fn name(session: Result<NewSession, ServiceError>) -> String {
    session.unwrap().answer.identity.name
}

async fn origin_of(rig: &Rig, session: &NewSession) -> Option<KeyOrigin> {
    rig.caller(session).await.unwrap().session.key.map(|key| key.registered_by)
}

/// Behind the service's back: a key as an older version registered it.
fn without_a_signature(rig: &Rig) {
    let database = rusqlite::Connection::open(rig.folder.path().join("store.db")).unwrap();
    database.execute("UPDATE ssh_keys SET registered_by = NULL", []).unwrap();
}

/// It was enough to have the public key, and whoever held the private one was then signed in as somebody else.
#[tokio::test]
async fn nobody_registers_anothers_public_key() {
    let (_slapd, rig) = department();
    let (alices, bobs) = (OpenSshKey::new("ed25519"), OpenSshKey::new("ed25519"));
    let bob = rig.with_password("bob").await;
    let challenge = rig.registration_challenge(&bob, &alices).await.unwrap();
    // His own key signs for hers; nothing signs; a number of bytes.
    let signatures =
        [bobs.sign_registration(&challenge, ORIGIN, login::REGISTER_NAMESPACE), vec![0; 64], vec![7; 64]];
    for signature in signatures {
        let refusal = rig.hand_in(&bob, &alices, &challenge, &signature).await.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::BadRequest);
        assert!(refusal.detail.contains("iam-sorry ssh-keys add FILE"), "{}", refusal.detail);
    }
    assert_eq!(rig.by_key(&alices).await.unwrap_err().code, ProblemCode::SignInRefused);
    assert!(rig.service.list_ssh_keys(&bob).await.unwrap().is_empty());

    // With a good signature she becomes herself, and he still does not get it.
    let alice = rig.with_password("alice").await;
    rig.register(&alice, &alices).await.unwrap();
    assert_eq!(name(rig.by_key(&alices).await), "alice");
    let trail = rig.trail().await;
    let of = |outcome| {
        let records = trail.iter().filter(move |e| e.action == "register-key" && e.outcome == Some(outcome));
        records.map(|event| (event.person.name.as_str(), event.details.get("reason").map(String::as_str)))
    };
    let reasons: Vec<_> = of(Outcome::Failure).collect();
    let used = ("bob", Some("no-such-challenge"));
    assert_eq!(reasons, [used, used, ("bob", Some("wrong-signature"))], "newest first; good once");
    assert_eq!(of(Outcome::Success).collect::<Vec<_>>(), [("alice", None)]);
}

#[tokio::test]
async fn a_registration_is_good_once_for_its_time_session_person_key_and_origin() {
    let (_slapd, rig) = department();
    let key = OpenSshKey::new("ed25519");
    let (alice, again, bob) =
        (rig.with_password("alice").await, rig.with_password("alice").await, rig.with_password("bob").await);
    let refused = async |caller: &Caller, signature: &dyn Fn(&_) -> Vec<u8>, wait, what: &str| {
        let challenge = rig.registration_challenge(&alice, &key).await.unwrap();
        let signature = signature(&challenge);
        rig.wait(wait);
        let result = rig.hand_in(caller, &key, &challenge, &signature).await;
        assert_eq!(result.unwrap_err().code, ProblemCode::BadRequest, "{what}");
    };
    let good = |challenge: &_| key.sign_registration(challenge, ORIGIN, login::REGISTER_NAMESPACE);
    refused(&bob, &good, 0, "another person").await;
    refused(&again, &good, 0, "another session of hers").await;
    refused(&alice, &good, 61, "too old").await;
    refused(&alice, &good, -3600, "from the future").await;
    rig.wait(3600);
    for origin in ["https://evil.example.net", "https://keys.example.edu:8443"] {
        let there = |challenge: &_| key.sign_registration(challenge, origin, login::REGISTER_NAMESPACE);
        refused(&alice, &there, 0, origin).await;
    }
    for namespace in [login::NAMESPACE, "file", "git", "seal-v2@iam-sorry"] {
        let other = |challenge: &_| key.sign_registration(challenge, ORIGIN, namespace);
        refused(&alice, &other, 0, namespace).await;
    }
    let challenge = rig.registration_challenge(&alice, &key).await.unwrap();
    let signature = good(&challenge);
    rig.wait(59);
    rig.hand_in(&alice, &key, &challenge, &signature).await.unwrap();
    rig.service.remove_ssh_key(&alice, &key_id(&key)).await.unwrap();
    let replayed = rig.hand_in(&alice, &key, &challenge, &signature).await;
    assert_eq!(replayed.unwrap_err().code, ProblemCode::BadRequest);
}

fn key_id(key: &OpenSshKey) -> String {
    iam_sorry_core::ssh::PublicKey::parse_line(&key.line).unwrap().0.key_id().to_string()
}

/// A relay that has a login challenge signed gets no registration out of it, nor the reverse.
#[tokio::test]
async fn a_login_is_no_registration_and_a_registration_no_login() {
    let (_slapd, rig) = department();
    let key = OpenSshKey::new("ed25519");
    let alice = rig.with_password("alice").await;
    let login_challenge = rig.challenge(&key.line, HERE).await.unwrap();
    for namespace in [login::NAMESPACE, login::REGISTER_NAMESPACE] {
        let request = RegisterSshKey {
            public_key: key.line.clone(),
            nonce: login_challenge.nonce.clone(),
            signature: base64::Engine::encode(
                &base64::engine::general_purpose::URL_SAFE_NO_PAD,
                key.sign(&login_challenge, ORIGIN, namespace),
            ),
        };
        let refusal = rig.service.register_ssh_key(&alice, request).await.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::BadRequest, "{namespace}");
    }
    rig.register(&alice, &key).await.unwrap();
    for namespace in [login::NAMESPACE, login::REGISTER_NAMESPACE] {
        let challenge = rig.registration_challenge(&alice, &key).await.unwrap();
        let signature = key.sign_registration(&challenge, ORIGIN, namespace);
        let as_login = iam_sorry_core::api::SshChallenge {
            nonce: challenge.nonce,
            request: challenge.request,
            time: challenge.time,
            expires_at: challenge.expires_at,
        };
        for signature in [signature, key.sign(&as_login, ORIGIN, namespace)] {
            let refused = rig.answer(&as_login, &key.line, &signature, HERE).await.unwrap_err();
            assert_eq!(refused.code, ProblemCode::SignInRefused, "{namespace}");
        }
    }
}

#[tokio::test]
async fn the_rules_say_who_registers_and_after_which_sign_in() {
    let (_slapd, rig) = department();
    let (first, second) = (OpenSshKey::new("ed25519"), OpenSshKey::new("ed25519"));
    // carol is an intern: a password is not enough.
    let carol = rig.with_password("carol").await;
    let refusal = rig.register(&carol, &first).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::NotAllowed);
    assert!(refusal.reasons[0].contains("interns sign in by password"), "{refusal:?}");
    assert!(!rig.service.may_register_ssh_keys(&carol));
    let record = rig.trail().await.remove(0);
    assert_eq!((record.action.as_str(), record.resource.as_str()), ("register-key", "ssh-keys"));
    assert_eq!((record.outcome, record.rules), (Some(Outcome::Failure), vec!["not-interns".to_owned()]));

    // What a key is worth is what it was registered with, however many keys lie between.
    let alice = rig.with_password("alice").await;
    assert!(rig.service.may_register_ssh_keys(&alice));
    assert_eq!(rig.register(&alice, &first).await.unwrap().registered_by, Some(KeyOrigin::Ldap));
    let by_first = rig.by_key(&first).await.unwrap();
    assert_eq!(origin_of(&rig, &by_first).await, Some(KeyOrigin::Ldap));
    let by_first = rig.caller(&by_first).await.unwrap();
    assert_eq!(rig.register(&by_first, &second).await.unwrap().registered_by, Some(KeyOrigin::Ldap));
    let by_second = rig.by_key(&second).await.unwrap();
    assert_eq!(origin_of(&rig, &by_second).await, Some(KeyOrigin::Ldap));
    let trail = rig.trail().await;
    assert_eq!(trail[0].details["key_registered_by"], "ldap");
    let registered = trail.iter().find(|event| event.action == "register-key").unwrap();
    assert_eq!(
        (&registered.details["registered_by"], &registered.rules),
        (&"ldap".into(), &vec!["own-keys".into()])
    );
    let sessions = rig.service.list_sessions(&by_first, Default::default()).await.unwrap().items;
    let mut origins: Vec<_> =
        sessions.iter().map(|session| session.key_registered_by.map(KeyOrigin::as_str)).collect();
    origins.sort();
    assert_eq!(origins, [None, Some("ldap"), Some("ldap")], "by password, by each key");
}

#[tokio::test]
async fn a_key_of_the_departments_vouches_for_the_next() {
    let (slapd, rig) = department();
    let (given, own) = (OpenSshKey::new("ed25519"), OpenSshKey::new("ed25519"));
    slapd.set_ssh_keys("carol", &[&given.line]);
    let session = rig.by_key(&given).await.unwrap();
    assert_eq!(origin_of(&rig, &session).await, Some(KeyOrigin::Directory));
    let carol = rig.caller(&session).await.unwrap();
    assert_eq!(rig.register(&carol, &own).await.unwrap().registered_by, Some(KeyOrigin::SshKey));
    let session = rig.by_key(&own).await.unwrap();
    assert_eq!(origin_of(&rig, &session).await, Some(KeyOrigin::SshKey));

    // A session of which nobody knows by which key it was opened is from an older version: no key grows out of it.
    let mut older = rig.caller(&session).await.unwrap();
    older.session.key = None;
    let refusal = rig.register(&older, &OpenSshKey::new("ed25519")).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::SignInNeeded);
    assert!(refusal.detail.contains(&format!("iam-sorry login {ORIGIN}")), "{}", refusal.detail);
}

/// Registered before a signature was asked for, perhaps by somebody else: it signs nobody in, says why to who has the
/// private half, and makes room for whoever registers it properly.
#[tokio::test]
async fn a_key_that_never_signed_for_its_registration_signs_nobody_in() {
    let (_slapd, rig) = department();
    let alices = OpenSshKey::new("ed25519");
    let (alice, bob) = (rig.with_password("alice").await, rig.with_password("bob").await);
    rig.register(&bob, &alices).await.unwrap();
    without_a_signature(&rig);
    let refusal = rig.by_key(&alices).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::SignInRefused);
    assert!(refusal.detail.contains("iam-sorry ssh-keys add FILE"), "{}", refusal.detail);
    assert_eq!(rig.trail().await[0].details["reason"], "unproved-key");
    assert_eq!(rig.service.list_ssh_keys(&bob).await.unwrap()[0].registered_by, None);

    rig.register(&alice, &alices).await.unwrap();
    assert_eq!(name(rig.by_key(&alices).await), "alice");
    assert!(rig.service.list_ssh_keys(&bob).await.unwrap().is_empty());
}

/// A copy of alice's public key in bob's own entry locked her out.
#[tokio::test]
async fn a_copied_public_key_locks_nobody_out() {
    let (slapd, rig) = department();
    let alices = OpenSshKey::new("ed25519");
    slapd.set_ssh_keys("alice", &[&alices.line]);
    assert_eq!(name(rig.by_key(&alices).await), "alice");
    slapd.set_ssh_keys("bob", &[&alices.line]);
    rig.wait(601);
    let refusal = rig.by_key(&alices).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::NameNeeded);
    assert!(refusal.detail.contains("corp/alice, corp/bob"), "{}", refusal.detail);
    let command = format!("iam-sorry login {ORIGIN} --user corp/alice");
    assert!(refusal.detail.contains(&command), "{}", refusal.detail);
    let record = rig.trail().await.remove(0);
    assert_eq!((record.details["reason"].as_str(), record.person.id.as_str()), ("several-people", ""));

    for called in ["alice", "ALICE", "corp/alice"] {
        assert_eq!(name(rig.by_key_as(&alices, called).await), "alice");
    }
    // Whoever has the private key may say either; who claims the public one alone can't sign at all.
    assert_eq!(name(rig.by_key_as(&alices, "bob").await), "bob");
    for nobody in ["carol", "corp/carol", "other/alice", "*", ""] {
        rig.wait(31); // these are guesses, which are counted
        let refused = rig.by_key_as(&alices, nobody).await.unwrap_err();
        assert_eq!(refused.code, ProblemCode::SignInRefused, "{nobody:?}");
    }

    // The name is part of what is signed for.
    rig.wait(3600);
    let challenge = rig.challenge_as(&alices.line, Some("alice"), HERE).await.unwrap();
    let signature = alices.sign(&challenge, ORIGIN, login::NAMESPACE);
    for other in [Some("bob"), None] {
        let refused = rig.answer_as(&challenge, &alices.line, other, &signature, HERE).await.unwrap_err();
        assert_eq!(refused.code, ProblemCode::SignInRefused);
    }
}

/// Her key is registered here, bob's entry in the directory has a copy: neither goes before the other.
#[tokio::test]
async fn a_copy_in_the_directory_does_not_take_a_registered_key_over() {
    let (slapd, rig) = department();
    let alices = OpenSshKey::new("ed25519");
    let alice = rig.with_password("alice").await;
    rig.register(&alice, &alices).await.unwrap();
    slapd.set_ssh_keys("bob", &[&alices.line]);
    rig.wait(31);
    assert_eq!(rig.by_key(&alices).await.unwrap_err().code, ProblemCode::NameNeeded);
    assert_eq!(name(rig.by_key_as(&alices, "alice").await), "alice");
    // By the name that she has today.
    slapd.rename("alice", "liddell");
    assert_eq!(name(rig.by_key_as(&alices, "liddell").await), "liddell");
    assert_eq!(rig.by_key_as(&alices, "alice").await.unwrap_err().code, ProblemCode::SignInRefused);
}

/// Two sources, one login name: the issuer in front of it tells them apart.
#[tokio::test]
async fn two_people_of_one_name_are_told_apart_by_their_issuer() {
    let slapd = Slapd::department();
    let key = OpenSshKey::new("ed25519");
    slapd.set_ssh_keys("alice", &[&key.line]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("people.toml");
    std::fs::write(&file, format!("[[people]]\nname = \"alice\"\nkeys = [\"{}\"]\n", key.line)).unwrap();
    let directory = Setup::ldaps(&slapd).toml(&folder);
    let login = format!("[ssh]\nfile = {file:?}\n[limits]\nrefusal_milliseconds = 0\n[ldap]\n{directory}");
    let rig = Rig::with(&login, folder, |methods| methods);
    for refused in [rig.by_key(&key).await, rig.by_key_as(&key, "alice").await] {
        let refusal = refused.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::NameNeeded);
        assert!(refusal.detail.contains("corp/alice, file/alice"), "{}", refusal.detail);
    }
    for issuer in ["corp", "file"] {
        let session = rig.by_key_as(&key, &format!("{issuer}/alice")).await.unwrap();
        assert_eq!(session.answer.identity.issuer, issuer);
    }
}

/// A name that is asked for is no failed guess: forty of them lock nobody out.
#[tokio::test]
async fn being_asked_for_a_name_counts_for_nothing() {
    let (slapd, rig) = department();
    let key = OpenSshKey::new("ed25519");
    slapd.set_ssh_keys("alice", &[&key.line]);
    slapd.set_ssh_keys("bob", &[&key.line]);
    for _ in 0..40 {
        assert_eq!(rig.by_key(&key).await.unwrap_err().code, ProblemCode::NameNeeded);
    }
    assert_eq!(name(rig.by_key_as(&key, "alice").await), "alice");
}

/// Both steps as they are typed: the text that is shown, ssh-keygen, and what it printed.
#[tokio::test]
async fn a_key_is_registered_by_hand() {
    let (_slapd, rig) = department();
    let (key, other) = (OpenSshKey::new("ed25519"), OpenSshKey::new("ed25519"));
    let alice = rig.with_password("alice").await;
    let by_hand = rig.service.registration_by_hand(&alice, &key.line).await.unwrap();
    assert!(by_hand.text.contains("\nname: alice\n"), "{}", by_hand.text);
    let pasted = |armour: String| PastedSignature {
        public_key: by_hand.public_key.clone(),
        nonce: by_hand.nonce.clone(),
        armour,
    };
    rig.wait(300);
    for (armour, words) in [
        (String::new(), "can't be read"),
        (key.line.clone(), "can't be read"),
        (key.armoured(&by_hand.text, "file"), "another purpose"),
        (other.armoured(&by_hand.text, by_hand.namespace), "Another key signed"),
        (OpenSshKey::new("rsa").armoured(&by_hand.text, by_hand.namespace), "can't be read"),
    ] {
        let refusal = rig.service.register_by_hand(&alice, &pasted(armour)).await.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::BadRequest);
        assert!(refusal.detail.contains(words), "{}", refusal.detail);
    }
    let good = pasted(key.armoured(&by_hand.text, by_hand.namespace));
    assert_eq!(rig.service.register_by_hand(&alice, &good).await.unwrap().comment, "me@home");
    assert_eq!(name(rig.by_key(&key).await), "alice");
    // Ten minutes are enough for anybody.
    let by_hand = rig.service.registration_by_hand(&alice, &other.line).await.unwrap();
    rig.wait(601);
    let late = PastedSignature {
        public_key: by_hand.public_key.clone(),
        nonce: by_hand.nonce.clone(),
        armour: other.armoured(&by_hand.text, by_hand.namespace),
    };
    let refusal = rig.service.register_by_hand(&alice, &late).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::BadRequest);
}

/// A weak key signs by itself, for anybody.
#[tokio::test]
async fn a_weak_key_is_not_registered() {
    let (_slapd, rig) = department();
    let alice = rig.with_password("alice").await;
    let neutral = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let refusal = rig.service.registration_by_hand(&alice, neutral).await.unwrap_err();
    assert!(refusal.detail.contains("weak Ed25519 key"), "{}", refusal.detail);
}

/// Whoever is signed in may ask for registrations that are good for ten minutes, and so outlive every sign-in under way at the
/// same address: a login node, a proxy.
#[tokio::test]
async fn registrations_push_out_no_sign_in_from_the_same_address() {
    let (_slapd, rig) = department();
    let key = OpenSshKey::new("ed25519");
    let (alice, bob) = (rig.with_password("alice").await, rig.with_password("bob").await);
    rig.register(&bob, &key).await.unwrap();
    for _ in 0..260 {
        rig.service.registration_by_hand(&alice, &key.line).await.unwrap();
    }
    let challenge = rig.challenge(&key.line, HERE).await.unwrap();
    let registering = rig.registration_challenge(&bob, &key).await.unwrap();
    for _ in 0..2 {
        rig.service.registration_by_hand(&alice, &key.line).await.unwrap();
    }
    let signature = key.sign(&challenge, ORIGIN, login::NAMESPACE);
    assert_eq!(name(rig.answer(&challenge, &key.line, &signature, HERE).await), "bob");
    // Nor another person's registration.
    let signature = key.sign_registration(&registering, ORIGIN, login::REGISTER_NAMESPACE);
    let refusal = rig.hand_in(&bob, &key, &registering, &signature).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::Conflict, "it is his already: {refusal}");
}

/// A signed-in person who hands in wrong signatures in a loop fills no disk.
#[tokio::test]
async fn refused_registrations_are_counted_where_they_come_in_a_flood() {
    let (_slapd, rig) = department();
    let key = OpenSshKey::new("ed25519");
    let alice = rig.with_password("alice").await;
    let challenge = rig.registration_challenge(&alice, &key).await.unwrap();
    for _ in 0..300 {
        rig.hand_in(&alice, &key, &challenge, &[7; 64]).await.unwrap_err();
    }
    rig.service.record_counted(true).await.unwrap();
    let trail = rig.trail().await;
    let refused = trail.iter().filter(|event| event.action == "register-key").count();
    assert!((50..=110).contains(&refused), "{refused}");
    let counted = trail.iter().find(|event| event.action == "requests-counted").unwrap();
    assert_eq!(counted.details["count"], (300 - refused).to_string());
    assert!(counted.details["actions"].starts_with("register-key "), "{counted:?}");
}

/// An entry of a person elsewhere below `users_base`, whose login name and SSH key are what its author wants.
fn entry_elsewhere(slapd: &Slapd, uids: &[&str], key: &OpenSshKey) {
    let base = slapd.people_base();
    let names: String = uids.iter().map(|uid| format!("uid: {uid}\n")).collect();
    slapd.modify(&format!(
        "dn: ou=guests,{base}\nchangetype: add\nobjectClass: organizationalUnit\nou: guests\n\n\
         dn: cn=guest,ou=guests,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: ldapPublicKey\n\
         cn: guest\nsn: guest\n{names}sshPublicKey: {}\n",
        key.line
    ));
}

/// A password is refused where two entries have the name; so is a key, or rules and namespaces that name the person would
/// take its holder for them.
#[tokio::test]
async fn a_second_entry_of_a_login_name_signs_in_as_nobody() {
    let (slapd, rig) = department();
    let (alices, guests, registered) =
        (OpenSshKey::new("ed25519"), OpenSshKey::new("ed25519"), OpenSshKey::new("ed25519"));
    slapd.set_ssh_keys("alice", &[&alices.line]);
    let alice = rig.with_password("alice").await;
    rig.register(&alice, &registered).await.unwrap();
    entry_elsewhere(&slapd, &["Alice"], &guests);
    assert_eq!(rig.by_key(&guests).await.unwrap_err().code, ProblemCode::SignInRefused);
    assert_eq!(rig.trail().await[0].details["reason"], "several-people");
    assert_eq!(rig.by_key_as(&guests, "alice").await.unwrap_err().code, ProblemCode::SignInRefused);
    // A key that she registered says who she is, whatever others are called.
    assert_eq!(name(rig.by_key(&registered).await), "alice");
}

/// An entry that can't be read as a person's is nobody's claim: it may not keep the key's owner out.
#[tokio::test]
async fn a_copy_of_a_key_in_an_entry_without_one_name_keeps_nobody_out() {
    let (slapd, rig) = department();
    let alices = OpenSshKey::new("ed25519");
    slapd.set_ssh_keys("alice", &[&alices.line]);
    entry_elsewhere(&slapd, &["guest", "visitor"], &alices);
    assert_eq!(name(rig.by_key(&alices).await), "alice");
}
