//! `iam-sorryd rules`, as an operator runs it.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const RULES: &str = r#"
@id("owners") permit (principal, action, resource) when { resource has owners && principal in resource.owners };
@id("one-hour") @reason("short is safe") forbid (principal, action in IamSorry::Action::"credentials", resource)
when { context.duration > 3600 };
"#;

const CASES: &str = r#"
[[case]]
person = "dana"
groups = ["lab-dirk"]
action = "create-user"
resource = "dirk-x"
expect = "allow"
expect_rule = "owners"

[[case]]
name = "cut"
person = "dana"
groups = ["lab-dirk"]
action = "issue-credentials"
resource = "dirk-x"
duration = 36000
expect = "allow"
expect_seconds = 3600
"#;

struct Rig {
    folder: TempDir,
    config: PathBuf,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            r#"
            name = "Test"
            [http]
            origin = "http://127.0.0.1:8080"
            listen = "127.0.0.1:8080"
            [store]
            path = {store:?}
            [aws]
            region = "us-east-1"
            identity = "environment"
            [login.ssh]
            file = {people:?}
            [rules]
            files = [{rules:?}]
            [[namespace]]
            name = "dirk"
            owners = ["group:lab-dirk"]
            [guardrails]
            permissions_boundary = "none"
            "#,
            store = at("store.db"),
            people = at("people.toml"),
            rules = at("rules"),
        );
        std::fs::create_dir(folder.path().join("rules")).unwrap();
        let rig = Self { config: folder.path().join("config.toml"), folder };
        std::fs::write(&rig.config, config).unwrap();
        rig.write("people.toml", "");
        rig.write("rules/lab.cedar", RULES);
        rig
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Exit code, standard output, standard error.
    fn run(&self, verb: &str, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iam-sorryd"));
        command.args(["rules", verb]);
        if verb != "schema" {
            command.arg("--config").arg(&self.config);
        }
        let output = command.args(arguments).env_clear().output().unwrap();
        let text = |bytes: &[u8]| {
            let shown = String::from_utf8(bytes.to_vec()).unwrap();
            shown.replace(&Path::new(self.folder.path()).display().to_string(), "DIR")
        };
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

#[test]
fn check_says_what_is_wrong_and_where() {
    let rig = Rig::new();
    assert_eq!(rig.run("check", &[]), (0, "2 rules, nothing wrong with them.\n".into(), String::new()));
    let bad =
        rig.write("new.cedar", "permit (principal, action, resource)\nwhen { principal.nme == \"a\" };\n");
    let (code, out, err) = rig.run("check", &["--rules", &bad]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.starts_with("Error: The rules can't be used.\nDIR/new.cedar:2:8: "), "{err}");
    assert!(err.contains("name"), "the hint says what was meant: {err}");
    let (code, _, err) = rig.run("check", &["--rules", "/no/such/rules"]);
    assert_eq!(code, 3);
    assert!(err.contains("/no/such/rules: the file can't be read"), "{err}");
    let odd = rig.write(
        "odd.cedar",
        "forbid (principal, action in IamSorry::Action::\"policies\", resource)\nwhen { context.policyArn == \"arn:aws:iam::aws:policy/X\" };",
    );
    let (code, _, err) = rig.run("check", &["--rules", &odd]);
    assert!(code == 0 && err.starts_with("Warning: DIR/odd.cedar:1:1: "), "{code} {err}");
}

#[test]
fn cases_pass_or_fail_the_command() {
    let rig = Rig::new();
    let cases = rig.write("cases.toml", CASES);
    let (code, out, err) = rig.run("test", &[&cases]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (
            0,
            "DIR/cases.toml\nok      1: dana: create-user dirk-x\nok      2: cut\n2 cases, all as expected.\n",
            ""
        )
    );
    // The same cases with a new set that is not in force.
    let wider = rig.write("wider.cedar", "@id(\"all\") permit (principal, action, resource);");
    let (code, out, err) = rig.run("test", &["--rules", &wider, &cases]);
    assert_eq!(code, 3);
    assert!(
        out.contains("FAILED  1: dana: create-user dirk-x\n          expected \"owners\" to decide"),
        "{out}"
    );
    assert!(out.contains("expected 3600 seconds, got 36000 seconds"), "{out}");
    assert_eq!(err, "Error: 2 of 2 cases came out otherwise than expected.\n");
    let (code, _, err) = rig.run("test", &[&rig.write("empty.toml", "")]);
    assert_eq!((code, err.as_str()), (3, "Error: DIR/empty.toml: There is no [[case]] in the file.\n"));
}

#[test]
fn explain_names_the_rule() {
    let rig = Rig::new();
    let (code, out, _) = rig.run(
        "explain",
        &["issue-credentials", "dirk-x", "--person", "Dana", "--group", "Lab-Dirk", "--duration", "7200"],
    );
    assert_eq!(code, 0);
    assert_eq!(
        out,
        "allowed\n  rule \"owners\" (lab.cedar) allows it\n  cut from 2 h to 1 h: rule \"one-hour\" \
         (lab.cedar) forbids it: short is safe\n  for at most 1 h\n  2 of 2 rules could apply to this person, \
         action and resource\n"
    );
    let (code, out, _) = rig.run("explain", &["show-user", "elsewhere", "--person", "dana"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("refused\n  guardrail namespace: elsewhere is in no namespace"), "{out}");
    let (code, _, err) = rig.run("explain", &["fly", "dirk-x", "--person", "dana"]);
    assert!(code == 1 && err.contains("The actions are: create-user"), "{err}");
}

#[test]
fn the_schema_is_published() {
    let rig = Rig::new();
    let (code, out, _) = rig.run("schema", &[]);
    assert_eq!((code, out.trim_end()), (0, iam_sorry_rules::SCHEMA.trim_end()));
}
