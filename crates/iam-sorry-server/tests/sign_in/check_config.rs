//! `iam-sorryd check-config --online` with a real directory, and an AWS that is there.

use std::process::{Command, Output};

use testkit::{Account, Creds, Ministack, Slapd};

use crate::setup::Setup;

fn check(account: &Account, key: &Creds, setup: &Setup, options: &[&str]) -> Output {
    check_rules(account, key, setup, "", options)
}

fn check_rules(account: &Account, key: &Creds, setup: &Setup, text: &str, options: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.cedar");
    std::fs::write(&rules, text).unwrap();
    let text = format!(
        "name = \"Test\"\n[http]\norigin = \"http://localhost:8750\"\nlisten = \"127.0.0.1:8750\"\n\
         [store]\npath = {:?}\n[aws]\nregion = \"us-east-1\"\nidentity = \"environment\"\nendpoint_sts = {:?}\n\
         [rules]\nfiles = [{rules:?}]\n[guardrails]\npermissions_boundary = \"none\"\n[login.ldap]\n{}",
        folder.path().join("store.db"),
        account.endpoint(),
        setup.toml(&folder)
    );
    let file = folder.path().join("config.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_iam-sorryd"));
    command.env("AWS_ACCESS_KEY_ID", &key.key).env("AWS_SECRET_ACCESS_KEY", &key.secret);
    command.arg("check-config").arg("--config").arg(&file).args(options).output().unwrap()
}

#[test]
fn the_directory_is_asked_only_when_told_to() {
    let slapd = Slapd::department();
    let account = Ministack::shared().account();
    let key = account.user_allowed("service", &["iam:*"]);
    let good = check(&account, &key, &Setup::ldaps(&slapd), &["--online"]);
    assert!(good.status.success(), "{good:?}");

    let secret = "an-old-password";
    let wrong_password = Setup { password: secret.into(), ..Setup::ldaps(&slapd) };
    let other_ca = testkit::TestCa::new();
    let foreign_ca = Setup { ca_file: Some(other_ca.file()), ..Setup::ldaps(&slapd) };
    let no_base = Setup { groups_base: "ou=nowhere,dc=example,dc=org".into(), ..Setup::ldaps(&slapd) };
    for (setup, words) in
        [(wrong_password, "own account"), (foreign_ca, "certificate"), (no_base, "ou=nowhere")]
    {
        let offline = check(&account, &key, &setup, &[]);
        assert!(offline.status.success(), "{offline:?}");
        let online = check(&account, &key, &setup, &["--online"]);
        let said = String::from_utf8(online.stderr).unwrap();
        assert!(!online.status.success() && said.contains("login.ldap") && said.contains(words), "{said}");
        assert!(!said.contains(secret), "{said}");
    }
}

/// Somebody who may create groups below `groups_base` has made a second one of a name that a rule uses.
#[test]
fn names_that_several_groups_have_are_warned_of() {
    let slapd = Slapd::department();
    let rule = "@id(\"labs\") permit (principal in IamSorry::Group::\"Lab-Dirk\", action, resource);";
    let account = Ministack::shared().account();
    let key = account.user_allowed("service", &["iam:*"]);
    let said = || {
        let output = check_rules(&account, &key, &Setup::plain(&slapd), rule, &["--online"]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let good = said();
    assert!(!good.contains("lab-dirk"), "{good}");
    let base = slapd.groups_base();
    slapd.modify(&format!(
        "dn: ou=mine,{base}\nchangetype: add\nobjectClass: organizationalUnit\nou: mine\n\n\
         dn: cn=LAB-DIRK,ou=mine,{base}\nchangetype: add\nobjectClass: groupOfNames\ncn: LAB-DIRK\nmember: {}\n",
        slapd.person_dn("bob")
    ));
    let warned = said();
    for words in ["Note: ", "\"lab-dirk\"", "rule \"labs\"", "cn=lab-dirk,ou=mine,", "by its DN"] {
        assert!(warned.contains(words), "{words}: {warned}");
    }
}
