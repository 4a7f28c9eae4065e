//! The format is checked by a page of Python that knows nothing of this program, odd texts included.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use iam_sorry_core::audit::{Event, Record};
use proptest::strategy::{Strategy as _, ValueTree as _};

use crate::support::{any_event, signed, signer};
use crate::trail::Trail;

/// Runs verify.py over lines.
struct Checker {
    folder: tempfile::TempDir,
    python: PathBuf,
    signatures: bool,
}

impl Checker {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key.pem"), signer().public_key().to_pem()).unwrap();
        // `cryptography` is in the tests' environment; the hashes need nothing beyond Python itself.
        let venv = std::env::var_os("IAM_SORRY_TEST_VENV").map(PathBuf::from);
        let (python, signatures) = match venv.map(|venv| venv.join("bin/python")) {
            Some(python) if has_cryptography(&python) => (python, true),
            _ => ("python3".into(), false),
        };
        let all = std::env::var_os("IAM_SORRY_TEST_ALL").is_some();
        assert!(
            signatures || !all,
            "python with cryptography is not in IAM_SORRY_TEST_VENV: scripts/deps installs it"
        );
        Self { folder, python, signatures }
    }

    fn run(&self, lines: &[String]) -> Output {
        let file = self.folder.path().join("export.jsonl");
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        let mut command = Command::new(&self.python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/audit_trail/verify.py")).arg(file);
        if self.signatures {
            command.arg(self.folder.path().join("key.pem"));
        }
        command.output().unwrap()
    }

    fn sound(&self, lines: &[String]) -> String {
        let output = self.run(lines);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

fn has_cryptography(python: &Path) -> bool {
    Command::new(python).args(["-c", "import cryptography"]).output().is_ok_and(|o| o.status.success())
}

/// Three instances after a version 1, with every text that may be in a record, and one that died.
fn odd_trail() -> Trail {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut trail = Trail::of_version_1(5);
    let (one, two) = (trail.open(), trail.open());
    for n in 0..60 {
        let odd = any_event().new_tree(&mut runner).unwrap().current();
        // Approvals name records that are not there.
        let odd = Event { approval: None, ..odd };
        trail.write_event(if n % 3 == 0 { one } else { two }, &odd);
        if n % 20 == 19 {
            trail.sign();
        }
    }
    trail.write_event(one, &Event { signature: Some(signed("{}")), ..crate::support::event(2) });
    trail.close(one);
    let three = trail.open();
    trail.end(three, two);
    trail.sign();
    trail
}

#[test]
fn python_checks_an_export_too() {
    let checker = Checker::new();
    let trail = odd_trail();
    let head = trail.heads().to_string();
    assert_eq!(checker.sound(&trail.lines), format!("whole 71 {head}"));
    // As a sink that sent some again after a lost answer.
    let again = [&trail.lines[..=30], &trail.lines[10..]].concat();
    assert_eq!(checker.sound(&again), format!("whole 71 {head} 21 repeated"));
    // And it would have noticed.
    let forged = trail.lines.join("\n").replacen("alice", "malice", 1);
    assert!(!checker.run(&[forged]).status.success());
}

/// Every vector is judged alike; where Python has no signatures, those that are sound.
#[test]
fn python_judges_the_vectors() {
    let checker = Checker::new();
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../vectors/audit-v2.json")).unwrap();
    for case in vectors["cases"].as_array().unwrap() {
        let lines: Vec<String> = serde_json::from_value(case["lines"].clone()).unwrap();
        let output = checker.run(&lines);
        if checker.signatures || case["sound"] == true {
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), case["sound"] == true, "{}: {text}", case["name"]);
        }
    }
}

/// What this program finds, Python finds as well.
#[test]
fn python_notices_what_was_tampered_with() {
    let checker = Checker::new();
    let trail = odd_trail();
    let at = |what: &str| trail.lines.iter().position(|line| line.contains(what)).unwrap();
    let without = |at: usize| [&trail.lines[..at], &trail.lines[at + 1..]].concat();
    let lane = trail.heads().iter().next().unwrap().lane.to_string();
    let dropped: Vec<String> =
        trail.lines.iter().filter(|line| !line.contains(&format!("\"lane\":\"{lane}\""))).cloned().collect();
    let mut late = odd_trail();
    let dead = Record::parse_export_line(&late.lines[at("\"ends\":{\"")]).unwrap();
    let dead = dead.links().unwrap().ends.iter().next().unwrap().lane;
    late.lines.pop();
    let last = late.lines.pop().unwrap();
    let ended = Record::parse_export_line(&last).unwrap().links().unwrap().ends.iter().next().unwrap().lane;
    assert_ne!(dead, ended, "version 1 ended first");
    late.late(ended);
    late.lines.push(last);
    for (what, lines) in [
        ("a record", without(20)),
        ("a closing record", without(at("\"closes\":1"))),
        ("a checkpoint", without(at("\"number\":2"))),
        ("a lane", dropped),
        ("a late writer", late.lines),
    ] {
        assert!(!checker.run(&lines).status.success(), "{what}");
    }
}
