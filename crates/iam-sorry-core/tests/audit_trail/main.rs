//! The audit trail: what is sealed reads back, what is tampered with is found, and others can check it without us.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod support;
mod tampering;

use std::process::Command;

use iam_sorry_core::api::AuditRecord;
use iam_sorry_core::audit::{
    Break, CheckpointKey, CheckpointSigner, Event, Expected, Record, new_key_pem, to_ocsf,
};
use proptest::prelude::*;
use zeroize::Zeroizing;

use support::{any_event, event, export, sealed, signer, verify};

proptest! {
    #[test]
    fn a_sealed_event_reads_back(event in any_event(), seq in 1_u64..1 << 50) {
        let record = Record::seal(seq, [7; 32], &event);
        prop_assert_eq!(&Record::parse(&record.line).unwrap(), &record);
        prop_assert_eq!(&record.event().unwrap(), &event);
        prop_assert!(!record.line.contains('\n'));
        let item = AuditRecord::try_from(&record).unwrap();
        let json = serde_json::to_string(&item).unwrap();
        prop_assert_eq!(serde_json::from_str::<AuditRecord>(&json).unwrap(), item);
        to_ocsf(&record).unwrap();
    }

    #[test]
    fn any_line_is_taken(lines in proptest::collection::vec("[{}\":,a-z0-9\\\\]{0,80}|\\PC{0,40}", 0..20)) {
        let mut verifier = verify(&[]);
        for line in &lines {
            verifier.line(line);
        }
        prop_assert!(!verifier.finish().is_sound());
    }
}

/// Records from before a field keep their bytes, and so their hashes: what is absent is not written.
#[test]
fn a_field_that_is_absent_leaves_no_byte() {
    let old = concat!(
        r#"{"action":"create-user","address":"10.0.0.7","aws_request_ids":["aws-1"],"decision":"allow","#,
        r#""details":{"policy_arn":"arn:aws:iam::aws:policy/X"},"instance":"i-1","operation":"op-1","#,
        r#""person":{"groups":["lab-dirk"],"id":"corp/7","method":"ssh-key","name":"alice"},"phase":"intent","#,
        r#""previous":"0707070707070707070707070707070707070707070707070707070707070707","#,
        r#""request_id":"req-1","resource":"dirk-1","rules":["lab-members"],"seq":1,"#,
        r#""time_ms":1795374000001,"v":1}"#
    );
    let record = Record::parse(old).unwrap();
    assert_eq!(record.event().unwrap().rules_digest, None);
    assert_eq!(Record::seal(1, [7; 32], &event(1)), record);
    let named = Event { rules_digest: Some("ab".repeat(32)), ..event(1) };
    let named = Record::seal(1, [7; 32], &named);
    assert!(
        named
            .line
            .contains(&format!(r#""rules":["lab-members"],"rules_digest":"{}","seq""#, "ab".repeat(32)))
    );
    assert_eq!(to_ocsf(&named).unwrap()["unmapped"]["rules_digest"], "ab".repeat(32));
}

#[test]
fn a_whole_export_is_sound_and_says_where_it_ends() {
    let records = sealed(40);
    let report = support::report(&export(&records, &[10, 25, 40]));
    assert_eq!(report.findings, []);
    assert_eq!(
        (report.records, report.first, report.checkpoints, report.signed_to),
        (40, Some(1), 3, Some(40))
    );
    let head = report.head.unwrap();
    assert_eq!((head.seq, head.hash), (40, records[39].hash));
    // Every third one is an intent, followed by its outcome; the last has none yet.
    assert_eq!(report.open, [(40, "op-40".to_owned())]);
}

/// An operator's record of a break is listed, with what was known before it, and is no finding by itself.
#[test]
fn a_break_is_named() {
    let before = Expected { seq: 50, hash: [7; 32] };
    let mut event = event(2);
    event.action = Break::ACTION.to_owned();
    for (name, value) in [
        (Break::REASON, "an old copy was restored".to_owned()),
        (Break::CHAIN, support::chain().to_string()),
        (Break::STATE, before.to_string()),
    ] {
        event.details.insert(name.to_owned(), value);
    }
    let report = support::report(&export(&support::chained([event]), &[1]));
    assert_eq!(report.findings, []);
    let expected = Some((support::chain().to_string(), before));
    assert_eq!(report.breaks, [Break { seq: 1, reason: "an old copy was restored".to_owned(), expected }]);
    let text = report.breaks[0].to_string();
    assert!(text.contains("Record 1") && text.contains(&before.to_string()), "{text}");
}

/// The format is checked by twenty lines of Python that know nothing of this program, odd texts included.
#[test]
fn python_checks_an_export_too() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut records = sealed(3);
    for _ in 0..60 {
        let odd = any_event().new_tree(&mut runner).unwrap().current();
        let last = records.last().unwrap();
        records.push(Record::seal(last.seq + 1, last.hash, &odd));
    }
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = (folder.path().join("export.jsonl"), folder.path().join("key.pem"));
    let lines = export(&records, &[20, 63]);
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    std::fs::write(&key, signer().public_key().to_pem()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/audit_trail/verify.py");
    // `cryptography` is in the tests' environment; the hashes need nothing beyond Python itself.
    let venv = std::env::var_os("IAM_SORRY_TEST_VENV").map(std::path::PathBuf::from);
    let (python, signatures) = match venv.map(|venv| venv.join("bin/python")) {
        Some(python) if has_cryptography(&python) => (python, true),
        _ => ("python3".into(), false),
    };
    let all = std::env::var_os("IAM_SORRY_TEST_ALL").is_some();
    assert!(
        signatures || !all,
        "python with cryptography is not in IAM_SORRY_TEST_VENV: scripts/deps installs it"
    );
    let run = |file: &std::path::Path| {
        let mut command = Command::new(&python);
        command.arg(script).arg(file);
        if signatures {
            command.arg(&key);
        }
        command.output().unwrap()
    };
    let output = run(&file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim(),
        format!("63 {}", records.last().unwrap().hash_hex())
    );
    // As a sink that sent some again after a lost answer.
    let again = [&lines[..=30], &lines[10..]].concat();
    std::fs::write(&file, again.join("\n") + "\n").unwrap();
    let output = run(&file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().trim().ends_with(" repeated"));
    // And it would have noticed.
    std::fs::write(&file, (lines.join("\n") + "\n").replacen("alice", "malice", 1)).unwrap();
    assert!(!run(&file).status.success());
}

/// Exports that another program made, from the format's description alone: what repeats, and what was put in.
#[test]
fn the_vectors_are_judged_as_they_say() {
    #[derive(serde::Deserialize)]
    struct Vectors {
        public_key: String,
        cases: Vec<Case>,
    }
    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        lines: Vec<String>,
        sound: bool,
        records: Option<u64>,
        repeated: Option<u64>,
    }
    let vectors: Vectors = serde_json::from_str(include_str!("../vectors/audit-v1.json")).unwrap();
    assert!(vectors.cases.len() >= 14);
    for case in vectors.cases {
        let mut verifier = verify(&[CheckpointKey::from_pem(&vectors.public_key).unwrap()]);
        case.lines.iter().for_each(|line| verifier.line(line));
        let report = verifier.finish();
        assert_eq!(report.is_sound(), case.sound, "{}: {:?}", case.name, report.findings);
        if case.sound {
            let counted = (Some(report.records), Some(report.repeated), report.signed_to);
            assert_eq!(counted, (case.records, case.repeated, Some(6)), "{}", case.name);
            assert_eq!(report.open, [], "{}", case.name);
        }
    }
}

fn has_cryptography(python: &std::path::Path) -> bool {
    Command::new(python).args(["-c", "import cryptography"]).output().is_ok_and(|o| o.status.success())
}

/// openssl makes the same keys, and verifies what we sign with them.
#[test]
fn openssl_reads_our_keys_and_we_read_its() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", &path("theirs.pem")]);
    let theirs = CheckpointSigner::from_pem(&std::fs::read_to_string(path("theirs.pem")).unwrap()).unwrap();
    let public = openssl(&["pkey", "-in", &path("theirs.pem"), "-pubout"]);
    assert_eq!(theirs.public_key().to_pem().into_bytes(), public);
    assert_eq!(&CheckpointKey::from_pem(&theirs.public_key().to_pem()).unwrap(), theirs.public_key());

    let ours = new_key_pem(&Zeroizing::new([9; 32]));
    std::fs::write(path("ours.pem"), ours.as_bytes()).unwrap();
    let public = openssl(&["pkey", "-in", &path("ours.pem"), "-pubout"]);
    let ours = CheckpointSigner::from_pem(&ours).unwrap();
    assert_eq!(ours.public_key().to_pem().into_bytes(), public);
    assert_eq!(format!("{ours:?}"), format!("CheckpointSigner({}, [redacted])", ours.public_key().id()));
    for text in ["", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----", "ssh-ed25519 AAAA"] {
        assert!(CheckpointSigner::from_pem(text).is_err());
        assert!(CheckpointKey::from_pem(text).is_err());
    }
    openssl(&["genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &path("ec.pem")]);
    let ec = std::fs::read_to_string(path("ec.pem")).unwrap();
    assert!(CheckpointSigner::from_pem(&ec).unwrap_err().to_string().contains("no Ed25519 key"));
}

/// Under such a key every trail would verify, whoever wrote it: the all-zero one, as PEM.
#[test]
fn a_weak_public_key_verifies_no_trail() {
    let zero = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----\n";
    let error = CheckpointKey::from_pem(zero).unwrap_err().to_string();
    assert!(error.contains("weak Ed25519 key") && error.contains("new-key"), "{error}");
}

/// A record of a newer program, with more in it than this one knows, is still followed through the chain.
#[test]
fn the_chain_is_followed_through_what_a_newer_program_wrote() {
    let mut records = sealed(2);
    let line = records[1].line.replacen("{\"action\"", "{\"a_new_field\":[1],\"action\"", 1);
    records[1] = Record::parse(&line).unwrap();
    let third = Record::seal(3, records[1].hash, &event(3));
    records.push(third);
    assert_eq!(support::report(&export(&records, &[3])).findings, []);
}

#[test]
fn ocsf_has_the_classes_that_fit() {
    let of = |action: &str| {
        let mut event = event(1);
        event.action = action.into();
        let value = to_ocsf(&Record::seal(1, [0; 32], &event)).unwrap();
        (value["class_uid"].as_u64().unwrap(), value["activity_id"].as_u64().unwrap(), value)
    };
    for (action, class, activity) in [
        ("sign-in", 3002, 1),
        ("sign-out", 3002, 2),
        ("create-user", 3001, 1),
        ("delete-user", 3001, 6),
        ("attach-policy", 3001, 7),
        ("detach-policy", 3001, 8),
        ("issue-credentials", 6003, 1),
        ("rotate-key", 6003, 3),
        ("read-audit", 6003, 2),
        ("something-new", 6003, 99),
    ] {
        let (found, with, value) = of(action);
        assert_eq!((found, with), (class, activity), "{action}");
        assert_eq!(value["type_uid"], class * 100 + activity);
        assert_eq!(value["category_uid"], class / 1000);
    }
}
