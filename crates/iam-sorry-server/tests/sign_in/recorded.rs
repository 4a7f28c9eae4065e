//! What the trail has of refused sign-ins: no text that may be a password, and no more than a disk bears.

use iam_sorry_core::api::{LdapLogin, ProblemCode, RegisterSshKey, SshLogin};
use iam_sorry_core::audit::{Event, Outcome};
use iam_sorry_core::identity::Via;
use testkit::Slapd;

use crate::rig::{HERE, OpenSshKey, Rig, origin};
use crate::setup::Setup;
use crate::whole_trail::whole_trail;

const LIMITS: &str =
    "[limits]\nrefusal_milliseconds = 0\nfailures_per_address = 100000\nfailures_per_name = 1000\n";

fn department() -> (Slapd, Rig) {
    let slapd = Slapd::department();
    let folder = tempfile::tempdir().unwrap();
    let login = format!("[ssh]\n{LIMITS}[ldap]\n{}", Setup::ldaps(&slapd).toml(&folder));
    let rig = Rig::with(&login, folder, |methods| methods);
    (slapd, rig)
}

/// Whether the text is in any file of the service's: database, its log, whatever.
fn is_written(rig: &Rig, text: &str) -> bool {
    let files = std::fs::read_dir(rig.folder.path()).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).any(|path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[tokio::test]
async fn a_password_typed_into_the_name_field_is_kept_nowhere() {
    let (_slapd, rig) = department();
    for (name, password) in [
        ("Tr0ub4dor&3-typed", "x"),
        ("  Tr0ub4dor&3-typed  ", ""),
        ("alice", "Tr0ub4dor&3-typed"),
        ("another-S3cret", "alice"),
        ("bob\nTr0ub4dor&3-typed", "x"),
    ] {
        let refusal = rig.by_password(name, password, HERE).await.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::SignInRefused);
        assert!(!refusal.detail.contains("Tr0ub4dor"), "{refusal:?}");
    }
    let trail = rig.trail().await;
    assert_eq!(trail.len(), 5);
    for event in &trail {
        let line = serde_json::to_string(event).unwrap();
        assert!(!line.contains("Tr0ub4dor") && !line.contains("S3cret"), "{line}");
    }
    // Who is known is named; of the others the same text is recognised, and its length roughly.
    let names: Vec<&str> = trail.iter().rev().map(|event| event.person.name.as_str()).collect();
    assert_eq!(names, ["", "", "alice", "", ""]);
    let typed: Vec<_> = trail.iter().rev().map(|event| event.details.get("typed")).collect();
    assert_eq!((typed[0], typed[2]), (typed[1], None));
    assert!(typed[0].is_some_and(|digest| digest.len() == 12) && typed[0] != typed[3]);
    assert_eq!(trail[4].details["typed-length"], "17-64");
    rig.store.close().await;
    for secret in ["Tr0ub4dor&3-typed", "another-S3cret"] {
        assert!(!is_written(&rig, secret), "{secret} was written");
    }
}

/// The directory is away: whether there is such a person is not known, so the name is not recorded either.
#[tokio::test]
async fn a_name_that_could_not_be_looked_up_is_not_kept() {
    let (slapd, rig) = department();
    drop(slapd);
    let refusal = rig.by_password("Tr0ub4dor&3-typed", "x", HERE).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::DirectoryUnavailable);
    rig.store.close().await;
    assert!(!is_written(&rig, "Tr0ub4dor"));
}

fn count(event: &Event) -> u64 {
    match event.action.as_str() {
        "sign-in" => 1,
        "sign-in-refused" => event.details["count"].parse().unwrap(),
        other => panic!("{other}"),
    }
}

/// 3,000 from 200 networks, with an attack on one person among them: what is written is bounded, and no count is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_refused_sign_ins_is_counted() {
    let (_slapd, rig) = department();
    let key = OpenSshKey::new("ed25519");
    let guess = || SshLogin {
        nonce: "A".repeat(43),
        public_key: key.line.clone(),
        signature: "A".repeat(86),
        name: None,
    };
    // A sign-in by a challenge that never was: its form first, in case it changes.
    let first = rig.service.sign_in_ssh(&origin(HERE), guess()).await.unwrap_err();
    assert_eq!(first.code, ProblemCode::SignInRefused, "{first:?}");
    for n in 0..2_900_u32 {
        let from = format!("10.{}.{}.7", n % 20, n % 10);
        let refused = rig.service.sign_in_ssh(&origin(&from), guess()).await.unwrap_err();
        assert_eq!(refused.code, ProblemCode::SignInRefused);
    }
    for n in 0..99_u32 {
        let login = LdapLogin { username: "Alice".into(), password: "guess".to_owned().into() };
        let from = origin(&format!("172.16.{n}.1"));
        let refused = rig.service.sign_in_ldap(&from, Via::Api, login).await.unwrap_err();
        assert!([ProblemCode::SignInRefused, ProblemCode::TooManyRequests].contains(&refused.code));
    }
    // One that succeeds is always there by itself.
    rig.by_password("bob", "bob-password", HERE).await.unwrap();
    rig.service.record_counted(true).await.unwrap();

    let trail = rig.trail().await;
    let (good, refused): (Vec<_>, Vec<_>) =
        trail.into_iter().partition(|event| event.outcome == Some(Outcome::Success));
    assert_eq!((good.len(), good[0].person.name.as_str()), (1, "bob"));
    let sum: u64 = refused.iter().map(count).sum();
    assert_eq!(sum, 3_000, "each is counted, once");
    assert!(refused.len() <= 201, "{} records", refused.len());
    let alone = refused.iter().filter(|event| event.person.name == "alice").count();
    assert_eq!(alone, 3, "the attack on her shows under her name");
    let summary = refused.iter().find(|event| event.action == "sign-in-refused").unwrap();
    assert_eq!(summary.details["people"], "alice 96");
    let counted: u64 = summary.details["count"].parse().unwrap();
    assert_eq!(summary.details["no-known-person"], (counted - 96).to_string());
    assert!(summary.details["reasons"].contains("ssh-key no-such-challenge"), "{:?}", summary.details);
    assert!(summary.details["networks"].contains("/24 "), "{:?}", summary.details);
    let bytes: usize = refused.iter().map(|event| serde_json::to_string(event).unwrap().len()).sum();
    assert!(bytes < 150_000, "{bytes} bytes");
    // Nothing is left over, and nothing is written where nothing was counted.
    rig.service.record_counted(true).await.unwrap();
    assert_eq!(rig.trail().await.len(), refused.len() + 1);
}

/// An attack that never ends: an hour of it is some hundred records, each minute's counts among them.
#[tokio::test]
async fn an_hours_attack_writes_little_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("people.toml"), "").unwrap();
    let login = format!("{LIMITS}[ssh]\nfile = \"{}/people.toml\"\n", folder.path().display());
    let rig = Rig::with(&login, folder, |methods| methods);
    let key = OpenSshKey::new("ed25519");
    for minute in 0..60 {
        for n in 0..40 {
            let guess = SshLogin {
                nonce: "A".repeat(43),
                public_key: key.line.clone(),
                signature: "A".repeat(86),
                name: None,
            };
            rig.service.sign_in_ssh(&origin(&format!("10.{minute}.{n}.1")), guess).await.unwrap_err();
        }
        rig.wait(61);
        rig.service.record_counted(false).await.unwrap();
    }
    let trail = whole_trail(&rig.store).await;
    let events: Vec<Event> = trail.iter().map(|record| record.event().unwrap()).collect();
    assert_eq!(events.iter().map(count).sum::<u64>(), 2_400);
    let minutes = events.iter().filter(|event| event.action == "sign-in-refused").count();
    assert!((50..=60).contains(&minutes), "{minutes}");
    assert!(events.len() < 100 + 600 + 60 + 20, "{} records", events.len());
}

/// A signed-in person who hands in registrations without end that their key has not signed.
#[tokio::test]
async fn a_flood_of_failed_registrations_is_counted_under_the_persons_name() {
    let (_slapd, rig) = department();
    let key = OpenSshKey::new("ed25519");
    let alice = rig.with_password("alice").await;
    let before = rig.trail().await.len();
    for _ in 0..1_000 {
        let unsigned =
            RegisterSshKey { public_key: key.line.clone(), nonce: "A".repeat(43), signature: "A".repeat(86) };
        let refusal = rig.service.register_ssh_key(&alice, unsigned).await.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::BadRequest);
    }
    // What she does succeed in is always there by itself.
    rig.register(&alice, &key).await.unwrap();
    rig.service.record_counted(true).await.unwrap();

    let mut trail = rig.trail().await;
    trail.truncate(trail.len() - before);
    assert!((102..=112).contains(&trail.len()), "{} records", trail.len());
    let (summaries, others): (Vec<_>, Vec<_>) =
        trail.iter().partition(|event| event.action == "requests-counted");
    let (good, refused): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|event| event.outcome == Some(Outcome::Success));
    assert_eq!((good.len(), summaries.len()), (1, 1));
    assert!(refused.iter().all(|event| event.details["reason"] == "no-such-challenge"));
    let counted = (1_000 - refused.len()).to_string();
    assert_eq!((summaries[0].person.name.as_str(), &summaries[0].details["count"]), ("alice", &counted));
    assert_eq!(summaries[0].details["actions"], format!("register-key failure {counted}"));
}
