//! The directory rigs are what they claim: asked by OpenLDAP's own client.

use std::process::{Command, Output};

use testkit::{SambaAd, Slapd, SlapdOptions};

/// ldapsearch with a simple bind: the exit status is LDAP's result code (RFC 4511, 4.1.9).
fn search(url: &str, ca: &std::path::Path, dn: &str, password: &str, more: &[&str]) -> Output {
    Command::new("ldapsearch")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LDAPTLS_CACERT", ca)
        .args(["-x", "-LLL", "-o", "ldif-wrap=no", "-H", url, "-D", dn, "-w", password])
        .args(more)
        .output()
        .expect("ldapsearch")
}

fn found(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

const NOBODY: [&str; 4] = ["-b", "", "-s", "base"];

#[test]
fn slapd_knows_people_groups_and_keys() {
    let slapd = Slapd::department();
    slapd.set_ssh_keys("alice", &["ssh-ed25519 AAAAC3Nza one", "ssh-ed25519 AAAAC3Nzb two"]);
    let base = slapd.base();
    for (url, tls) in [(slapd.url(), "-Z"), (slapd.url(), "-ZZ"), (slapd.tls_url(), "-x")] {
        let (dn, password) = (slapd.service_dn(), slapd.service_password());
        let more = [tls, "-b", base, "(uid=alice)", "sshPublicKey", "entryUUID", "memberOf"];
        let entry = found(&search(&url, &slapd.ca_file(), &dn, password, &more));
        assert_eq!(entry.matches("sshPublicKey: ssh-ed25519 ").count(), 2, "{entry}");
        assert_eq!(entry.matches("entryUUID: ").count(), 1, "{entry}");
        assert!(entry.contains("memberOf: cn=lab-dirk,ou=groups,dc=example,dc=org"), "{entry}");
    }
    let dn = slapd.person_dn("bob");
    assert!(search(&slapd.url(), &slapd.ca_file(), &dn, "bob-password", &NOBODY).status.success());
    assert_eq!(search(&slapd.url(), &slapd.ca_file(), &dn, "wrong", &NOBODY).status.code(), Some(49));
    let more = ["-b", base, "(userPassword=*)", "userPassword"];
    assert_eq!(found(&search(&slapd.url(), &slapd.ca_file(), &dn, "bob-password", &more)), "");

    slapd.lock("bob");
    assert_eq!(search(&slapd.url(), &slapd.ca_file(), &dn, "bob-password", &NOBODY).status.code(), Some(49));
    slapd.unlock("bob");
    assert!(search(&slapd.url(), &slapd.ca_file(), &dn, "bob-password", &NOBODY).status.success());
    assert!(slapd.log().contains("BIND dn=\"uid=bob,ou=people,dc=example,dc=org\""), "{}", slapd.log());
}

#[test]
fn slapd_takes_hostile_names_and_gives_them_back() {
    let slapd = Slapd::start(&SlapdOptions { anonymous_read: true, ..SlapdOptions::default() });
    let names = ["a*)(uid=*", "o'brien, \"pat\" #7 <x>;+=\\", "#hash", " space ", "Zoë", "a\u{0}b"];
    let people: Vec<String> =
        names.iter().map(|name| slapd.add_person(name, "Some Body", "pw-pw-pw")).collect();
    for dn in &people {
        let bound = search(&slapd.url(), &slapd.ca_file(), dn, "pw-pw-pw", &NOBODY);
        assert!(bound.status.success(), "{dn}: {bound:?}");
    }
    let group = slapd.add_group("R&D, \"east\" #1", &[&people[0]]);
    slapd.add_member(&group, &people[1]);
    slapd.remove_member(&group, &people[0]);
    let members = Command::new("ldapsearch")
        .args(["-x", "-LLL", "-H", &slapd.url(), "-b", &group, "member"])
        .output()
        .expect("ldapsearch");
    assert_eq!(found(&members).matches("member:").count(), 1, "{members:?}");
    slapd.rename("#hash", "renamed");
    assert!(
        search(&slapd.url(), &slapd.ca_file(), &slapd.person_dn("renamed"), "pw-pw-pw", &NOBODY)
            .status
            .success()
    );
}

#[test]
fn an_empty_password_succeeds_only_where_it_was_asked_for() {
    let open =
        SlapdOptions { anonymous_bind_with_empty_password: true, tls: false, ..SlapdOptions::default() };
    for (options, expected) in [(open, 0), (SlapdOptions::default(), 53)] {
        let slapd = Slapd::start(&options);
        let dn = slapd.add_person("alice", "Alice Liddell", "right");
        let answer = search(&slapd.url(), &slapd.ca_file(), &dn, "", &NOBODY);
        // 53: unwillingToPerform, "unauthenticated bind (DN with no password) disallowed"
        assert_eq!(answer.status.code(), Some(expected), "{answer:?}");
    }
}

#[test]
fn slapd_goes_away_and_returns_with_what_it_had() {
    let slapd = Slapd::start(&SlapdOptions { tls: false, ..SlapdOptions::default() });
    let dn = slapd.add_person("alice", "Alice Liddell", "right");
    slapd.stop();
    assert_eq!(search(&slapd.url(), &slapd.ca_file(), &dn, "right", &NOBODY).status.code(), Some(255));
    slapd.restart();
    assert!(search(&slapd.url(), &slapd.ca_file(), &dn, "right", &NOBODY).status.success());
    slapd.pause();
    let hanging = ["-o", "network_timeout=1", "-l", "1", "-b", "", "-s", "base"];
    let answer = Command::new("timeout")
        .args(["3", "ldapsearch", "-x", "-H", &slapd.url(), "-D", &dn, "-w", "right"])
        .args(hanging)
        .output()
        .expect("timeout");
    assert_ne!(answer.status.code(), Some(0));
    slapd.resume();
    assert!(search(&slapd.url(), &slapd.ca_file(), &dn, "right", &NOBODY).status.success());
}

#[test]
fn samba_is_an_active_directory() {
    let ad = SambaAd::shared();
    let (ca, base) = (ad.ca_file(), ad.base());
    ad.add_user("alice", "Alice-Passw0rd");
    for group in ["inner", "outer"] {
        ad.add_group(group);
    }
    ad.add_member("inner", "alice");
    ad.add_member("outer", "inner");
    let (dn, password) = (ad.service_dn(), ad.service_password());
    // LDAP_MATCHING_RULE_IN_CHAIN (MS-ADTS 3.1.1.3.4.4.3): groups of groups.
    let chain = format!("(member:1.2.840.113556.1.4.1941:={})", ad.user_dn("alice"));
    let groups = found(&search(&ad.tls_url(), &ca, &dn, password, &["-b", base, &chain, "cn"]));
    assert!(groups.contains("cn: inner") && groups.contains("cn: outer"), "{groups}");
    let entry = found(&search(&ad.url(), &ca, &dn, password, &["-ZZ", "-b", base, "(sAMAccountName=alice)"]));
    for attribute in ["objectGUID:: ", "userPrincipalName: alice@ad.example.org", "userAccountControl: 512"] {
        assert!(entry.contains(attribute), "{attribute}: {entry}");
    }

    let bind = |name: &str, password: &str| {
        let output = search(&ad.tls_url(), &ca, &format!("{name}@{}", ad.realm()), password, &NOBODY);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(bind("alice", "Alice-Passw0rd").0, Some(0));
    // strongerAuthRequired: no password over plain LDAP
    let plain = search(&ad.url(), &ca, &ad.user_dn("alice"), "Alice-Passw0rd", &NOBODY);
    assert_eq!(plain.status.code(), Some(8), "{plain:?}");

    // Each kind of closed account, with the sub-code that Active Directory gives (MS-ERREF Win32 codes).
    for name in ["disabled", "expired", "locked", "stale"] {
        ad.add_user(name, "Some-Passw0rd");
        assert_eq!(bind(name, "Some-Passw0rd").0, Some(0), "{name}");
    }
    ad.disable("disabled");
    ad.expire("expired");
    ad.lock("locked");
    ad.must_change_password("stale");
    for (name, code) in
        [("disabled", "data 533"), ("expired", "data 701"), ("locked", "data 775"), ("stale", "data 773")]
    {
        let (status, text) = bind(name, "Some-Passw0rd");
        assert_eq!(status, Some(49), "{name}: {text}");
        assert!(text.contains(code), "{name}: {text}");
    }
    ad.enable("disabled");
    assert_eq!(bind("disabled", "Some-Passw0rd").0, Some(0));
    ad.rename("alice", "alice.new");
    assert_eq!(bind("alice.new", "Alice-Passw0rd").0, Some(0));
    ad.delete("disabled");
    assert_eq!(bind("disabled", "Some-Passw0rd").0, Some(49));
}
