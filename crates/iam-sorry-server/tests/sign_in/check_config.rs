//! `iam-sorryd check-config --online` with a real directory, and an AWS that is there.

use std::process::{Command, Output};

use testkit::{Account, Creds, Ministack, Slapd};

use crate::setup::Setup;

fn check(account: &Account, key: &Creds, setup: &Setup, options: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.cedar");
    std::fs::write(&rules, "").unwrap();
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
