//! Exports that another program made, from the format's description alone: make_vectors.py, and for version 1 by hand.

use iam_sorry_core::audit::CheckpointKey;

use crate::support::verify;

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
    lanes: Option<u64>,
    signatures: Option<u64>,
}

fn judge(vectors: &str) -> usize {
    let vectors: Vectors = serde_json::from_str(vectors).unwrap();
    for case in &vectors.cases {
        let mut verifier = verify(&[CheckpointKey::from_pem(&vectors.public_key).unwrap()]);
        case.lines.iter().for_each(|line| verifier.line(line));
        let report = verifier.finish();
        assert_eq!(report.is_sound(), case.sound, "{}: {:?}", case.name, report.findings);
        if case.sound {
            let counted = (Some(report.records), Some(report.repeated), report.unsigned);
            assert_eq!(counted, (case.records, case.repeated, 0), "{}", case.name);
            assert_eq!(report.open, [], "{}", case.name);
            let more = (report.lanes, report.signatures);
            assert_eq!(more, (case.lanes.unwrap_or(1), case.signatures.unwrap_or(0)), "{}", case.name);
        }
    }
    vectors.cases.len()
}

#[test]
fn the_vectors_of_version_1_are_judged_as_they_say() {
    assert!(judge(include_str!("../vectors/audit-v1.json")) >= 14);
}

#[test]
fn the_vectors_of_version_2_are_judged_as_they_say() {
    assert!(judge(include_str!("../vectors/audit-v2.json")) >= 20);
}
