//! Migrations, and databases that are not ours to work with.

use iam_sorry_store::{Settings, Store, StoreError, TrailPosition};
use testkit::Postgres;

use crate::on_both;
use crate::rig::{Rig, event, seqs, whole_trail};
use iam_sorry_core::audit::Phase;

on_both! {
    migrating_again_does_nothing,
    an_older_schema_is_refused_with_the_way_out,
    a_newer_schema_is_refused,
    a_trail_that_was_cut_is_read_and_not_written,
    a_trail_whose_last_record_was_changed_is_read_and_not_written,
    a_head_that_goes_back_stops_the_instance_at_its_next_write,
    the_trail_can_only_grow,
    a_closed_store_refuses,
}

/// Runs SQL behind the store's back.
fn sql(rig: &Rig, statement: &str) -> Result<(), String> {
    match &rig.database {
        Some(database) => {
            let database = database.clone();
            let statement = statement.to_owned();
            std::panic::catch_unwind(move || Postgres::shared().sql(&database, &statement))
                .map(drop)
                .map_err(|panic| panic.downcast::<String>().map_or_else(|_| String::new(), |text| *text))
        }
        None => {
            let iam_sorry_store::Engine::Sqlite { path } = &rig.settings.engine else { unreachable!() };
            rusqlite::Connection::open(path)
                .unwrap()
                .execute_batch(statement)
                .map_err(|error| error.to_string())
        }
    }
}

/// The number of a record of the first lane in the database.
fn in_lane_1(seq: u64) -> u64 {
    (1 << 36) + seq
}

/// Lets the trail be changed, as somebody with the database's password can.
fn unlock(rig: &Rig) {
    let statement = if rig.is_postgres() {
        "DROP TRIGGER audit_is_append_only ON audit"
    } else {
        "DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_deleted"
    };
    sql(rig, statement).unwrap();
}

async fn filled(rig: &Rig) {
    let store = rig.open("one");
    let events = (0..3).map(|_| event(Phase::Event, "alice", "sign-in", "")).collect();
    assert_eq!(seqs(&store.record(events).await.unwrap()), [1, 2, 3]);
    whole_trail(&store).await;
    store.close().await;
}

async fn migrating_again_does_nothing(rig: &Rig) {
    filled(rig).await;
    let report = Store::migrate(&rig.settings).unwrap();
    assert_eq!(report.from, report.to);
    assert!(report.applied.is_empty());
    assert_eq!(whole_trail(&rig.open("two")).await.len(), 3);
}

async fn an_older_schema_is_refused_with_the_way_out(rig: &Rig) {
    sql(rig, "DELETE FROM schema_version WHERE version > 1").unwrap();
    let error = Store::open(&rig.settings, "one").unwrap_err();
    assert!(matches!(error, StoreError::Schema(_)), "{error}");
    assert!(error.to_string().contains("iam-sorryd migrate --config FILE"), "{error}");
}

async fn a_newer_schema_is_refused(rig: &Rig) {
    sql(rig, "INSERT INTO schema_version (version, applied_ms, min_binary) VALUES (99, 0, 99)").unwrap();
    for result in [Store::open(&rig.settings, "one").map(drop), Store::migrate(&rig.settings).map(drop)] {
        let Err(StoreError::Schema(text)) = result else { panic!("{result:?}") };
        assert!(text.contains("99") && text.contains("newer"), "{text}");
    }
}

async fn a_trail_that_was_cut_is_read_and_not_written(rig: &Rig) {
    filled(rig).await;
    unlock(rig);
    sql(rig, &format!("DELETE FROM audit WHERE seq = {}", in_lane_1(3))).unwrap();
    stands_still(rig, ":2, but its head says").await;
    goes_on(rig, 4).await; // two are left, the operator's, and the one that closes its lane
}

async fn a_trail_whose_last_record_was_changed_is_read_and_not_written(rig: &Rig) {
    filled(rig).await;
    unlock(rig);
    sql(
        rig,
        &format!("UPDATE audit SET line = replace(line, 'alice', 'malice') WHERE seq = {}", in_lane_1(3)),
    )
    .unwrap();
    stands_still(rig, "was changed").await;
    // Nothing can be put behind a record that is none.
    let store = rig.open("three");
    let error =
        store.continue_after_break(event(Phase::Event, "root", "audit-restored", "")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("was changed")), "{error}");
}

/// It opens, can be read, and refuses every write for the same reason.
async fn stands_still(rig: &Rig, words: &str) {
    let store = rig.open("two");
    let why = store.contradiction().unwrap();
    assert!(why.contains(words), "{why}");
    let refused = [
        store.beat().await.unwrap_err(),
        store.record(vec![event(Phase::Event, "alice", "x", "")]).await.unwrap_err(),
        store.lease("checkpoints", std::time::Duration::from_secs(1)).await.map(drop).unwrap_err(),
    ];
    assert!(refused.iter().all(|error| *error == StoreError::Contradicted(why.clone())), "{refused:?}");
    let read = store.read_trail(&TrailPosition::default(), None, 10).await.unwrap();
    assert!(read.records.len() >= 2, "reading goes on");
    store.close().await;
}

/// An operator's event continues it, and the chain is whole.
async fn goes_on(rig: &Rig, count: u64) {
    let store = Store::open_alone(&rig.settings, "three").unwrap();
    let event = event(Phase::Event, "root", "audit-restored", "");
    assert_eq!(store.continue_after_break(event).await.unwrap().seq, 1, "in a lane of its own");
    assert_eq!(store.contradiction(), None);
    store.beat().await.unwrap();
    store.close().await;
    let store = rig.open("four");
    assert_eq!(store.contradiction(), None);
    assert_eq!(whole_trail(&store).await.len() as u64, count);
}

/// Somebody cuts the trail, or puts an old copy's rows back, while an instance has it open.
async fn a_head_that_goes_back_stops_the_instance_at_its_next_write(rig: &Rig) {
    let store = rig.open("two");
    store.record((0..3).map(|_| event(Phase::Event, "alice", "sign-in", "")).collect()).await.unwrap();
    unlock(rig);
    let [second, third] = [2, 3].map(in_lane_1);
    sql(rig, &format!("UPDATE lanes SET seq = 2, hash = (SELECT hash FROM audit WHERE seq = {second})"))
        .unwrap();
    sql(rig, &format!("DELETE FROM audit WHERE seq = {third}")).unwrap();
    let error = store.beat().await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Contradicted(text) if text.contains(":3, and ends at record")),
        "{error}"
    );
    assert_eq!(store.contradiction(), Some(error.to_string()));
    assert_eq!(
        store.record(vec![event(Phase::Event, "alice", "x", "")]).await.unwrap_err(),
        error,
        "for good"
    );
    assert_eq!(store.count_records().await.unwrap(), 2);
}

async fn the_trail_can_only_grow(rig: &Rig) {
    filled(rig).await;
    let store = rig.open("two");
    // So many that they were filed for looking them up.
    store.record((0..300).map(|_| event(Phase::Event, "alice", "sign-in", "")).collect()).await.unwrap();
    // And one that names a list of groups.
    let mut crowded = event(Phase::Event, "alice", "sign-in", "");
    crowded.person.groups = (0..20).map(|n| format!("group-{n}")).collect();
    store.record(vec![crowded]).await.unwrap();
    for statement in [
        "DELETE FROM audit",
        "UPDATE audit SET line = ''",
        "DELETE FROM audit_words",
        "UPDATE audit_words SET word = ''",
        "DELETE FROM audit_groups",
        "UPDATE audit_groups SET seq = 1",
    ] {
        let error = sql(rig, statement).unwrap_err();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
    assert_eq!(whole_trail(&store).await.len(), 304);
}

async fn a_closed_store_refuses(rig: &Rig) {
    let store = rig.open("one");
    let other = store.clone();
    store.close().await;
    store.close().await;
    assert!(matches!(other.beat().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(other.count_records().await, Err(StoreError::Unavailable(_))));
}

#[test]
fn a_missing_or_empty_database_names_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Settings::sqlite(dir.path().join("none.db"));
    let empty = Settings::postgres(Postgres::shared().database().into(), None).unwrap();
    std::fs::write(dir.path().join("empty.db"), "").unwrap();
    let empty_file = Settings::sqlite(dir.path().join("empty.db"));
    for settings in [missing, empty, empty_file] {
        let error = Store::open(&settings, "one").unwrap_err();
        assert!(matches!(error, StoreError::Schema(_)), "{error}");
        assert!(error.to_string().contains("iam-sorryd migrate --config FILE"), "{error}");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "dear diary, ".repeat(100)).unwrap();
    let settings = Settings::sqlite(&path);
    assert!(Store::migrate(&settings).is_err());
    assert!(Store::open(&settings, "one").is_err());
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("dear diary"));
}

#[test]
fn the_files_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::sqlite();
    crate::rig::block_on(filled(&rig));
    let store = rig.open("two");
    crate::rig::block_on(store.beat()).unwrap();
    let iam_sorry_store::Engine::Sqlite { path } = &rig.settings.engine else { unreachable!() };
    let mut seen = 0;
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
        seen += 1;
    }
    assert!(seen >= 3, "the database, its log and the lock");
}

#[test]
fn two_that_migrate_at_once_both_succeed() {
    let settings = Settings::postgres(Postgres::shared().database().into(), None).unwrap();
    let reports: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| Store::migrate(&settings).unwrap().applied.len())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(reports.iter().filter(|steps| **steps > 0).count(), 1, "{reports:?}");
    drop(Store::open(&settings, "one").unwrap());
}

/// The file that is open, not the name, is the database: one that was moved away, replaced, or lost its log is noticed
/// before anything is written, and nothing is made in its place.
#[test]
fn an_sqlite_file_that_was_moved_or_replaced_stops_the_instance() {
    type Harm<'a> = &'a dyn Fn(&std::path::Path, &std::path::Path);
    let gone: Harm<'_> = &|path, away| std::fs::rename(path, away).unwrap();
    let replaced: Harm<'_> = &|path, away| {
        std::fs::copy(path, away).unwrap();
        std::fs::rename(away, path).unwrap();
    };
    let without_log: Harm<'_> = &|path, _| {
        std::fs::remove_file(path.with_extension("db-wal")).unwrap();
    };
    for (harm, words) in
        [(gone, "its file is gone"), (replaced, "another file"), (without_log, "log is gone")]
    {
        let rig = Rig::sqlite();
        let iam_sorry_store::Engine::Sqlite { path } = &rig.settings.engine else { unreachable!() };
        crate::rig::block_on(async {
            filled(&rig).await;
            let store = rig.open("two");
            store.beat().await.unwrap();
            harm(path, &path.with_extension("away"));
            let error = store.beat().await.unwrap_err();
            assert!(matches!(&error, StoreError::Contradicted(text) if text.contains(words)), "{error}");
            assert_eq!(path.exists(), words != "its file is gone", "nothing is made in its place");
        });
    }
}

/// A second name of the file has a log of its own: two programs by two names would destroy it.
#[test]
fn a_hard_link_is_no_second_database() {
    let rig = Rig::sqlite();
    let iam_sorry_store::Engine::Sqlite { path } = &rig.settings.engine else { unreachable!() };
    let link = path.with_extension("link");
    let store = rig.open("one");
    std::fs::hard_link(path, &link).unwrap();
    let by_link = Settings::sqlite(&link);
    assert!(matches!(Store::open(&by_link, "two"), Err(StoreError::Taken(_))));
    crate::rig::block_on(store.close());
    drop(store);
    for settings in [&by_link, &rig.settings] {
        for error in [
            Store::open(settings, "two").map(drop).unwrap_err(),
            Store::open_beside(settings, "two").map(drop).unwrap_err(),
            Store::migrate(settings).map(drop).unwrap_err(),
        ] {
            assert!(error.to_string().contains("hard link"), "{error}");
        }
    }
    std::fs::remove_file(&link).unwrap();
    crate::rig::block_on(rig.open("three").beat()).unwrap();
}
