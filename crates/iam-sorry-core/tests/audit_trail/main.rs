//! The audit trail: what is sealed reads back, what is tampered with is found, and others can check it without us.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod groups;
mod lanes;
mod people;
mod python;
mod support;
mod tampering;
mod trail;
mod vectors;

use std::process::Command;

use iam_sorry_core::api::AuditRecord;
use iam_sorry_core::audit::{
    Break, CheckpointKey, CheckpointSigner, Event, LaneHead, LaneHeads, LaneId, Record, new_key_pem, to_ocsf,
};
use proptest::prelude::*;
use zeroize::Zeroizing;

use support::{any_event, event, export, forge, lane, sealed, verify};

proptest! {
    #[test]
    fn a_sealed_event_reads_back(event in any_event(), seq in 1_u64..1 << 50) {
        let record = forge(seq, [7; 32], &event);
        prop_assert_eq!(&Record::parse(&record.line).unwrap(), &record);
        prop_assert_eq!(&record.event().unwrap(), &event);
        prop_assert!(!record.line.contains('\n'));
        let item = AuditRecord::try_from(&record).unwrap();
        let json = serde_json::to_string(&item).unwrap();
        prop_assert_eq!(serde_json::from_str::<AuditRecord>(&json).unwrap(), item);
        to_ocsf(&record, None).unwrap();
        // Canonical: what any JSON library writes that sorts keys.
        let value: serde_json::Value = serde_json::from_str(&record.line).unwrap();
        prop_assert_eq!(support::sorted(&value).to_string(), record.line);
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

/// What is absent or empty is not written, so a record says no more than it must.
#[test]
fn a_field_that_is_absent_leaves_no_byte() {
    let bare =
        Event { time_ms: 7, instance: "i-1".into(), action: "service-started".into(), ..Event::default() };
    let previous = "07".repeat(32);
    assert_eq!(
        forge(2, [7; 32], &bare).line,
        format!(
            r#"{{"action":"service-started","instance":"i-1","lane":"0101010101010101","person":{{"id":"","name":""}},"phase":"event","previous":"{previous}","seq":2,"time_ms":7,"v":2}}"#
        )
    );
    let named = Event { rules_digest: Some("ab".repeat(32)), account: Some("physics".into()), ..event(1) };
    let named = forge(1, [7; 32], &named);
    assert!(named.line.starts_with(r#"{"account":"physics","action":"create-user","#), "{}", named.line);
    let ocsf = to_ocsf(&named, None).unwrap();
    assert_eq!(ocsf["unmapped"]["rules_digest"], "ab".repeat(32));
    assert_eq!(ocsf["cloud"]["account"]["name"], "physics");
}

/// A record of version 1 reads as it always did: lane zero, and none of the fields that came later.
#[test]
fn a_record_of_version_1_is_read() {
    let old = concat!(
        r#"{"action":"create-user","address":"10.0.0.7","aws_request_ids":["aws-1"],"decision":"allow","#,
        r#""details":{"policy_arn":"arn:aws:iam::aws:policy/X"},"instance":"i-1","operation":"op-1","#,
        r#""person":{"groups":["lab-dirk"],"id":"corp/7","method":"ssh-key","name":"alice"},"phase":"intent","#,
        r#""previous":"0707070707070707070707070707070707070707070707070707070707070707","#,
        r#""request_id":"req-1","resource":"dirk-1","rules":["lab-members"],"seq":1,"#,
        r#""time_ms":1795374000001,"v":1}"#
    );
    let record = Record::parse(old).unwrap();
    assert_eq!((record.lane, record.seq, record.id().to_string()), (LaneId::ZERO, 1, "1".to_owned()));
    assert_eq!(record.event().unwrap(), event(1));
    assert_eq!(support::seal_v1(1, [7; 32], &event(1)), record);
    for lane in ["\"lane\":\"0000000000000000\",\"operation\"", "\"lane\":\"01\",\"operation\""] {
        let line = old.replacen("\"operation\"", lane, 1);
        assert!(Record::parse(&line).is_err(), "version 1 has no lanes: {line}");
        assert!(Record::parse(&line.replace("\"v\":1", "\"v\":2")).is_err(), "{line}");
    }
}

#[test]
fn a_whole_export_is_sound_and_says_where_it_ends() {
    let records = sealed(40);
    let report = support::report(&export(&records, &[10, 25, 40]));
    assert_eq!(report.findings, []);
    assert_eq!((report.records, report.lanes, report.checkpoints), (40, 1, 3));
    assert_eq!((report.last_checkpoint, report.unsigned), (Some(3), 0));
    assert_eq!(report.heads, [records[39].head()].into_iter().collect());
    // Every third one is an intent, followed by its outcome; the last has none yet.
    assert_eq!(report.open, [(lane().record(40), "op-40".to_owned())]);
}

/// An operator's record of a break is listed, with what was known before it, and is no finding by itself.
#[test]
fn a_break_is_named() {
    let state = |lane, seq| LaneHead { lane, seq, hash: [7; 32] };
    let before: LaneHeads =
        [state(LaneId::ZERO, 50), state(LaneId::from_bytes([9; 8]), 3)].into_iter().collect();
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
    let expected = Some((support::chain().to_string(), before.clone()));
    let record = lane().record(1);
    assert_eq!(report.breaks, [Break { record, reason: "an old copy was restored".to_owned(), expected }]);
    let text = report.breaks[0].to_string();
    assert!(text.contains("Record 0101010101010101:1") && text.contains(&before.to_string()), "{text}");
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
    let third = forge(3, records[1].hash, &event(3));
    records.push(third);
    assert_eq!(support::report(&export(&records, &[3])).findings, []);
}

#[test]
fn ocsf_has_the_classes_that_fit() {
    let of = |action: &str| {
        let mut event = event(1);
        event.action = action.into();
        let value = to_ocsf(&forge(1, [0; 32], &event), None).unwrap();
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
