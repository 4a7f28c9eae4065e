//! Entries on a real disk: what is written, who may read it, and what a torn or planted file can do (nothing).

use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;

use std::time::SystemTime;

use super::*;

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
        process_start: crate::record::process_start(std::process::id()),
        boot_id: MACHINE.boot_id.clone(),
        at_ms: now_ms(),
        aws_ahead: 0,
        keys_before: vec!["AKIAOLDOLDOLDOLDOLD1".into()],
    }
}

fn journal() -> (tempfile::TempDir, Journal) {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::new(folder.path().join("state/journal"));
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
    let record = journal.reread(&entry).unwrap();
    assert!((before..=now_ms()).contains(&record.heartbeat_ms), "{} {}", before, record.heartbeat_ms);
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
    // Intent at second 1000000, last sign of life at 1000003: 2 s before, 5 s and rounding after, one minute ahead.
    assert_eq!(record.window(), 1_000_058..=1_000_069);
    // A file time from before the intent (restored from a backup) does not turn the window around.
    assert_eq!(Record::parse(&text, 0).unwrap().window(), 1_000_058..=1_000_066);
}

#[test]
fn a_key_from_before_is_never_ours_whatever_the_file_says() {
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
            let _ = record.window();
        }
    }

    /// However far off its numbers are, a planted entry can't make us panic.
    #[test]
    fn absurd_times_do_not_overflow(at in extreme(), ahead in extreme(), beat in extreme()) {
        let mut absurd = intent();
        (absurd.at_ms, absurd.aws_ahead) = (at, ahead);
        let text = Fact::Intent(Box::new(absurd)).to_line().unwrap();
        let _ = Record::parse(&text, beat).unwrap().window();
    }
}
