//! Migrations are frozen, and two versions of the program work side by side. A newer program is made up: the steps of this
//! one, and one more.

use iam_sorry_core::audit::{Event, Outcome, Person, Phase};
use iam_sorry_core::digest::sha256_hex;
use iam_sorry_core::ids::AccountName;
use testkit::Postgres;

use super::*;
use crate::lanes::Closing;
use crate::{Begun, Finish, NewOperation, OperationState, Store};

/// The digest of every step that has landed: databases have run it, and others will run it as it was for ever.
const FROZEN: [(&str, &str); 2] = [
    ("0001_first", "77135e3938788dc8f92120574231fa75287d1096bb750d63436689b573a2609e"),
    ("0002_second", "cf6157941992d0d7f2e43ac791feb232d30900992e0c97b688b3c74e06be34f7"),
];

/// The step that is being written: its files may still change, and databases that have run it are thrown away.
/// `None` once it has landed.
const BEING_WRITTEN: Option<&str> = Some("0003_third");

#[test]
fn steps_that_have_landed_are_never_edited() {
    for (at, step) in MIGRATIONS.iter().enumerate() {
        let sql = [step.both, step.sqlite, step.postgres].map(str::as_bytes);
        let line = format!("(\"{}\", \"{}\"),", step.name, sha256_hex(&sql));
        match FROZEN.get(at) {
            Some((name, digest)) => assert_eq!(
                line,
                format!("(\"{name}\", \"{digest}\"),"),
                "{name} has landed, and databases have run it: put its files back as they were, and make the change a new step at \
                 the end of MIGRATIONS"
            ),
            None => assert_eq!(
                Some(step.name),
                BEING_WRITTEN,
                "{} has landed and is not frozen. Add this line to FROZEN:\n    {line}",
                step.name
            ),
        }
    }
    assert!(
        BEING_WRITTEN.is_none_or(|name| MIGRATIONS.last().is_some_and(|step| step.name == name)),
        "only the last step can be the one that is being written"
    );
}

#[test]
fn who_can_work_with_a_step_could_have_run_it() {
    for (number, step) in (1_u32..).zip(&MIGRATIONS) {
        assert!((1..=number).contains(&step.min_binary), "{}", step.name);
    }
    assert!(
        MIGRATIONS.is_sorted_by_key(|step| step.min_binary),
        "what a step took away, a later one does not bring back"
    );
}

/// This program's steps and a newer one's.
fn newer(both: &'static str, min_binary: u32) -> Vec<Migration> {
    let step = Migration { name: "synthetic", both, sqlite: "", postgres: "", then: |_| Ok(()), min_binary };
    MIGRATIONS.into_iter().chain([step]).collect()
}

fn additive() -> Vec<Migration> {
    newer(
        "ALTER TABLE operations ADD COLUMN approved_by TEXT; ALTER TABLE sessions ADD COLUMN lane @INT NOT NULL DEFAULT 0;
         CREATE TABLE approvals (id TEXT NOT NULL PRIMARY KEY) @STRICT;",
        VERSION,
    )
}

fn breaking() -> Vec<Migration> {
    newer("DROP TABLE unaccounted_keys;", VERSION + 1)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

fn patient(settings: Settings) -> Settings {
    Settings { timeout: Duration::from_secs(60), ..settings }
}

/// An empty PostgreSQL database, and its name.
fn postgres() -> (Settings, String) {
    let url = Postgres::shared().database();
    let name = url.rsplit('/').next().unwrap().to_owned();
    (patient(Settings::postgres(url.into(), None).unwrap()), name)
}

fn event(phase: Phase, operation: &str) -> Event {
    Event {
        time_ms: 1_800_000_000_000,
        instance: "i".into(),
        phase,
        operation: Some(operation.into()),
        person: Person { id: "corp/1".into(), name: "alice".into(), ..Person::default() },
        request_id: operation.into(),
        action: "create-key".into(),
        resource: "lab-anna".into(),
        outcome: (phase == Phase::Outcome).then_some(Outcome::Success),
        ..Event::default()
    }
}

/// A whole operation, and what an instance does beside it.
async fn works(store: &Store, id: &str) {
    let new = NewOperation {
        id: id.into(),
        person: "corp/1".into(),
        idempotency_key: id.into(),
        action: "create-key".into(),
        account: AccountName::default(),
        resource: format!("lab-{id}"),
        exclusive: true,
        request_hash: String::new(),
        plan: "{}".into(),
    };
    assert!(matches!(store.begin(new, event(Phase::Intent, id)).await.unwrap(), Begun::New));
    store.note(id, 0, "{}".into()).await.unwrap();
    let finish = Finish {
        operation: id.into(),
        epoch: 0,
        state: OperationState::Done,
        result: "{}".into(),
        event: event(Phase::Outcome, id),
        grants: Vec::new(),
        deleted_keys: Vec::new(),
        user: None,
        deleted_user: None,
        unaccounted: Vec::new(),
        rotation: None,
    };
    store.finish(finish).await.unwrap();
    assert_eq!(store.operation(id).await.unwrap().unwrap().state, OperationState::Done);
    store.beat().await.unwrap();
}

/// What an old program says to a schema that it can't work with.
#[track_caller]
fn assert_too_new<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    let Err(StoreError::Schema(text)) = result else { panic!("{result:?}") };
    let says = [
        format!("schema {}", VERSION + 1),
        format!("schema {VERSION}"),
        "Install the newer program".to_owned(),
    ];
    assert!(says.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn on_postgresql_an_instance_works_on_while_a_newer_program_adds_to_the_schema_and_beside_it() {
    let (settings, _) = postgres();
    Store::migrate(&settings).unwrap();
    let old = Store::open(&settings, "old").unwrap();
    block_on(async {
        works(&old, "a").await;
        // Operations of the old instance are under way all the time.
        let busy = tokio::spawn({
            let old = old.clone();
            async move {
                for n in 0..50 {
                    works(&old, &format!("busy{n}")).await;
                }
            }
        });
        let report = tokio::task::spawn_blocking({
            let settings = settings.clone();
            move || Store::migrate_to(&settings, &additive())
        });
        assert_eq!(report.await.unwrap().unwrap().applied, ["synthetic"]);
        busy.await.unwrap();
        let new = Store::start(&settings, "new", true, Closing::AtTheEnd, VERSION + 1).unwrap();
        for n in 0..5 {
            let (one, two) = (format!("old{n}"), format!("new{n}"));
            tokio::join!(works(&old, &one), works(&new, &two));
        }
        // The old package restarts: its unit migrates first.
        let report = Store::migrate(&settings).unwrap();
        assert_eq!((report.from, report.to, report.applied), (VERSION + 1, VERSION + 1, Vec::new()));
        works(&Store::open(&settings, "old again").unwrap(), "b").await;
        assert_eq!(new.instances_alive(Duration::from_secs(60)).await.unwrap(), ["new", "old", "old again"]);
    });
}

#[test]
fn on_sqlite_an_older_program_opens_what_a_newer_one_has_added_to() {
    let dir = tempfile::tempdir().unwrap();
    let settings = patient(Settings::sqlite(dir.path().join("store.db")));
    Store::migrate(&settings).unwrap();
    block_on(async {
        let old = Store::open(&settings, "old").unwrap();
        works(&old, "a").await;
        let running = Store::migrate_to(&settings, &additive()).unwrap_err();
        assert!(matches!(running, StoreError::Taken(_)), "{running}");
        old.close().await;
        drop(old);
        Store::migrate_to(&settings, &additive()).unwrap();
        let new = Store::start(&settings, "new", true, Closing::AtTheEnd, VERSION + 1).unwrap();
        works(&new, "b").await;
        new.close().await;
        drop(new);
        assert!(Store::migrate(&settings).unwrap().applied.is_empty());
        works(&Store::open(&settings, "old again").unwrap(), "c").await;
    });
}

#[test]
fn on_postgresql_a_step_that_takes_away_waits_until_no_older_instance_runs() {
    let (settings, database) = postgres();
    Store::migrate(&settings).unwrap();
    let old = Store::open(&settings, "old").unwrap();
    block_on(async {
        works(&old, "a").await;
        let error = Store::migrate_to(&settings, &breaking()).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, StoreError::Taken(_)) && text.contains("old (") && text.contains("Stop them"),
            "{text}"
        );
        works(&old, "b").await;
        // One that hangs, for so long that it counts as stopped.
        Postgres::shared().sql(&database, "UPDATE instances SET beat_ms = beat_ms - 61000");
        Store::migrate_to(&settings, &breaking()).unwrap();
        assert_too_new(old.beat().await);
    });
    assert_too_new(Store::open(&settings, "old again"));
    assert_too_new(Store::open_beside(&settings, "a command"));
    assert_too_new(Store::migrate(&settings));
    block_on(works(&Store::start(&settings, "new", true, Closing::AtTheEnd, VERSION + 1).unwrap(), "c"));
}

#[test]
fn on_sqlite_an_older_program_refuses_what_a_newer_one_has_taken_from() {
    let dir = tempfile::tempdir().unwrap();
    let settings = patient(Settings::sqlite(dir.path().join("store.db")));
    Store::migrate(&settings).unwrap();
    // It ends as if it had been killed: its row stays behind, and nothing waits for it.
    block_on(Store::open(&settings, "old").unwrap().close());
    Store::migrate_to(&settings, &breaking()).unwrap();
    assert_too_new(Store::open(&settings, "old again"));
    assert_too_new(Store::migrate(&settings));
    block_on(works(&Store::start(&settings, "new", true, Closing::AtTheEnd, VERSION + 1).unwrap(), "a"));
}

/// A step that only adds to one that took away is still none for who could not work with that one.
#[test]
fn the_last_step_says_who_can_work_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = patient(Settings::sqlite(dir.path().join("store.db")));
    let added = Migration { name: "added", both: "", ..additive()[VERSION as usize] };
    let both = [breaking(), vec![Migration { min_binary: VERSION + 1, ..added }]].concat();
    Store::migrate_to(&settings, &both).unwrap();
    let Err(StoreError::Schema(text)) = Store::open(&settings, "old") else { panic!() };
    assert!(text.contains(&format!("schema {}", VERSION + 2)), "{text}");
    let middle = Store::start(&settings, "middle", true, Closing::AtTheEnd, VERSION + 1).unwrap();
    block_on(works(&middle, "a"));
}
