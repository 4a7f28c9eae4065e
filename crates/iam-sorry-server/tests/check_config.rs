//! `iam-sorryd check-config`, as an operator runs it: whatever would fail later, or should never run, is reported first, all of
//! it at once.
#![expect(clippy::unwrap_used, reason = "a rig that cannot start fails its test")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use testkit::{Account, Ministack};

/// A configuration with nothing wrong in it.
struct Rig {
    folder: TempDir,
    text: String,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"
            name = "Test"
            [http]
            origin = "https://iam.example.org"
            listen = "127.0.0.1:8080"
            trusted_proxies = ["127.0.0.1"]
            [store]
            path = "{dir}/store.db"
            [aws]
            region = "us-east-1"
            account = "123456789012"
            identity = { access_key = { id = "AKIAEXAMPLE", secret = { file = "{dir}/secret" } } }
            [login.ssh]
            file = "{dir}/people.toml"
            [audit]
            key_file = "{dir}/audit.key"
            [[audit.sink]]
            name = "local"
            file = { path = "{dir}/audit.jsonl" }
            [rules]
            files = ["{dir}/rules.cedar"]
            [[namespace]]
            name = "dirk"
            owners = ["group:lab-dirk"]
            [guardrails]
            permissions_boundary = "arn:aws:iam::123456789012:policy/edge"
            policies = ["arn:aws:iam::aws:policy/ReadOnlyAccess"]
            "#;
        let text = text.replace("{dir}", &folder.path().display().to_string());
        let rig = Self { folder, text };
        rig.write("secret", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n");
        rig.write("people.toml", "");
        rig.write("rules.cedar", "");
        let key = iam_sorry_core::audit::new_key_pem(&[7; 32].into());
        rig.write("audit.key", key.as_str());
        rig
    }

    /// One of the emulator's accounts.
    fn online(account: &Account) -> Self {
        let mut rig = Self::new();
        let key = account.key("iam-sorryd");
        let endpoint = account.endpoint();
        rig.change("123456789012", account.id());
        rig.change("AKIAEXAMPLE", &key.key);
        rig.change("identity =", &format!("endpoint_sts = \"{endpoint}\"\nidentity ="));
        rig.write("secret", &key.secret);
        rig
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn change(&mut self, from: &str, to: &str) {
        assert!(self.text.contains(from), "{from}");
        self.text = self.text.replace(from, to);
    }

    fn check(&self, options: &[&str]) -> (i32, String) {
        let file = self.write("config.toml", &self.text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_iam-sorryd"));
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        let output = command.arg("check-config").arg("--config").arg(file).args(options).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), text)
    }

    /// Each of the words is in what is found.
    #[track_caller]
    fn finds(&self, options: &[&str], words: &[&str]) -> String {
        let (code, text) = self.check(options);
        assert_eq!(code, 3, "{text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is not in: {text}");
        }
        text
    }
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let (code, text) = Rig::new().check(&[]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_secret_that_is_missing_or_can_not_be_one_is_found() {
    let rig = Rig::new();
    rig.write("secret", "");
    rig.finds(&[], &["aws.identity", "is empty"]);
    rig.write("secret", "wJalr XUtnFEMI ");
    let text = rig.finds(&[], &["aws.identity", "blank"]);
    assert!(!text.contains("wJalr"), "{text}");
    let path = rig.write("secret", "x");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    rig.finds(&[], &["aws.identity", "chmod 600"]);
    fs::remove_file(path).unwrap();
    rig.finds(&[], &["aws.identity", "can't be read"]);

    for (identity, words) in [
        (
            r#"{ access_key = { id = "AKIA", secret = { variable = "NO_SUCH_VARIABLE" } } }"#,
            "NO_SUCH_VARIABLE",
        ),
        (r#"{ profile = { file = "/no/such/file", name = "service" } }"#, "/no/such/file"),
        (r#"{ process = ["/no/such/program", "credential-process"] }"#, "/no/such/program"),
    ] {
        let mut rig = Rig::new();
        let line = rig.text.lines().find(|line| line.contains("identity =")).unwrap().to_owned();
        rig.change(&line, &format!("identity = {identity}"));
        rig.finds(&[], &["aws.identity", words]);
    }

    // This shell's environment need not be the service's, so without --online it is only pointed out.
    let mut rig = Rig::new();
    let line = rig.text.lines().find(|line| line.contains("identity =")).unwrap().to_owned();
    rig.change(&line, "identity = \"environment\"");
    let (code, text) = rig.check(&[]);
    assert!(code == 0 && text.contains("AWS_ACCESS_KEY_ID"), "{text}");
    rig.finds(&["--online"], &["aws.identity", "AWS_ACCESS_KEY_ID"]);
}

#[test]
fn settings_that_are_dangerous_or_senseless_are_found() {
    for (from, to, words) in [
        (r#"["127.0.0.1"]"#, r#"["0.0.0.0/0"]"#, "http.trusted_proxies"),
        (r#"["127.0.0.1"]"#, r#"["::/0"]"#, "http.trusted_proxies"),
        (r#"trusted_proxies = ["127.0.0.1"]"#, "", "http.trusted_proxies"),
        ("policy/edge", "policy/../x", "permissions_boundary"),
        ("arn:aws:iam::123456789012:policy/edge", "arn:aws:iam::210987654321:policy/edge", "another"),
        ("arn:aws:iam::123456789012:policy/edge", "arn:aws:iam::aws:policy/AdministratorAccess", "bounds"),
        ("us-east-1", "cn-north-1", "partition"),
        (r#"account = "123456789012""#, r#"account = "12345""#, "aws.account"),
        ("audit.jsonl", "store.db", "store.path"),
        ("/audit.jsonl", "/nowhere/audit.jsonl", "install -d"),
        ("/rules.cedar", "/nowhere.cedar", "nowhere.cedar"),
        ("/audit.key", "/nowhere.key", "audit.key_file"),
        ("/people.toml", "/nowhere.toml", "login.ssh"),
    ] {
        let mut rig = Rig::new();
        rig.change(from, to);
        rig.finds(&[], &[words]);
    }
}

/// Issue 9, number 11: with no boundary, whoever may attach AdministratorAccess is an administrator.
#[test]
fn no_boundary_together_with_administrator_access_is_found() {
    for policy in ["AdministratorAccess", "IAMFullAccess"] {
        let mut rig = Rig::new();
        rig.change("arn:aws:iam::123456789012:policy/edge", "none");
        assert_eq!(rig.check(&[]).0, 0, "no boundary alone is a choice");
        rig.change("ReadOnlyAccess", policy);
        rig.finds(&[], &["permissions_boundary", policy]);
    }
}

#[test]
fn everything_is_found_at_once() {
    let mut rig = Rig::new();
    rig.change(r#"["127.0.0.1"]"#, r#"["0.0.0.0/0"]"#);
    rig.change("/people.toml", "/nowhere.toml");
    rig.change("/audit.key", "/nowhere.key");
    fs::remove_file(rig.folder.path().join("secret")).unwrap();
    rig.finds(&[], &["http.trusted_proxies", "login.ssh", "audit.key_file", "aws.identity"]);
}

#[test]
fn aws_and_the_database_are_asked_only_when_told_to() {
    let account = Ministack::shared().account();
    account.user("iam-sorryd");
    let good = Rig::online(&account);
    let (code, text) = good.check(&["--online"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("migrate"), "there is no database yet: {text}");

    let mut other = Rig::online(&account);
    other.change(account.id(), "123456789012");
    assert_eq!(other.check(&[]).0, 0);
    other.finds(&["--online"], &["aws.account", account.id()]);

    let wrong = Rig::online(&account);
    wrong.write("secret", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    assert_eq!(wrong.check(&[]).0, 0);
    let text = wrong.finds(&["--online"], &["aws"]);
    assert!(!text.contains("wJalr"), "{text}");

    let mut unreachable = Rig::new();
    unreachable.change("[store]\n            path = ", "[store]\nurl_file = ");
    let port = testkit::free_port();
    unreachable.write("store.db", &format!("postgresql://x:geheim@127.0.0.1:{port}/x"));
    unreachable.change("region =", "endpoint_sts = \"http://127.0.0.1:9\"\nregion =");
    let text = unreachable.finds(&["--online"], &["store:", "aws"]);
    assert!(!text.contains("geheim"), "{text}");
}
