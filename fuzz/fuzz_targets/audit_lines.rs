//! An export of an audit trail, as a stranger might hand it in: any bytes are taken, and never found sound by accident.
#![no_main]

use iam_sorry_core::audit::{
    Checkpoint, CheckpointKey, CheckpointSigner, ExportHeader, LaneHeads, LaneWriter, Record, Verifier,
    groups_line, to_ocsf,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (CheckpointKey::from_pem(text), CheckpointSigner::from_pem(text));
    if let Some(heads) = LaneHeads::parse(text) {
        assert_eq!(LaneHeads::parse(&heads.to_string()), Some(heads));
    }
    let mut verifier = Verifier::new(Vec::new());
    let mut part = Verifier::new(Vec::new()).part();
    for line in text.lines() {
        verifier.line(line);
        part.line(line);
        // As it stands in a line of an export, or alone.
        let record = Record::parse_export_line(line).or_else(|_| Record::parse(line));
        if let Ok(record) = record {
            assert_eq!(Record::parse(&record.line).as_ref(), Ok(&record));
            let _ =
                (to_ocsf(&record, None), record.links(), record.groups_digest(), record.introduced_groups());
            // What this program understands, it writes so that it reads the same again.
            if let Ok(event) = record.event() {
                let mut writer =
                    LaneWriter::new(iam_sorry_core::audit::ChainId::from_random([1; 16]), record.lane);
                let again = writer.seal(&event, &record.links().unwrap_or_default());
                if record.lane != iam_sorry_core::audit::LaneId::ZERO {
                    assert_eq!(again.event().as_ref(), Ok(&event));
                }
            }
        }
        if let Ok(checkpoint) = Checkpoint::parse(line) {
            assert_eq!(checkpoint.export_line(), line);
        }
        if let Some(header) = ExportHeader::parse(line) {
            assert_eq!(ExportHeader::parse(&header.line()), Some(header));
        }
        let groups: Vec<String> = line.split(',').map(str::to_owned).collect();
        let mut alone = Verifier::new(Vec::new());
        alone.line(&groups_line(&groups));
        assert_eq!(alone.finish().count, 1, "there is no record in it");
    }
    for report in [verifier.finish(), part.finish()] {
        assert!(report.findings.len() <= 1000 && report.findings.len() as u64 <= report.count);
    }
});
