//! Sign-in by a directory against a real slapd: what must work, and what went wrong elsewhere.

use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_server::login::{LoginError, RejectReason};
use testkit::{Slapd, SlapdOptions};

use crate::setup::{Setup, key, later, names, now, person_of_key};

fn refused(why: RejectReason) -> Result<Identity, LoginError> {
    Err(LoginError::Refused(why))
}

fn unavailable<T>(result: &Result<T, LoginError>) -> bool {
    matches!(result, Err(LoginError::Unavailable(_)))
}

#[tokio::test]
async fn a_person_signs_in_over_each_kind_of_tls() {
    let slapd = Slapd::department();
    for setup in [Setup::ldaps(&slapd), Setup::start_tls(&slapd), Setup::plain(&slapd)] {
        let directory = setup.directory();
        directory.try_out().await.unwrap();
        let carol = setup.sign_in(&directory, "carol", "carol-password").await.unwrap();
        assert_eq!((carol.name.as_str(), carol.issuer.as_str()), ("carol", "corp"));
        assert_eq!(carol.groups.labels(), ["interns", "lab-ada"], "by way of interns she is in lab-ada");
        assert_eq!(carol.subject.len(), 36, "{}", carol.subject);
        for wrong in ["carol-passwor", "carol-password ", "CAROL-PASSWORD", "bob-password", "*", "x"] {
            assert_eq!(
                setup.sign_in(&directory, "carol", wrong).await,
                refused(RejectReason::WrongPassword),
                "{wrong}"
            );
        }
        assert_eq!(setup.sign_in(&directory, "nobody", "x").await, refused(RejectReason::UnknownPerson));
    }
}

/// CVE-2025-6004 and its kin: case and spaces made several people, or counters, out of one.
#[tokio::test]
async fn names_are_compared_as_the_directory_compares_them() {
    let slapd = Slapd::department();
    let setup = Setup::plain(&slapd);
    let directory = setup.directory();
    let alice = setup.sign_in(&directory, "alice", "alice-password").await.unwrap();
    let counted = directory.find("alice").await.unwrap().counted_as().to_owned();
    // The last is alice in full-width letters, which LDAP's string preparation takes for the same (RFC 4518).
    for name in ["Alice", "ALICE ", "  alice", "\u{ff41}lice"] {
        assert_eq!(setup.sign_in(&directory, name, "alice-password").await.as_ref(), Ok(&alice), "{name}");
        assert_eq!(
            *directory.find(name).await.unwrap().counted_as(),
            counted,
            "{name}: one count of failures"
        );
    }
    for name in ["ali\u{200b}ce", "alice\0", "al\nice", "\u{202e}alice", "", " "] {
        let refusal = setup.sign_in(&directory, name, "alice-password").await;
        assert_eq!(refusal, refused(RejectReason::ImpossibleName), "{name:?}");
    }
}

/// RFC 4513, section 5.1.2: to this server a name with an empty password is an anonymous bind, and succeeds.
#[tokio::test]
async fn an_empty_password_never_reaches_a_server_that_accepts_it() {
    let slapd =
        Slapd::start(&SlapdOptions { anonymous_bind_with_empty_password: true, ..Default::default() });
    let dn = slapd.add_person("alice", "Alice Liddell", "alice-password");
    let trap = std::process::Command::new("ldapwhoami")
        .args(["-x", "-H", &slapd.url(), "-D", &dn, "-w", ""])
        .output()
        .unwrap();
    assert!(trap.status.success(), "the trap is not set: {trap:?}");
    let setup = Setup::plain(&slapd);
    let directory = setup.directory();
    let before = binds(&slapd).len();
    for password in ["", "\0", "\0alice-password", "alice-password\0"] {
        assert_eq!(setup.sign_in(&directory, "alice", password).await, refused(RejectReason::WrongPassword));
    }
    assert!(setup.sign_in(&directory, "alice", "alice-password").await.is_ok());
    // The service's own account once, and the right password.
    let asked = binds(&slapd).split_off(before);
    assert_eq!(asked.len(), 2, "{asked:?}");
}

/// GHSA-6mwx (OpenBao): a name was put into filter and DN as it came.
#[tokio::test]
async fn names_and_dns_can_not_be_injected() {
    let slapd = Slapd::department();
    let setup = Setup::plain(&slapd);
    let directory = setup.directory();
    for name in [
        "*",
        "a*",
        "alice)(uid=*",
        "*)(objectClass=*",
        "alice)(|(uid=*",
        "alice\\2a",
        "alice,ou=people,dc=example,dc=org",
        "uid=alice",
        "alice+cn=x",
        "nobody)(cn=Alice Liddell",
    ] {
        assert_eq!(
            setup.sign_in(&directory, name, "alice-password").await,
            refused(RejectReason::UnknownPerson),
            "{name}"
        );
    }
    // The same as real names: each is a person of its own with a group of its own, in DNs and in filters.
    let odd = ["a*)(uid=*", "comma, the", "#hash", "quo\"te", "back\\slash", "a+b=c", "uml\u{e4}ut"];
    for (number, name) in odd.iter().enumerate() {
        let dn = slapd.add_person(name, "Odd Name", "odd-password");
        slapd.add_group(&format!("odd-{number}"), &[&dn]);
        let person = setup.sign_in(&directory, name, "odd-password").await.unwrap();
        assert_eq!((person.name.as_str(), person.groups.labels()), (*name, vec![format!("odd-{number}")]));
    }
}

/// CVE-2025-6011: an unknown name was refused sooner than a known one.
#[tokio::test]
async fn an_unknown_name_costs_the_directory_what_a_known_one_does() {
    let slapd = Slapd::department();
    let setup = Setup::plain(&slapd);
    let directory = setup.directory();
    // The first one also connects the service's own account.
    assert!(setup.sign_in(&directory, "alice", "wrong").await.is_err());
    let mut done = settled_operations(&slapd, 0).len();
    let mut seen = Vec::new();
    let dn = slapd.person_dn("alice");
    // A name; nobody's; an injection; her DN; nobody's in full-width letters; what can be no name; nothing.
    for name in ["alice", "nobody-at-all", "a)(uid=*", &dn, "\u{ff4e}\u{ff4f}", "al\u{200b}ice", ""] {
        assert!(setup.sign_in(&directory, name, "wrong").await.is_err());
        let since = settled_operations(&slapd, done);
        done += since.len();
        seen.push(since);
    }
    assert_eq!(seen[0], ["SRCH", "BIND", "UNBIND"]);
    assert!(seen.iter().all(|operations| *operations == seen[0]), "{seen:?}");
}

#[tokio::test]
async fn locked_ended_and_barred_accounts_are_refused() {
    let slapd = Slapd::department();
    let setup = Setup::plain(&slapd);
    let directory = setup.directory();
    let alices = key(1);
    slapd.set_ssh_keys("alice", &[&alices.to_line("")]);
    let by_key = async || person_of_key(&directory, &alices, now()).await;
    assert!(by_key().await.is_ok());

    slapd.lock("alice");
    assert_eq!(
        setup.sign_in(&directory, "alice", "alice-password").await,
        refused(RejectReason::WrongPassword)
    );
    assert_eq!(by_key().await, refused(RejectReason::Disabled), "the key of a locked account opens nothing");
    slapd.set_attribute(&slapd.person_dn("alice"), "pwdAccountLockedTime", &["20261122180000Z"]);
    assert_eq!(by_key().await, refused(RejectReason::Locked));
    slapd.unlock("alice");
    assert!(setup.sign_in(&directory, "alice", "alice-password").await.is_ok());

    let alice = slapd.person_dn("alice");
    slapd.set_attribute(&alice, "shadowExpire", &["20000"]);
    assert_eq!(setup.sign_in(&directory, "alice", "alice-password").await, refused(RejectReason::Expired));
    assert_eq!(by_key().await, refused(RejectReason::Expired));
    slapd.set_attribute(&alice, "shadowExpire", &["-1"]);
    assert!(by_key().await.is_ok());

    let more = "user_filter = \"(&(objectClass=person)(employeeType=staff))\"".to_owned();
    let staff = Setup { more, ..setup };
    let directory = staff.directory();
    assert_eq!(
        staff.sign_in(&directory, "alice", "alice-password").await,
        refused(RejectReason::UnknownPerson)
    );
    assert_eq!(person_of_key(&directory, &alices, now()).await, refused(RejectReason::UnknownKey));
    slapd.set_attribute(&alice, "employeeType", &["staff"]);
    assert!(staff.sign_in(&directory, "alice", "alice-password").await.is_ok());
}

#[tokio::test]
async fn whoever_is_renamed_stays_who_they_are() {
    let slapd = Slapd::department();
    let setup = Setup::plain(&slapd);
    let directory = setup.directory();
    let before = setup.sign_in(&directory, "alice", "alice-password").await.unwrap();
    slapd.rename("alice", "liddell");
    let after = setup.sign_in(&directory, "liddell", "alice-password").await.unwrap();
    assert_eq!((before.id(), after.name.as_str()), (after.id(), "liddell"));
    assert_eq!(
        setup.sign_in(&directory, "alice", "alice-password").await,
        refused(RejectReason::UnknownPerson)
    );
    // Somebody new under the old name is somebody else.
    slapd.add_person("alice", "Alice Other", "other-password");
    let other = setup.sign_in(&directory, "alice", "other-password").await.unwrap();
    assert_ne!(other.id(), before.id());
    let now_known = directory.person(&before.subject, Method::SshKey, now()).await.unwrap();
    assert_eq!((now_known.name.as_str(), now_known.method), ("liddell", Method::SshKey));
    slapd.delete(&slapd.person_dn("liddell"));
    assert_eq!(
        directory.person(&before.subject, Method::SshKey, now()).await,
        refused(RejectReason::UnknownPerson)
    );
}

#[tokio::test]
async fn a_name_of_two_people_is_nobodys() {
    let slapd = Slapd::department();
    let setup = Setup { users_base: slapd.base().to_owned(), ..Setup::plain(&slapd) };
    let directory = setup.directory();
    assert!(setup.sign_in(&directory, "alice", "alice-password").await.is_ok());
    slapd.modify(&format!(
        "dn: uid=alice,ou=services,{}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: alice\ncn: Other\nsn: Other\n\
         userPassword: other-password\n",
        slapd.base()
    ));
    for password in ["alice-password", "other-password"] {
        assert_eq!(setup.sign_in(&directory, "alice", password).await, refused(RejectReason::SeveralPeople));
    }
}

#[tokio::test]
async fn groups_nest_go_in_circles_and_come_in_other_kinds() {
    let slapd = Slapd::department();
    let setup = Setup::plain(&slapd);
    let directory = setup.directory();
    let alice = slapd.person_dn("alice");
    let inner = slapd.add_group("Ring One", &[&alice]);
    let outer = slapd.add_group("ring-two", &[&inner]);
    slapd.add_member(&inner, &outer);
    slapd.add_posix_group("cluster", &["alice", "bob"]);
    let primary = "objectClass: posixGroup\ncn: physics\ngidNumber: 10000\n";
    slapd.modify(&format!("dn: cn=physics,{}\nchangetype: add\n{primary}", slapd.groups_base()));
    let person = setup.sign_in(&directory, "alice", "alice-password").await.unwrap();
    assert_eq!(person.groups.labels(), ["cluster", "lab-dirk", "physics", "ring one", "ring-two"]);

    let flat = Setup { more: "nested_groups = false".into(), ..Setup::plain(&slapd) };
    let person = flat.sign_in(&flat.directory(), "carol", "carol-password").await.unwrap();
    assert_eq!(person.groups.labels(), ["interns", "physics"]);
}

/// With some of a person's groups left out, a rule that forbids one of them would be missed.
#[tokio::test]
async fn groups_that_can_not_all_be_had_are_no_groups_to_decide_by() {
    let slapd = Slapd::department();
    let setup = Setup::plain(&slapd);
    let directory = setup.directory();
    let (alice, groups) = (slapd.person_dn("alice"), slapd.groups_base());
    let group = |n: u32| {
        format!(
            "dn: cn=g{n},{groups}\nchangetype: add\nobjectClass: groupOfNames\ncn: g{n}\nmember: {alice}\n\n"
        )
    };
    slapd.modify(&(0..450).map(group).collect::<String>());
    assert_eq!(setup.sign_in(&directory, "alice", "alice-password").await.unwrap().groups.len(), 451);
    // Beyond slapd's own limit of 500 entries it gives the first 500, and says so.
    slapd.modify(&(450..600).map(group).collect::<String>());
    assert_eq!(
        setup.sign_in(&directory, "alice", "alice-password").await,
        refused(RejectReason::TooManyGroups)
    );
    assert!(setup.sign_in(&directory, "bob", "bob-password").await.is_ok());

    // Deeper than anybody nests on purpose.
    let mut inner = slapd.person_dn("bob");
    for depth in 0..25 {
        inner = slapd.add_group(&format!("deep-{depth}"), &[&inner]);
    }
    assert_eq!(setup.sign_in(&directory, "bob", "bob-password").await, refused(RejectReason::TooManyGroups));
}

/// Whoever may make groups somewhere makes one of a name that opens doors elsewhere.
#[tokio::test]
async fn groups_of_one_name_in_two_places_are_not_one_group() {
    let slapd = Slapd::department();
    let setup = Setup::plain(&slapd);
    let directory = setup.directory();
    let (alice, groups) = (slapd.person_dn("alice"), slapd.groups_base());
    slapd.modify(&format!(
        "dn: ou=self-service,{groups}\nchangetype: add\nobjectClass: organizationalUnit\nou: self-service\n\n\
         dn: cn=Auditors,ou=self-service,{groups}\nchangetype: add\nobjectClass: groupOfNames\ncn: Auditors\n\
         member: {alice}\n"
    ));
    let person = setup.sign_in(&directory, "alice", "alice-password").await.unwrap();
    assert_eq!(
        person.groups.labels(),
        [format!("cn=auditors,ou=self-service,{groups}"), "lab-dirk".to_owned()]
    );
    let erin = setup.sign_in(&directory, "erin", "erin-password").await.unwrap();
    assert_eq!(
        erin.groups.labels(),
        [format!("cn=auditors,{groups}")],
        "nor does the true one keep a name that two have"
    );

    // A second value of cn makes nobody a member of what it names either.
    slapd.modify(&format!(
        "dn: cn=Auditors,ou=self-service,{groups}\nchangetype: delete\n\n\
         dn: cn=mine,{groups}\nchangetype: add\nobjectClass: groupOfNames\ncn: mine\ncn: lab-ada\nmember: {alice}\n"
    ));
    let person = setup.sign_in(&directory, "alice", "alice-password").await.unwrap();
    assert_eq!(person.groups.labels(), ["lab-dirk", "mine"]);
}

#[tokio::test]
async fn certificates_are_checked_and_tls_is_never_given_up() {
    let slapd = Slapd::department();
    let other = testkit::TestCa::new();
    let foreign = Setup { ca_file: Some(other.file()), ..Setup::ldaps(&slapd) };
    let foreign_start_tls = Setup { ca_file: Some(other.file()), ..Setup::start_tls(&slapd) };
    let system = Setup { ca_file: None, ..Setup::ldaps(&slapd) };
    // A name that the certificate is not for; it leads to the same server.
    let host = slapd.url().replace("127.0.0.1", "ip6-localhost");
    let misnamed = Setup { urls: vec![host], ..Setup::start_tls(&slapd) };
    for setup in [foreign, foreign_start_tls, system, misnamed] {
        let result = setup.sign_in(&setup.directory(), "alice", "alice-password").await;
        assert!(unavailable(&result), "{result:?}");
    }
    // A server without TLS: no StartTLS, no sign-in, and no password on the wire.
    let plain = Slapd::start(&SlapdOptions { tls: false, ..Default::default() });
    plain.add_person("alice", "Alice Liddell", "alice-password");
    let before = binds(&plain).len();
    let stripped = Setup { urls: vec![plain.url()], ..Setup::start_tls(&slapd) };
    assert!(unavailable(&stripped.sign_in(&stripped.directory(), "alice", "alice-password").await));
    assert_eq!(binds(&plain).len(), before);
}

#[tokio::test]
async fn a_directory_that_is_away_is_no_wrong_password() {
    let slapd = Slapd::department();
    let setup = Setup::ldaps(&slapd);
    let directory = setup.directory();
    assert!(setup.sign_in(&directory, "alice", "alice-password").await.is_ok());
    slapd.stop();
    assert!(unavailable(&setup.sign_in(&directory, "alice", "alice-password").await));
    assert!(unavailable(&person_of_key(&directory, &key(1), now()).await));
    slapd.restart();
    assert!(setup.sign_in(&directory, "alice", "alice-password").await.is_ok(), "it is back, and so are we");
    slapd.restart();
    let again = setup.sign_in(&directory, "alice", "alice-password").await;
    assert!(again.is_ok(), "though nothing was asked meanwhile: {again:?}");

    let hanging = Setup { more: "timeout_seconds = 1".into(), ..Setup::ldaps(&slapd) };
    let directory = hanging.directory();
    assert!(hanging.sign_in(&directory, "alice", "alice-password").await.is_ok());
    slapd.pause();
    assert!(unavailable(&hanging.sign_in(&directory, "alice", "alice-password").await));
    slapd.resume();
    assert!(hanging.sign_in(&directory, "alice", "alice-password").await.is_ok());
}

#[tokio::test]
async fn the_next_server_serves_while_one_is_down() {
    let slapd = Slapd::department();
    let dead = format!("ldaps://127.0.0.1:{}", testkit::free_port());
    let setup = Setup { urls: vec![dead, slapd.tls_url()], ..Setup::ldaps(&slapd) };
    let directory = setup.directory();
    for _ in 0..2 {
        assert!(setup.sign_in(&directory, "alice", "alice-password").await.is_ok());
        assert_eq!(setup.sign_in(&directory, "alice", "wrong").await, refused(RejectReason::WrongPassword));
    }
}

#[tokio::test]
async fn the_services_own_account_must_be_right() {
    let slapd = Slapd::department();
    let setup = Setup { password: "wrong".into(), ..Setup::plain(&slapd) };
    let directory = setup.directory();
    assert!(
        unavailable(&setup.sign_in(&directory, "alice", "alice-password").await),
        "ours is wrong, not hers"
    );
    assert!(directory.try_out().await.unwrap_err().to_string().contains("own account"));
    let nowhere = Setup { users_base: "ou=nowhere,dc=example,dc=org".into(), ..Setup::plain(&slapd) };
    let directory = nowhere.directory();
    assert!(directory.try_out().await.unwrap_err().to_string().contains("ou=nowhere"));
    assert!(unavailable(&nowhere.sign_in(&directory, "alice", "alice-password").await));

    let open = Slapd::start(&SlapdOptions { anonymous_read: true, ..Default::default() });
    open.add_person("alice", "Alice Liddell", "alice-password");
    let anonymous = Setup { anonymous: true, ..Setup::plain(&open) };
    assert!(anonymous.sign_in(&anonymous.directory(), "alice", "alice-password").await.is_ok());
}

#[tokio::test]
async fn keys_are_found_with_comments_and_without_and_are_one_persons() {
    let slapd = Slapd::department();
    let setup = Setup::plain(&slapd);
    let directory = setup.directory();
    let [one, two, three, four] = [1, 2, 3, 4].map(key);
    let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ== old";
    let restricted = format!("restrict,from=\"10.0.0.0/8\" {}", four.to_line("x"));
    let commented = two.to_line("alice@laptop, the \"old\" one");
    slapd.set_ssh_keys("alice", &[rsa, &one.to_line(""), &commented, &restricted]);
    let whose =
        async |key, seconds| person_of_key(&directory, key, later(seconds)).await.map(|person| person.name);
    assert_eq!(whose(&one, 0).await.unwrap(), "alice");
    assert_eq!(whose(&two, 0).await.unwrap(), "alice");
    assert_eq!(whose(&three, 1).await, Err(LoginError::Refused(RejectReason::UnknownKey)));
    assert_eq!(whose(&four, 1).await, Err(LoginError::Refused(RejectReason::UnknownKey)), "sshd's options");

    // Given to bob as well: theirs who say so. Taken from alice: gone at once.
    slapd.set_ssh_keys("bob", &[&one.to_line("bob"), &three.to_line("bob")]);
    assert_eq!(whose(&three, 60).await.unwrap(), "bob", "a new key works within half a minute");
    assert_eq!(whose(&one, 60).await, Err(LoginError::Refused(RejectReason::SeveralPeople)));
    let holders = async |key, name| {
        let found = directory.holders_of_key(key, Some(name), later(60)).await.unwrap();
        found.iter().map(|holder| holder.name().to_owned()).collect::<Vec<_>>()
    };
    for name in ["alice", "bob"] {
        assert_eq!(holders(&one, name).await, [name]);
    }
    assert!(holders(&two, "bob").await.is_empty() && holders(&four, "alice").await.is_empty());
    for nobody in ["nobody", "", "*", "alice)(uid=*", "ali\0ce"] {
        assert!(holders(&one, nobody).await.is_empty(), "{nobody:?}");
    }
    slapd.set_ssh_keys("alice", &[rsa]);
    assert_eq!(whose(&two, 60).await, Err(LoginError::Refused(RejectReason::UnknownKey)));
    let bob = person_of_key(&directory, &one, later(60)).await.unwrap();
    assert_eq!(names(&bob), "bob: lab-ada");
}

/// DNs that the server was asked to accept a password for.
fn binds(slapd: &Slapd) -> Vec<String> {
    let log = slapd.log();
    let binds = log.lines().filter(|line| line.contains(" BIND dn=") && line.contains("method="));
    binds.map(|line| line.split("BIND dn=").nth(1).unwrap_or("").to_owned()).collect()
}

fn operations(slapd: &Slapd) -> Vec<&'static str> {
    let log = slapd.log();
    let known = [(" SRCH base=", "SRCH"), (" BIND dn=", "BIND"), (" UNBIND", "UNBIND")];
    let of = |line: &str| known.iter().find(|(mark, _)| line.contains(mark)).map(|(_, name)| *name);
    // A bind is logged twice: as asked (`method=`) and as done (`mech=`).
    log.lines().filter(|line| !line.contains("mech=")).filter_map(of).collect()
}

/// What was asked after the first `before` operations, once the last goodbye is in the log.
fn settled_operations(slapd: &Slapd, before: usize) -> Vec<&'static str> {
    for _ in 0..500 {
        let since = operations(slapd).split_off(before);
        if since.last() == Some(&"UNBIND") {
            return since;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("slapd never logged the end:\n{}", slapd.log());
}
