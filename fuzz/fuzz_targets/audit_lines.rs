//! An export of an audit trail, as a stranger might hand it in: any bytes are taken, and never found sound by accident.
#![no_main]

use iam_sorry_core::audit::{Checkpoint, CheckpointKey, CheckpointSigner, Record, Verifier, to_ocsf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (CheckpointKey::from_pem(text), CheckpointSigner::from_pem(text));
    let mut verifier = Verifier::new(Vec::new());
    for line in text.lines() {
        verifier.line(line);
        if let Ok(record) = Record::parse(line) {
            assert_eq!(Record::parse(&record.line).as_ref(), Ok(&record));
            let _ = to_ocsf(&record);
            // What this program understands whole, it writes in the same bytes, or they were not canonical.
            if let Ok(event) = record.event() {
                let again = Record::seal(record.seq, record.previous, &event);
                assert_eq!(again.event().as_ref(), Ok(&event));
            }
        }
        if let Ok(checkpoint) = Checkpoint::parse(line) {
            assert_eq!(checkpoint.export_line(), line);
        }
    }
    let report = verifier.finish();
    assert!(report.findings.len() <= 1000 && report.findings.len() as u64 <= report.count);
});
