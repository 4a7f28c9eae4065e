//! Checkpoints: what they vouch for, and what the service refuses to vouch for.

use std::path::Path;
use std::process::Command;

use iam_sorry_core::api::ExportFormat;
use iam_sorry_core::audit::Verifier;
use iam_sorry_server::audit::checkpoints::{CheckpointError, Checkpointer};
use iam_sorry_server::audit::export::ExportLines;
use iam_sorry_server::audit::settings::AuditSettings;
use iam_sorry_store::{Settings, Store, TrailPosition};
use testkit::Postgres;

use super::trail::{NOW, Trail, event, signer, verify};

async fn export(trail: &Trail) -> String {
    let mut lines =
        ExportLines::part(trail.store.clone(), ExportFormat::Jsonl, TrailPosition::default(), None);
    let mut text = String::new();
    while let Some(part) = lines.next().await.unwrap() {
        text.push_str(&part);
    }
    text
}

/// The number of a record of the first lane in the database.
fn in_lane_1(seq: u64) -> u64 {
    (1 << 36) + seq
}

/// Writes into the database behind the service's back, as somebody with its file could: the triggers that keep the trail
/// append-only go first.
fn tamper(folder: &Path, sql: &str) {
    let script = "import sqlite3, sys
c = sqlite3.connect(sys.argv[1])
for (name,) in c.execute(\"SELECT name FROM sqlite_master WHERE type = 'trigger'\").fetchall():
    c.execute(f'DROP TRIGGER {name}')
c.execute(sys.argv[2])
c.commit()";
    let done = Command::new(testkit::venv_bin("python"))
        .args(["-c", script])
        .arg(folder.join("store.db"))
        .arg(sql)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn an_export_has_each_checkpoint_behind_its_record_and_verifies() {
    let trail = Trail::new();
    let checkpointer = trail.checkpointer(signer());
    assert_eq!(checkpointer.sign_now().await.unwrap(), None, "nothing to sign yet");
    for (number, (records, total)) in (1..).zip([(1, 1), (1_500, 1_501), (3, 1_504)]) {
        trail.record(records).await;
        let checkpoint = checkpointer.sign_now().await.unwrap().unwrap();
        assert_eq!(checkpoint.number, number);
        assert_eq!(checkpoint.heads.iter().map(|head| head.seq).collect::<Vec<_>>(), [total]);
        assert_eq!(checkpointer.sign_now().await.unwrap(), Some(checkpoint), "nothing new: the same");
    }
    let text = export(&trail).await;
    let report = verify(text.lines());
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!((report.records, report.checkpoints, report.unsigned), (1_504, 3, 0));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[2].contains("\"checkpoint\""), "right behind record 1");
    assert!(lines.last().unwrap().contains("\"checkpoint\""));
}

/// Whoever can write the database changes a record: the service does not sign what does not fit.
#[tokio::test]
async fn a_trail_that_was_changed_is_not_signed() {
    let trail = Trail::new();
    let checkpointer = trail.checkpointer(signer());
    trail.record(5).await;
    checkpointer.sign_now().await.unwrap();
    trail.record(5).await;
    tamper(
        trail.folder.path(),
        &format!(
            "UPDATE audit SET line = replace(line, '192.0.2.1', '192.0.2.2') WHERE seq = {}",
            in_lane_1(8)
        ),
    );
    let error = checkpointer.sign_now().await.unwrap_err();
    assert!(matches!(error, CheckpointError::Broken { record } if record.seq == 8), "{error}");
    assert_eq!(checkpointer.broken().map(|record| record.seq), Some(8));
    let findings = verify(export(&trail).await.lines()).findings;
    assert!(!findings.is_empty(), "the export shows it as well");
}

#[tokio::test]
async fn a_record_that_was_taken_away_is_not_signed_over() {
    let trail = Trail::new();
    let checkpointer = trail.checkpointer(signer());
    trail.record(10).await;
    tamper(trail.folder.path(), &format!("DELETE FROM audit WHERE seq = {}", in_lane_1(4)));
    let error = checkpointer.sign_now().await.unwrap_err();
    assert!(matches!(error, CheckpointError::Broken { record } if record.seq == 4), "{error}");
}

#[tokio::test]
async fn a_part_of_the_trail_and_ocsf_say_what_they_are() {
    let trail = Trail::new();
    trail.record(20).await;
    trail.checkpointer(signer()).sign_now().await.unwrap();
    let (from, until) =
        (trail.store.position_at(NOW + 4).await.unwrap(), trail.store.position_at(NOW + 10).await.unwrap());
    let mut lines = ExportLines::part(trail.store.clone(), ExportFormat::Jsonl, from, Some(until));
    let text = lines.next().await.unwrap().unwrap();
    assert_eq!(text.lines().count(), 7, "a header and records 5 to 10");
    assert!(text.lines().next().unwrap().contains("\"begins\""), "{text}");
    assert!(lines.next().await.unwrap().is_none());
    let mut verifier = Verifier::new(Vec::new()).part();
    text.lines().for_each(|line| verifier.line(line));
    assert_eq!(verifier.finish().findings, []);
    let mut lines =
        ExportLines::part(trail.store.clone(), ExportFormat::Ocsf, TrailPosition::default(), None);
    let text = lines.next().await.unwrap().unwrap();
    for line in text.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["class_uid"].is_u64(), "{line}");
    }
    assert_eq!(text.lines().count(), 20);
}

/// Two instances on one database: each checkpoint names the one before, so only one of them may sign at a time.
#[tokio::test(flavor = "multi_thread")]
async fn two_instances_make_one_chain_of_checkpoints() {
    let settings = Settings::postgres(Postgres::shared().database().into(), None).unwrap();
    Store::migrate(&settings).unwrap();
    let both = ["one", "two"].map(|name| {
        let store = Store::open(&settings, name).unwrap();
        let checkpointer = Checkpointer::new(store.clone(), signer(), &AuditSettings::default(), || NOW);
        (store, checkpointer)
    });
    let working = both.iter().map(|(store, checkpointer)| async move {
        for n in 0..40 {
            store.record(vec![event(n)]).await.unwrap();
            checkpointer.sign_now().await.unwrap();
            if n % 10 == 9 {
                store.release("checkpoints").await.unwrap(); // the other one's turn
            }
        }
    });
    futures_util::future::join_all(working).await;
    both[0].0.release("checkpoints").await.unwrap();
    both[1].1.sign_now().await.unwrap();
    let mut lines = ExportLines::part(both[0].0.clone(), ExportFormat::Jsonl, TrailPosition::default(), None);
    let mut text = String::new();
    while let Some(part) = lines.next().await.unwrap() {
        text.push_str(&part);
    }
    let report = verify(text.lines());
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!((report.records, report.lanes, report.unsigned), (80, 2, 0));
}
