//! Sign-in by SSH key, signed by the real ssh-keygen and ssh-agent.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use iam_sorry_core::api::ProblemCode;
use iam_sorry_core::audit::Outcome;
use iam_sorry_core::identity::Method;
use iam_sorry_core::ssh::login;
use iam_sorry_server::error::ServiceError;
use iam_sorry_server::sessions::NewSession;

use crate::rig::{HERE, ORIGIN, OpenSshKey, Rig};

const QUICK: &str = "[limits]\nrefusal_milliseconds = 0\n";

/// A department without a directory: people and keys in a file.
fn with_people(people: &[(&str, &OpenSshKey)]) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("people.toml");
    let entry = |(name, key): &(&str, &OpenSshKey)| {
        format!("[[people]]\nname = \"{name}\"\ngroups = [\"physics\"]\nkeys = [\"{}\"]\n", key.line)
    };
    std::fs::write(&file, people.iter().map(entry).collect::<String>()).unwrap();
    Rig::with(&format!("[ssh]\nfile = {file:?}\n{QUICK}"), folder, |methods| methods)
}

fn code(result: Result<NewSession, ServiceError>) -> ProblemCode {
    result.unwrap_err().code
}

#[tokio::test]
async fn a_key_file_and_an_agent_sign_in() {
    let key = OpenSshKey::new("ed25519");
    let rig = with_people(&[("ada", &key)]);
    let session = rig.by_key(&key).await.unwrap();
    assert_eq!(session.answer.identity.id(), "file/ada");
    assert_eq!(session.answer.identity.groups, ["physics"]);
    let caller = rig.caller(&session).await.unwrap();
    assert_eq!((caller.identity.name.as_str(), caller.identity.method), ("ada", Method::SshKey));

    let agent = testkit::SshAgent::start();
    agent.add(&key.file(), "", &[]);
    std::fs::remove_file(key.file()).unwrap();
    let challenge = rig.challenge(&key.line, HERE).await.unwrap();
    let signature = key.sign_by_agent(&agent, &challenge);
    assert!(rig.answer(&challenge, &key.line, &signature, HERE).await.is_ok());

    let trail = rig.trail().await;
    assert_eq!(trail.len(), 2);
    assert_eq!((trail[0].action.as_str(), trail[0].outcome), ("sign-in", Some(Outcome::Success)));
    assert_eq!(trail[0].person.id, "file/ada");
    assert_eq!(trail[1].details["session"], session.id);
    assert!(trail[1].details["key"].starts_with("SHA256:"));
}

#[tokio::test]
async fn a_challenge_is_answered_once_even_at_two_instances_at_once() {
    let key = OpenSshKey::new("ed25519");
    let rig = with_people(&[("ada", &key)]);
    let other = rig.second(&format!("[ssh]\nfile = {:?}\n{QUICK}", rig.folder.path().join("people.toml")));
    let challenge = rig.challenge(&key.line, HERE).await.unwrap();
    let signature = key.sign(&challenge, ORIGIN, login::NAMESPACE);
    let tries = (0..16).map(|n| {
        let service = if n % 2 == 0 { rig.service.clone() } else { other.clone() };
        let request = iam_sorry_core::api::SshLogin {
            nonce: challenge.nonce.clone(),
            public_key: key.line.clone(),
            signature: URL_SAFE_NO_PAD.encode(&signature),
            name: None,
        };
        tokio::spawn(async move { service.sign_in_ssh(&crate::rig::origin(HERE), request).await })
    });
    let tries: Vec<_> = tries.collect();
    let mut signed_in = 0;
    for attempt in tries {
        match attempt.await.unwrap() {
            Ok(_) => signed_in += 1,
            // The same key failing again and again is slowed down.
            Err(refusal) => assert!(
                matches!(refusal.code, ProblemCode::SignInRefused | ProblemCode::TooManyRequests),
                "{refusal:?}"
            ),
        }
    }
    assert_eq!(signed_in, 1);
}

#[tokio::test]
async fn a_challenge_is_good_for_sixty_seconds_its_key_and_its_address() {
    let (key, other) = (OpenSshKey::new("ed25519"), OpenSshKey::new("ed25519"));
    let rig = with_people(&[("ada", &key), ("bob", &other)]);
    let refused = ProblemCode::SignInRefused;

    let challenge = rig.challenge(&key.line, HERE).await.unwrap();
    let signature = key.sign(&challenge, ORIGIN, login::NAMESPACE);
    rig.wait(61);
    assert_eq!(code(rig.answer(&challenge, &key.line, &signature, HERE).await), refused);
    // The clock is set back: the old one is gone, not young again.
    rig.wait(-61);
    assert_eq!(code(rig.answer(&challenge, &key.line, &signature, HERE).await), refused);

    let challenge = rig.challenge(&key.line, HERE).await.unwrap();
    let signature = key.sign(&challenge, ORIGIN, login::NAMESPACE);
    rig.wait(-3600);
    assert_eq!(code(rig.answer(&challenge, &key.line, &signature, HERE).await), refused);
    rig.wait(3600);

    let challenge = rig.challenge(&key.line, HERE).await.unwrap();
    let signature = key.sign(&challenge, ORIGIN, login::NAMESPACE);
    rig.wait(59);
    assert!(rig.answer(&challenge, &key.line, &signature, HERE).await.is_ok());

    // Another address; another key under the same challenge; the nonce of another challenge.
    let challenge = rig.challenge(&key.line, HERE).await.unwrap();
    let signature = key.sign(&challenge, ORIGIN, login::NAMESPACE);
    assert_eq!(code(rig.answer(&challenge, &key.line, &signature, "192.0.2.11").await), refused);
    let challenge = rig.challenge(&key.line, HERE).await.unwrap();
    let signature = other.sign(&challenge, ORIGIN, login::NAMESPACE);
    assert_eq!(code(rig.answer(&challenge, &other.line, &signature, HERE).await), refused);
    let (mine, next) =
        (rig.challenge(&key.line, HERE).await.unwrap(), rig.challenge(&key.line, HERE).await.unwrap());
    let signature = key.sign(&mine, ORIGIN, login::NAMESPACE);
    assert_eq!(code(rig.answer(&next, &key.line, &signature, HERE).await), refused);
}

/// A machine in the middle asks us for a challenge and gives it to a victim who signs in *there*.
#[tokio::test]
async fn a_signature_for_one_origin_is_worthless_at_another() {
    let victim = OpenSshKey::new("ed25519");
    let rig = with_people(&[("ada", &victim)]);
    for dialled in ["https://evil.example.net", "https://keys.example.edu:8443", "http://localhost:8080"] {
        let challenge = rig.challenge(&victim.line, HERE).await.unwrap();
        let signature = victim.sign(&challenge, dialled, login::NAMESPACE);
        let result = rig.answer(&challenge, &victim.line, &signature, HERE).await;
        assert_eq!(code(result), ProblemCode::SignInRefused, "{dialled}");
        assert_eq!(rig.trail().await[0].details["reason"], "wrong-signature");
    }
    // As the victim dials us, it is good: what was wrong above was the origin alone.
    assert!(rig.by_key(&victim).await.is_ok());
}

#[tokio::test]
async fn a_signature_for_another_purpose_is_none() {
    let key = OpenSshKey::new("ed25519");
    let rig = with_people(&[("ada", &key)]);
    for namespace in ["file", "git", "login@iam-sorry-not", "iam-sorry"] {
        let challenge = rig.challenge(&key.line, HERE).await.unwrap();
        let signature = key.sign(&challenge, ORIGIN, namespace);
        let result = rig.answer(&challenge, &key.line, &signature, HERE).await;
        assert_eq!(code(result), ProblemCode::SignInRefused, "{namespace}");
    }
}

#[tokio::test]
async fn only_plain_ed25519_keys_sign_in() {
    let key = OpenSshKey::new("ed25519");
    let rig = with_people(&[("ada", &key)]);
    let certificate = {
        let status = std::process::Command::new("ssh-keygen")
            .args(["-q", "-s"])
            .arg(OpenSshKey::file(&key))
            .args(["-I", "ada", "-n", "ada"])
            .arg(key.file().with_extension("pub"))
            .status();
        assert!(status.unwrap().success());
        std::fs::read_to_string(key.file().with_file_name("key-cert.pub")).unwrap()
    };
    let sk = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIA9jFkeXnFk0DVUdMhqK1yI0xmhsKJ5nLrvhaGYWNLPjAAAABHNzaDo=";
    for (line, words) in [
        (OpenSshKey::new("rsa").line.as_str(), "an RSA key"),
        (OpenSshKey::new("ecdsa").line.as_str(), "an ECDSA key"),
        (certificate.as_str(), "a certificate"),
        (sk, "security-key"),
        ("", "can't be used"),
        ("hello", "can't be used"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
    ] {
        let refusal = rig.challenge(line, HERE).await.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::BadRequest);
        assert!(refusal.detail.contains(words), "{}", refusal.detail);
    }
    let challenge = rig.challenge(&key.line, HERE).await.unwrap();
    for bytes in [vec![], vec![0; 63], vec![0; 65]] {
        assert_eq!(code(rig.answer(&challenge, &key.line, &bytes, HERE).await), ProblemCode::BadRequest);
    }
    assert_eq!(code(rig.answer(&challenge, &key.line, &[0; 64], HERE).await), ProblemCode::SignInRefused);
}

#[tokio::test]
async fn an_unknown_key_gets_what_a_known_one_gets() {
    let (known, stranger) = (OpenSshKey::new("ed25519"), OpenSshKey::new("ed25519"));
    let rig = with_people(&[("ada", &known)]);
    let mut refusals = Vec::new();
    for key in [&known, &stranger] {
        let challenge = rig.challenge(&key.line, HERE).await.unwrap();
        assert_eq!((challenge.nonce.len(), challenge.request.len(), challenge.time.len()), (43, 50, 20));
        let signature = key.sign(&challenge, "https://evil.example.net", login::NAMESPACE);
        refusals.push(rig.answer(&challenge, &key.line, &signature, HERE).await.unwrap_err());
    }
    refusals.push(rig.by_key(&stranger).await.unwrap_err());
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
    let reasons: Vec<_> = rig.trail().await.iter().map(|event| event.details["reason"].clone()).collect();
    assert_eq!(reasons, ["unknown-key", "wrong-signature", "wrong-signature"], "the auditor is told");
}

#[tokio::test]
async fn a_flood_of_challenges_is_bounded_and_others_get_theirs() {
    let key = OpenSshKey::new("ed25519");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("people.toml");
    std::fs::write(&file, format!("[[people]]\nname = \"ada\"\nkeys = [\"{}\"]\n", key.line)).unwrap();
    let rig = Rig::with(
        &format!("[ssh]\nfile = {file:?}\n[limits]\nchallenges_per_second = 3\n"),
        folder,
        |methods| methods,
    );
    let mut given = 0;
    for _ in 0..100 {
        match rig.challenge(&key.line, "198.51.100.1").await {
            Ok(_) => given += 1,
            Err(refusal) => {
                assert_eq!(refusal.code, ProblemCode::TooManyRequests);
                assert!(refusal.retry_after.is_some());
            }
        }
    }
    assert_eq!(given, 30);
    assert!(rig.by_key(&key).await.is_ok(), "from another address");
}

/// CVE-2026-46405: an error on the way gave a token.
#[tokio::test]
async fn an_error_during_sign_in_never_yields_a_token() {
    let key = OpenSshKey::new("ed25519");
    let rig = with_people(&[("ada", &key)]);
    // The audit record can't be written: no session.
    let challenge = rig.challenge(&key.line, HERE).await.unwrap();
    let signature = key.sign(&challenge, ORIGIN, login::NAMESPACE);
    rig.store.close().await;
    let refusal = rig.answer(&challenge, &key.line, &signature, HERE).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::StoreUnavailable);

    // The file of keys is broken: nobody gets in, and the text names no path.
    let rig = with_people(&[("ada", &key)]);
    std::fs::write(rig.folder.path().join("people.toml"), "[[people]").unwrap();
    let refusal = rig.by_key(&key).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::Internal);
    assert!(!refusal.detail.contains("people"), "{}", refusal.detail);
    assert!(rig.trail().await.iter().all(|event| event.outcome == Some(Outcome::Failure)));
}

/// The same where only one of the two can't be written: the session, or the record that it was opened.
#[tokio::test]
async fn a_session_that_can_not_be_written_yields_no_token_and_no_record_of_one() {
    let key = OpenSshKey::new("ed25519");
    let rig = with_people(&[("ada", &key)]);
    for table in ["sessions", "audit"] {
        let database = rusqlite::Connection::open(rig.folder.path().join("store.db")).unwrap();
        let trigger = format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'not today'); END"
        );
        let challenge = rig.challenge(&key.line, HERE).await.unwrap();
        let signature = key.sign(&challenge, ORIGIN, login::NAMESPACE);
        database.execute_batch(&trigger).unwrap();
        let refusal = rig.answer(&challenge, &key.line, &signature, HERE).await.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::Internal, "{table}: {refusal:?}");
        assert!(!refusal.detail.contains("not today"), "{}", refusal.detail);
        database.execute_batch("DROP TRIGGER refuse").unwrap();
        let sessions: u32 =
            database.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
        assert_eq!((sessions, rig.trail().await.len()), (0, 0), "{table}: one is not without the other");
    }
    assert!(rig.by_key(&key).await.is_ok());
}

/// As long as the default, so that nobody learns from the time what was wrong.
#[tokio::test]
async fn a_refused_signature_takes_its_time_whatever_was_wrong() {
    let (known, stranger) = (OpenSshKey::new("ed25519"), OpenSshKey::new("ed25519"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("people.toml");
    std::fs::write(&file, format!("[[people]]\nname = \"ada\"\nkeys = [\"{}\"]\n", known.line)).unwrap();
    let rig = Rig::with(&format!("[ssh]\nfile = {file:?}\n"), folder, |methods| methods);
    for (what, key, origin) in
        [("an unknown key", &stranger, ORIGIN), ("a wrong signature", &known, "https://evil.example.net")]
    {
        let challenge = rig.challenge(&key.line, HERE).await.unwrap();
        let signature = key.sign(&challenge, origin, login::NAMESPACE);
        // The second time the challenge is used up.
        for _ in 0..2 {
            let start = std::time::Instant::now();
            let refused = code(rig.answer(&challenge, &key.line, &signature, HERE).await);
            assert_eq!(refused, ProblemCode::SignInRefused, "{what}");
            assert!(start.elapsed() >= crate::rig::FLOOR, "{what}: {:?}", start.elapsed());
        }
    }
}

#[tokio::test]
async fn a_service_without_keys_says_so() {
    let login =
        "[ldap]\nname = \"corp\"\nurls = [\"ldaps://ldap.example.org\"]\nusers_base = \"dc=example\"\n";
    let rig = Rig::with(login, tempfile::tempdir().unwrap(), |methods| methods);
    let key = OpenSshKey::new("ed25519");
    let refusal = rig.challenge(&key.line, HERE).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::NotFound);
    assert_eq!(rig.service.service_info().unwrap().methods, [Method::Ldap]);
}

/// What is typed as a name may be a password. The digest over it can be tried out by whoever has the nonce; a copy of the
/// database has not.
#[tokio::test]
async fn a_copy_of_the_database_does_not_tell_what_was_typed_as_a_name() {
    let key = OpenSshKey::new("ed25519");
    let rig = with_people(&[("ada", &key)]);
    let challenge = rig.challenge_as(&key.line, Some("hunter2"), HERE).await.unwrap();
    let database = rusqlite::Connection::open(rig.folder.path().join("store.db")).unwrap();
    let row: Vec<String> = database
        .query_row(
            "SELECT lower(hex(id)), kind, source, counted_as, origin, network, cast(data AS TEXT) FROM login_flows",
            [],
            |row| (0..7).map(|column| row.get(column)).collect(),
        )
        .unwrap();
    let random = URL_SAFE_NO_PAD.decode(&challenge.nonce).unwrap();
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(row.iter().all(|value| !value.contains(&challenge.nonce) && !value.contains(&hex)), "{row:?}");
    // It is answered all the same, once, and only by who got it.
    let named = rig.challenge_as(&key.line, Some("ada"), HERE).await.unwrap();
    let signature = key.sign(&named, ORIGIN, login::NAMESPACE);
    let id: [u8; 32] = database.query_row("SELECT id FROM login_flows", [], |row| row.get(0)).unwrap();
    let stored = iam_sorry_core::api::SshChallenge { nonce: URL_SAFE_NO_PAD.encode(id), ..challenge };
    assert!(rig.answer_as(&stored, &key.line, Some("hunter2"), &signature, HERE).await.is_err());
    assert!(rig.answer_as(&named, &key.line, Some("ada"), &signature, HERE).await.is_ok());
    assert!(rig.answer_as(&named, &key.line, Some("ada"), &signature, HERE).await.is_err());
}

/// One host has a whole /64 of IPv6: it has no more room for challenges than one that has a single address.
#[tokio::test]
async fn a_flood_from_one_network_leaves_room_for_others() {
    let key = OpenSshKey::new("ed25519");
    let rig = with_people(&[("ada", &key)]);
    for number in 0..400 {
        rig.challenge(&key.line, &format!("2001:db8::{number:x}")).await.unwrap();
    }
    let database = rusqlite::Connection::open(rig.folder.path().join("store.db")).unwrap();
    let open: i64 = database.query_row("SELECT count(*) FROM login_flows", [], |row| row.get(0)).unwrap();
    assert_eq!(open, 256);
    assert!(rig.by_key(&key).await.is_ok());
}
