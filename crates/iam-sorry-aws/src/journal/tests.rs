//! Entries on a real disk: what is written, who may read it, and what a torn or planted file can do (nothing).

use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::Mode;

use super::*;
use crate::clock::now_ms;
use crate::key::lost::Window;

fn intent() -> Intent {
    Intent {
        version: 1,
        user: "alice".into(),
        account: "123456789012".into(),
        partition: "aws".into(),
        region: "eu-central-1".into(),
        endpoint: None,
        manager: "usermanager".into(),
        target: "alice".into(),
        purpose: Purpose::Once,
        host: MACHINE.host.clone(),
        pid: std::process::id(),
        process_start: process_start(std::process::id()),
        boot_id: MACHINE.boot_id.clone(),
        at_ms: now_ms(),
        aws_ahead: 0,
        keys_before: vec!["AKIAOLDOLDOLDOLDOLD1".into()],
    }
}

fn journal() -> (tempfile::TempDir, JournalFolder) {
    let folder = tempfile::tempdir().unwrap();
    let journal = JournalFolder::new(folder.path().join("state/journal"));
    (folder, journal)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_missing_folder_holds_nothing_and_is_not_made() {
    let (_folder, journal) = journal();
    assert!(journal.pending().unwrap().entries.is_empty());
    assert!(!journal.folder().exists());
}

#[test]
fn an_entry_lives_from_begin_to_clear_and_is_private() {
    let (_folder, journal) = journal();
    let entry = journal.begin(intent()).unwrap();
    assert_eq!((mode(journal.folder()), mode(entry.path())), (0o700, 0o600));
    entry.note(&Fact::KeyId("AKIANEWNEWNEWNEWNEW1".into())).unwrap();
    let listed = journal.pending().unwrap().entries;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].record.key_id.as_deref(), Some("AKIANEWNEWNEWNEWNEW1"));
    assert_eq!(listed[0].record.intent.user, "alice");
    assert_eq!(listed[0].state, State::Running);
    entry.clear().unwrap();
    assert!(journal.pending().unwrap().entries.is_empty());
    assert_eq!(std::fs::read_dir(journal.folder()).unwrap().count(), 0, "no leftovers");
}

#[test]
fn a_folder_that_lets_others_in_is_narrowed() {
    let (_folder, journal) = journal();
    std::fs::create_dir_all(journal.folder()).unwrap();
    std::fs::set_permissions(journal.folder(), PermissionsExt::from_mode(0o777)).unwrap();
    drop(journal.begin(intent()).unwrap());
    assert_eq!(mode(journal.folder()), 0o700);
}

#[test]
fn a_heartbeat_tells_the_time_of_death() {
    let (_folder, journal) = journal();
    let entry = journal.begin(intent()).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let before = now_ms();
    entry.heartbeat(true).unwrap();
    let record = entry.reread().unwrap();
    assert!((before..=now_ms()).contains(&record.last_sign_ms), "{} {}", before, record.last_sign_ms);
}

#[test]
fn another_machines_entry_is_left_alone_for_a_quarter_of_an_hour() {
    let (_folder, journal) = journal();
    let mut foreign = intent();
    (foreign.host, foreign.boot_id) = ("elsewhere".into(), "another-boot".into());
    let path = journal.begin(foreign).unwrap().path().to_owned();
    let state = || journal.pending().unwrap().entries[0].state.clone();
    assert!(matches!(state(), State::Elsewhere { wait } if (890..=901).contains(&wait)), "{:?}", state());
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(901)).unwrap();
    assert_eq!(state(), State::Dead);
}

#[test]
fn after_a_reboot_the_owner_is_dead() {
    let (_folder, journal) = journal();
    let mut earlier = intent();
    earlier.boot_id = "an-earlier-boot".into();
    drop(journal.begin(earlier).unwrap());
    assert_eq!(journal.pending().unwrap().entries[0].state, State::Dead);
}

#[test]
fn planted_files_are_listed_and_never_followed() {
    let (folder, journal) = journal();
    let real = journal.begin(intent()).unwrap();
    let target = folder.path().join("target.json");
    std::fs::copy(real.path(), &target).unwrap();
    symlink(&target, journal.folder().join("0-link.json")).unwrap();
    std::fs::write(journal.folder().join("1-garbage.json"), "not json").unwrap();
    std::fs::write(journal.folder().join("2-empty.json"), "").unwrap();
    std::fs::create_dir(journal.folder().join("3-folder.json")).unwrap();
    std::fs::write(journal.folder().join("notes.txt"), "mine").unwrap();
    let fifo = rustix::fs::CWD;
    let fifo_path = journal.folder().join("4-fifo.json");
    rustix::fs::mknodat(fifo, &fifo_path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let listing = journal.pending().unwrap();
    assert_eq!(listing.entries.len(), 1);
    assert_eq!(listing.unreadable.len(), 5, "{:?}", listing.unreadable);
    assert!(journal.take(&journal.folder().join("0-link.json")).is_err());
}

#[test]
fn an_entry_that_somebody_else_finished_is_none() {
    let (_folder, journal) = journal();
    let entry = journal.begin(intent()).unwrap();
    let path = entry.path().to_owned();
    assert!(journal.take(&path).is_err(), "held by its owner");
    entry.clear().unwrap();
    assert!(journal.take(&path).unwrap().is_none());
}

#[test]
fn the_window_is_on_awss_clock() {
    let mut intent = intent();
    (intent.at_ms, intent.aws_ahead) = (1_000_000_500, 60);
    let text = Fact::Intent(Box::new(intent)).to_line().unwrap();
    let record = Record::parse(&text, 1_000_003_200).unwrap();
    // Intent at second 1000000, last sign of life at 1000003: 5 s and rounding after, one minute ahead.
    assert_eq!(window(&record), Window { intent: 1_000_060, until: 1_000_069 });
    // A file time from before the intent (restored from a backup) does not turn the window around.
    let restored = Record::parse(&text, 0).unwrap();
    assert_eq!(window(&restored), Window { intent: 1_000_060, until: 1_000_066 });
}

fn window(record: &Record) -> Window {
    record.attempt(true).window
}

/// What is written after the owner's death touches the file; the window must not grow by that, or a key that somebody made
/// later would be taken for the entry's.
#[test]
fn what_a_later_run_writes_does_not_move_the_window() {
    let (_folder, journal) = journal();
    let entry = journal.begin(intent()).unwrap();
    let file = File::options().write(true).open(entry.path()).unwrap();
    let died = SystemTime::now() + Duration::from_secs(7);
    file.set_modified(died).unwrap();
    let before = entry.reread().unwrap();
    let suspect = |id: &str| crate::key::lost::Suspect {
        key_id: id.into(),
        deactivated: true,
        found: iam_sorry_core::timestamp::Timestamp::EPOCH,
    };
    let writing = Entry { folder: &journal, open: &entry, user: "alice" };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for id in ["AKIAFOUNDFOUNDFOUND1", "AKIAFOUNDFOUNDFOUND1", "AKIAFOUNDFOUNDFOUND2"] {
        runtime.block_on(crate::key::Journal::note_found(&writing, &[suspect(id)])).unwrap();
    }
    let after = entry.reread().unwrap();
    assert!(after.touched_ms < before.touched_ms, "the file was touched");
    assert_eq!((window(&after), after.last_sign_ms), (window(&before), before.last_sign_ms));
    assert_eq!(after.found, ["AKIAFOUNDFOUNDFOUND1", "AKIAFOUNDFOUNDFOUND2"]);
}

/// A key that fits alone is deactivated again until it is written down that it is; several wait for a person at once.
#[test]
fn what_was_found_waits_for_a_person() {
    let entry = |facts: &[Fact]| {
        let mut text = Fact::Intent(Box::new(intent())).to_line().unwrap();
        text.extend(facts.iter().map(|fact| fact.to_line().unwrap()));
        Record::parse(&text, 0).unwrap()
    };
    let (one, two) = ("AKIAFOUNDFOUNDFOUND1".to_owned(), "AKIAFOUNDFOUNDFOUND2".to_owned());
    let found = |ids: &[&String]| Fact::Found(ids.iter().map(|id| (*id).clone()).collect());
    assert_eq!(entry(&[]).suspects(), None);
    assert_eq!(entry(&[found(&[&one])]).suspects(), None);
    let deactivated = entry(&[found(&[&one]), Fact::Deactivated(one.clone())]).suspects().unwrap();
    assert_eq!((deactivated.len(), deactivated[0].deactivated), (1, true));
    let several = entry(&[found(&[&one, &two])]).suspects().unwrap();
    assert!(several.len() == 2 && several.iter().all(|suspect| !suspect.deactivated));
    // Never a key that was there before, whatever the file says.
    let old = "AKIAOLDOLDOLDOLDOLD1".to_owned();
    assert_eq!(entry(&[found(&[&old, &one])]).found, [one]);
}

/// An older version, which may share the home, deletes no key that it finds under this name.
#[test]
fn an_older_version_reads_that_a_person_decides() {
    let line = Fact::Found(vec!["AKIAFOUNDFOUNDFOUND1".into()]).to_line().unwrap();
    assert_eq!(line, "{\"unclear\":[\"AKIAFOUNDFOUNDFOUND1\"]}\n");
}

#[test]
fn a_key_from_before_is_never_the_entrys_whatever_the_file_says() {
    let mut text = Fact::Intent(Box::new(intent())).to_line().unwrap();
    text.push_str(&Fact::KeyId("AKIAOLDOLDOLDOLDOLD1".into()).to_line().unwrap());
    assert_eq!(Record::parse(&text, 0).unwrap().key_id, None);
}

#[test]
fn a_newer_format_is_left_alone() {
    let mut newer = intent();
    newer.version = 2;
    let text = Fact::Intent(Box::new(newer)).to_line().unwrap();
    assert_eq!(Record::parse(&text, 0), Err("written by a newer iam-sorry"));
}

fn extreme() -> impl Strategy<Value = i64> {
    prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>()]
}

proptest! {
    /// A torn write loses its own line and nothing else: whatever the cut, the intent stays or the file is refused,
    /// and no other ID than the one written is ever read.
    #[test]
    fn a_cut_entry_never_tells_another_key(user in "[a-zA-Z0-9+=,.@_-]{1,64}", id in "[A-Z0-9]{16,24}", cut in 0_usize..2000) {
        let mut whole = intent();
        whole.user = user;
        let first = Fact::Intent(Box::new(whole.clone())).to_line().unwrap();
        let text = format!("{first}\n{}", Fact::KeyId(id.clone()).to_line().unwrap());
        let cut = cut.min(text.len());
        let torn = &text[..cut];
        match Record::parse(torn, 0) {
            Err(_) => prop_assert!(cut < first.trim_end().len()),
            Ok(record) => {
                prop_assert_eq!(&record.intent, &whole);
                let complete = cut >= text.trim_end().len();
                prop_assert_eq!(record.key_id, complete.then(|| id.clone()));
            }
        }
        // What a later run appends is read in spite of the torn line before it.
        let appended = format!("{torn}\n{}", Fact::KeyId("AKIALATERLATERLATER1".into()).to_line().unwrap());
        if let Ok(record) = Record::parse(&appended, 0) {
            prop_assert_eq!(record.key_id.as_deref(), Some("AKIALATERLATERLATER1"));
        }
    }

    #[test]
    fn garbage_is_refused_without_a_panic(text in "\\PC*|[\\x00-\\x7f]*", time in any::<i64>()) {
        if let Ok(record) = Record::parse(&text, time) {
            let _ = window(&record);
        }
    }

    /// However far off its numbers are, a planted entry causes no panic.
    #[test]
    fn absurd_times_do_not_overflow(at in extreme(), ahead in extreme(), beat in extreme()) {
        let mut absurd = intent();
        (absurd.at_ms, absurd.aws_ahead) = (at, ahead);
        let text = Fact::Intent(Box::new(absurd)).to_line().unwrap();
        let _ = window(&Record::parse(&text, beat).unwrap());
    }
}
