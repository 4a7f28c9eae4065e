//! A directory that takes connections and answers nothing, and people who are in a hurry (issue 9, number 10).

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use iam_sorry_core::api::ProblemCode;
use iam_sorry_core::identity::Via;
use iam_sorry_server::sessions::NewSession;
use testkit::Slapd;

use crate::rig::{HERE, OpenSshKey, Rig};
use crate::setup::Setup;

const PEOPLE: [&str; 4] = ["alice", "bob", "carol", "erin"];

fn department(more: &str) -> (Slapd, Rig) {
    let slapd = Slapd::department();
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::with(&login(&slapd, &folder, more), folder, |methods| methods);
    (slapd, rig)
}

fn login(slapd: &Slapd, folder: &tempfile::TempDir, more: &str) -> String {
    let mut setup = Setup::ldaps(slapd);
    setup.more = more.to_owned();
    format!("[ssh]\n[limits]\nrefusal_milliseconds = 0\n[ldap]\n{}", setup.toml(folder))
}

impl Rig {
    async fn signs_in(&self, name: &str, from: &str) -> Result<NewSession, ProblemCode> {
        self.by_password(name, &format!("{name}-password"), from).await.map_err(|refusal| refusal.code)
    }

    async fn guesses(&self, name: &str, from: &str) -> ProblemCode {
        self.by_password(name, "wrong", from).await.unwrap_err().code
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_sessions_that_are_due_are_answered_while_the_directory_hangs() {
    let (slapd, rig) = department("timeout_seconds = 30\n");
    let mut sessions = Vec::new();
    for _ in 0..5 {
        for name in PEOPLE {
            sessions.push(rig.signs_in(name, HERE).await.unwrap());
        }
    }
    slapd.add_group("new-lab", &[&slapd.person_dn("alice")]);
    let all = || async {
        let begun = Instant::now();
        let answers = join_all(sessions.iter().map(|session| rig.caller(session))).await;
        (answers, begun.elapsed())
    };
    slapd.pause();
    // A check is due soon: nobody waits for it. It is due now: for less than a second, and once.
    for (minutes, what) in [(11, "due soon"), (5, "due"), (0, "and again")] {
        rig.wait(minutes * 60);
        let (answers, took) = all().await;
        println!("{what}: {took:?}");
        assert!(answers.iter().all(Result::is_ok), "{what}");
        assert!(took < Duration::from_secs(10), "{what}: they waited for the directory: {took:?}");
    }
    // For so long nobody has confirmed who they are: refused, as quickly.
    rig.wait(60 * 60);
    let (answers, took) = all().await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    for answer in answers {
        let refusal = answer.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::DirectoryUnavailable);
        assert!(
            refusal.retry_after.is_some() && refusal.detail.contains("still there"),
            "{}",
            refusal.detail
        );
    }

    slapd.resume();
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        rig.wait(61);
        let (answers, _) = all().await;
        if answers.iter().all(Result::is_ok) {
            let alice = answers.into_iter().next().unwrap().unwrap();
            assert_eq!(alice.identity.groups.labels(), ["lab-dirk", "new-lab"]);
            break;
        }
        assert!(Instant::now() < end, "the directory is back, and nobody gets in");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_directory_that_hangs_is_left_alone_and_found_again() {
    let (slapd, rig) = department("timeout_seconds = 3\n");
    rig.signs_in("alice", HERE).await.unwrap();
    slapd.pause();
    let tries = join_all((0..3).map(|_| rig.signs_in("alice", HERE))).await;
    assert!(tries.iter().all(|tried| matches!(tried, Err(ProblemCode::DirectoryUnavailable))));
    assert!(rig.service.directory_problem().is_some());
    // One may probe; of the others none waits for the directory.
    let begun = Instant::now();
    let mut quick = 0;
    for tried in (0..50).map(|_| rig.signs_in("bob", HERE)) {
        quick +=
            u32::from(tokio::time::timeout(Duration::from_secs(2), tried).await.is_ok_and(|it| it.is_err()));
    }
    println!("{quick} of 50 in {:?}", begun.elapsed());
    assert!(quick > 40, "{quick}");
    slapd.resume();
    let end = Instant::now() + Duration::from_secs(60);
    while rig.signs_in("alice", HERE).await.is_err() {
        assert!(Instant::now() < end, "it is back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(rig.service.directory_problem(), None);
}

/// The first server takes connections and answers nothing: the second has its turn.
#[tokio::test]
async fn a_server_that_hangs_is_passed_over() {
    let (slapd, other) = (Slapd::department(), Slapd::department());
    let setup = Setup {
        urls: vec![slapd.url(), other.url()],
        more: "timeout_seconds = 1\n".into(),
        ..Setup::plain(&slapd)
    };
    let directory = setup.directory();
    assert!(setup.sign_in(&directory, "alice", "alice-password").await.is_ok());
    slapd.pause();
    let end = Instant::now() + Duration::from_secs(60);
    while setup.sign_in(&directory, "alice", "alice-password").await.is_err() {
        assert!(Instant::now() < end, "it never tries the other one");
    }
}

/// What a check finds is older than what has happened since.
#[tokio::test]
async fn a_check_that_comes_back_late_changes_nothing_that_changed_since() {
    let (slapd, rig) = department("timeout_seconds = 20\n");
    let (first, ended) =
        (rig.signs_in("alice", HERE).await.unwrap(), rig.signs_in("alice", HERE).await.unwrap());
    rig.wait(12 * 60);
    slapd.pause();
    assert!(rig.caller(&first).await.is_ok(), "a check is under way");
    let caller = rig.caller(&ended).await.unwrap();
    rig.service.sign_out(&caller).await.unwrap();
    slapd.resume();
    let end = Instant::now() + Duration::from_secs(60);
    // The check began before this one signed in; it is not for them.
    let later = rig.signs_in("alice", HERE).await.unwrap();
    slapd.lock("alice");
    rig.wait(4 * 60);
    loop {
        match rig.caller(&first).await {
            // Confirmed by the check of before the lock.
            Ok(_) => rig.wait(5 * 60),
            Err(refusal) => break assert_eq!(refusal.code, ProblemCode::SignInNeeded),
        }
        assert!(Instant::now() < end, "a locked account keeps its session");
    }
    assert!(rig.store.session(&ended.id).await.unwrap().is_none(), "what has ended stays ended");
    slapd.unlock("alice");
    let again = rig.signs_in("alice", HERE).await.unwrap();
    assert!(
        rig.caller(&again).await.is_ok(),
        "who signed in after the lock was lifted is not thrown out for it"
    );
    assert!(rig.caller(&later).await.is_err());
}

#[tokio::test]
async fn four_addresses_lock_nobody_out_where_they_are_at_home() {
    let (slapd, rig) = department("");
    rig.signs_in("alice", HERE).await.unwrap();
    for address in ["198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4"] {
        for _ in 0..5 {
            assert_eq!(rig.guesses("alice", address).await, ProblemCode::SignInRefused);
        }
        assert_eq!(rig.guesses("alice", address).await, ProblemCode::TooManyRequests);
    }
    assert_eq!(rig.guesses("alice", "198.51.100.5").await, ProblemCode::TooManyRequests);
    assert!(rig.signs_in("alice", HERE).await.is_ok());
    // Nobody learns by it that there is an alice.
    for address in ["198.51.101.1", "198.51.101.2", "198.51.101.3", "198.51.101.4"] {
        for _ in 0..5 {
            assert_eq!(rig.guesses("nobody", address).await, ProblemCode::SignInRefused);
        }
        assert_eq!(rig.guesses("nobody", address).await, ProblemCode::TooManyRequests);
    }
    assert_eq!(rig.guesses("nobody", "198.51.101.5").await, ProblemCode::TooManyRequests);

    // After a restart her sessions say where she is at home.
    let restarted = rig.second(&login(&slapd, &rig.folder, ""));
    let at = |name: &str, password: &str, from: &str| {
        let request =
            iam_sorry_core::api::LdapLogin { username: name.into(), password: password.to_owned().into() };
        let (service, origin) = (restarted.clone(), crate::rig::origin(from));
        async move {
            service.sign_in_ldap(&origin, Via::Api, request).await.map(drop).map_err(|refusal| refusal.code)
        }
    };
    for n in 0..20 {
        let address = format!("198.51.102.{n}");
        assert_eq!(at("alice", "wrong", &address).await, Err(ProblemCode::SignInRefused));
    }
    assert_eq!(at("alice", "alice-password", "198.51.102.99").await, Err(ProblemCode::TooManyRequests));
    assert_eq!(at("alice", "alice-password", HERE).await, Ok(()));
}

/// DN, id and other spellings of a person's name, typed as a name, are names of nobody, whatever happened to that person.
#[tokio::test]
async fn no_spelling_tells_whether_there_is_such_a_person() {
    let (slapd, rig) = department("");
    let id = rig.signs_in("alice", "192.0.2.77").await.unwrap().answer.identity.id();
    for n in 0..20 {
        assert_eq!(rig.guesses("alice", &format!("198.51.100.{n}")).await, ProblemCode::SignInRefused);
        assert_eq!(rig.guesses("nobody", &format!("198.51.101.{n}")).await, ProblemCode::SignInRefused);
    }
    let dn = slapd.person_dn("alice");
    for typed in [dn.as_str(), &dn.to_uppercase(), &id, "uid=alice"] {
        assert_eq!(rig.guesses(typed, HERE).await, ProblemCode::SignInRefused, "{typed}");
    }
    // In full-width letters both are as they are in plain ones.
    for typed in
        ["\u{ff41}\u{ff4c}\u{ff49}\u{ff43}\u{ff45}", "\u{ff4e}\u{ff4f}\u{ff42}\u{ff4f}\u{ff44}\u{ff59}"]
    {
        assert_eq!(rig.guesses(typed, HERE).await, ProblemCode::TooManyRequests, "{typed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_right_passwords_at_once_are_forty_sessions() {
    let (_slapd, rig) = department("");
    for _ in 0..3 {
        rig.guesses("alice", HERE).await;
    }
    let tries = join_all((0..40).map(|_| rig.signs_in("alice", HERE))).await;
    assert!(
        tries.iter().all(Result::is_ok),
        "{:?}",
        tries.iter().filter_map(|t| t.as_ref().err()).collect::<Vec<_>>()
    );
    // And of a whole class, after many of them have mistyped.
    for n in 0..30 {
        rig.guesses(&format!("typo-{n}"), HERE).await;
    }
    let tries = join_all((0..40).map(|n| rig.signs_in(PEOPLE[n % 4], HERE))).await;
    assert!(tries.iter().all(Result::is_ok));
}

#[tokio::test]
async fn failures_of_others_keep_no_ssh_key_out() {
    let (slapd, rig) = department("");
    let (good, bad) = (OpenSshKey::new("ed25519"), OpenSshKey::new("ed25519"));
    slapd.set_ssh_keys("alice", &[&good.line]);
    let mut refused = 0;
    while rig.guesses(&format!("name-{refused}"), HERE).await == ProblemCode::SignInRefused {
        refused += 1;
        assert!(refused < 1000, "passwords are limited by address");
    }
    let mut refused = 0;
    while rig.by_key(&bad).await.unwrap_err().code == ProblemCode::SignInRefused {
        refused += 1;
        assert!(refused < 1000, "a key that nobody knows is limited");
    }
    assert!(rig.by_key(&good).await.is_ok());
}
