//! Migrations, and databases that are not ours to work with.

use iam_sorry_store::{Settings, Store, StoreError};
use testkit::Postgres;

use crate::on_both;
use crate::rig::{Rig, event, whole_chain};
use iam_sorry_core::audit::Phase;

on_both! {
    migrating_again_does_nothing,
    an_older_schema_is_refused_with_the_way_out,
    a_newer_schema_is_refused,
    a_trail_that_was_cut_is_refused,
    a_trail_whose_last_record_was_changed_is_refused,
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
    assert_eq!(store.record(events).await.unwrap(), [1, 2, 3]);
    whole_chain(&store).await;
    store.close().await;
}

async fn migrating_again_does_nothing(rig: &Rig) {
    filled(rig).await;
    let report = Store::migrate(&rig.settings).unwrap();
    assert_eq!((report.from, report.to), (2, 2));
    assert!(report.applied.is_empty());
    assert_eq!(whole_chain(&rig.open("two")).await.len(), 3);
}

async fn an_older_schema_is_refused_with_the_way_out(rig: &Rig) {
    sql(rig, "DELETE FROM schema_version WHERE version = 2").unwrap();
    let error = Store::open(&rig.settings, "one").unwrap_err();
    assert!(matches!(error, StoreError::Schema(_)), "{error}");
    assert!(error.to_string().contains("iam-sorryd migrate --config FILE"), "{error}");
}

async fn a_newer_schema_is_refused(rig: &Rig) {
    sql(rig, "INSERT INTO schema_version VALUES (99, 0)").unwrap();
    for result in [Store::open(&rig.settings, "one").map(drop), Store::migrate(&rig.settings).map(drop)] {
        let Err(StoreError::Schema(text)) = result else { panic!("{result:?}") };
        assert!(text.contains("99") && text.contains("newer"), "{text}");
    }
}

async fn a_trail_that_was_cut_is_refused(rig: &Rig) {
    filled(rig).await;
    unlock(rig);
    sql(rig, "DELETE FROM audit WHERE seq = 3").unwrap();
    let error = Store::open(&rig.settings, "two").unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("ends at record 2")), "{error}");
}

async fn a_trail_whose_last_record_was_changed_is_refused(rig: &Rig) {
    filled(rig).await;
    unlock(rig);
    sql(rig, "UPDATE audit SET line = replace(line, 'alice', 'malice') WHERE seq = 3").unwrap();
    let error = Store::open(&rig.settings, "two").unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("was changed")), "{error}");
}

async fn the_trail_can_only_grow(rig: &Rig) {
    filled(rig).await;
    let store = rig.open("two");
    // So many that they were filed for looking them up.
    store.record((0..300).map(|_| event(Phase::Event, "alice", "sign-in", "")).collect()).await.unwrap();
    for statement in [
        "DELETE FROM audit WHERE seq = 3",
        "UPDATE audit SET line = '' WHERE seq = 1",
        "DELETE FROM audit_words WHERE seq = 3",
        "UPDATE audit_words SET word = '' WHERE seq = 3",
    ] {
        let error = sql(rig, statement).unwrap_err();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
    assert_eq!(whole_chain(&store).await.len(), 303);
}

async fn a_closed_store_refuses(rig: &Rig) {
    let store = rig.open("one");
    let other = store.clone();
    store.close().await;
    store.close().await;
    assert!(matches!(other.beat().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(other.head().await, Err(StoreError::Unavailable(_))));
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
    assert_eq!(reports.iter().sum::<usize>(), 2, "{reports:?}");
    drop(Store::open(&settings, "one").unwrap());
}
