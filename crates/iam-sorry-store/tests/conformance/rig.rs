//! A fresh store for each test, and things to put into it.

use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use iam_sorry_core::audit::{
    Event, ExportHeader, Finding, Outcome, Person, Phase, Record, RecordId, Report, Verifier,
};
use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, KeyOrigin, Method, Via};
use iam_sorry_core::ids::{AccountName, UserRef};
use iam_sorry_store::{
    Engine, Finish, FlowKey, FlowKind, LoginFlow, NewGrant, NewOperation, OperationState, PageRequest,
    Session, SessionKey, Settings, Store, StoreError, TrailPosition,
};
use testkit::Postgres;

/// A database that was migrated and belongs to one test.
pub struct Rig {
    pub settings: Settings,
    /// The PostgreSQL database's name.
    pub database: Option<String>,
    _dir: Option<tempfile::TempDir>,
}

impl Rig {
    pub fn sqlite() -> Rig {
        Self::empty_sqlite().migrated()
    }

    pub fn postgres() -> Rig {
        Self::empty_postgres().migrated()
    }

    /// Another one on the same engine, as a program of that schema left it: tests/fixtures.
    pub fn of_version(&self, version: u32) -> Rig {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        if self.is_postgres() {
            let rig = Self::empty_postgres();
            let database = rig.database.as_deref().unwrap();
            Postgres::shared().load(database, &fixtures.join(format!("version-{version}.postgres.sql")));
            return rig;
        }
        let rig = Self::empty_sqlite();
        let Engine::Sqlite { path } = &rig.settings.engine else { unreachable!() };
        let dump = std::fs::read_to_string(fixtures.join(format!("version-{version}.sqlite.sql"))).unwrap();
        rusqlite::Connection::open(path).unwrap().execute_batch(&dump).unwrap();
        rig
    }

    fn empty_sqlite() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let settings = patient(Settings::sqlite(dir.path().join("store.db")));
        Rig { settings, database: None, _dir: Some(dir) }
    }

    fn empty_postgres() -> Rig {
        let url = Postgres::shared().database();
        let database = url.rsplit('/').next().map(str::to_owned);
        let settings = patient(Settings::postgres(url.into(), None).unwrap());
        Rig { settings, database, _dir: None }
    }

    fn migrated(self) -> Rig {
        Store::migrate(&self.settings).unwrap();
        self
    }

    pub fn open(&self, instance: &str) -> Store {
        Store::open(&self.settings, instance).unwrap()
    }

    pub fn is_postgres(&self) -> bool {
        self.database.is_some()
    }
}

/// With a time limit that a machine with other work on all its cores keeps.
pub fn patient(settings: Settings) -> Settings {
    Settings { timeout: Duration::from_secs(60), audit_limit: Duration::from_secs(60), ..settings }
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// A text that no other call gave.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn identity(name: &str) -> Identity {
    Identity {
        issuer: "corp".into(),
        subject: format!("uuid-{name}"),
        name: name.into(),
        groups: ["labs", "staff"].map(|name| Group::named("corp", name)).into_iter().collect(),
        method: Method::Ldap,
    }
}

pub fn event(phase: Phase, name: &str, action: &str, resource: &str) -> Event {
    Event {
        time_ms: 1_800_000_000_000,
        instance: "i".into(),
        phase,
        person: Person::from(&identity(name)),
        address: "192.0.2.7".into(),
        request_id: unique("request"),
        action: action.into(),
        resource: resource.into(),
        rules: vec!["labs-may".into()],
        ..Event::default()
    }
}

/// `NAME`, which is in the account `default`, or `ACCOUNT/NAME`.
pub fn user_ref(text: &str) -> UserRef {
    UserRef::parse_in(text, &AccountName::default()).unwrap()
}

/// An operation of `alice` that holds `resource` of the account `default`.
pub fn operation(resource: &str) -> (NewOperation, Event) {
    let id = unique("op");
    let new = NewOperation {
        id: id.clone(),
        person: identity("alice").id(),
        idempotency_key: unique("key"),
        action: "create-user".into(),
        account: AccountName::default(),
        resource: resource.into(),
        exclusive: true,
        request_hash: "hash".into(),
        plan: r#"{"name":"x"}"#.into(),
    };
    let mut intent = event(Phase::Intent, "alice", "create-user", resource);
    intent.operation = Some(id);
    (new, intent)
}

/// A good end without anything in it.
pub fn finish(operation: &NewOperation) -> Finish {
    let mut outcome = event(Phase::Outcome, "alice", &operation.action, &operation.resource);
    outcome.operation = Some(operation.id.clone());
    outcome.outcome = Some(Outcome::Success);
    Finish {
        operation: operation.id.clone(),
        epoch: 0,
        state: OperationState::Done,
        result: r#"{"done":true}"#.into(),
        event: outcome,
        grants: Vec::new(),
        deleted_keys: Vec::new(),
        user: None,
        deleted_user: None,
        unaccounted: Vec::new(),
        rotation: None,
    }
}

pub fn grant(key: &str, issued_ms: i64) -> NewGrant {
    NewGrant {
        kind: "session".into(),
        account: AccountName::default(),
        resource: "lab-anna".into(),
        access_key_id: key.into(),
        issued_ms,
        expires_ms: Some(issued_ms + 3_600_000),
    }
}

pub fn session(name: &str, signed_in_ms: i64) -> Session {
    let id = unique("session");
    Session {
        token_hash: padded(&id),
        id,
        form_hash: Some([7; 32]),
        identity: identity(name),
        method: Method::SshKey,
        signed_in_ms,
        last_used_ms: signed_in_ms,
        expires_ms: signed_in_ms + 1_000_000,
        address: "192.0.2.7".into(),
        key: Some(SessionKey { fingerprint: "SHA256:1".into(), registered_by: KeyOrigin::Directory }),
        via: Some(Via::Browser),
    }
}

/// What stands for the hash of a text.
fn padded(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    bytes
}

/// Names the flow of this id.
pub fn flow_key(kind: FlowKind, id: &str) -> FlowKey {
    FlowKey { kind, source: "corp".into(), id_hash: padded(id) }
}

/// A flow without anything that may be missing.
pub fn flow(kind: FlowKind, id: &str, expires_ms: i64) -> LoginFlow {
    LoginFlow {
        key: flow_key(kind, id),
        origin: "https://aws.example.edu".into(),
        network: None,
        browser_hash: None,
        data: b"{}".to_vec(),
        begun_ms: 0,
        expires_ms,
    }
}

pub fn page(cursor: Option<String>, limit: u32) -> PageRequest {
    PageRequest { cursor, limit }
}

/// The whole trail in the order of an export, as `audit verify` sees it: no gap, no duplicate, every hash right and carried by
/// the next, every lane named by the next one.
pub async fn whole_trail(store: &Store) -> Vec<Record> {
    verified(store).await.0
}

/// The same, with what the verification says besides that it is sound.
pub async fn verified(store: &Store) -> (Vec<Record>, Report) {
    let mut records: Vec<Record> = Vec::new();
    let mut position = TrailPosition::default();
    let mut verifier = Verifier::new(Vec::new());
    verifier.line(&ExportHeader::new(store.chain_id()).line());
    loop {
        let part = store.read_trail(&position, None, 500).await.unwrap();
        position = part.start;
        if part.records.is_empty() {
            break;
        }
        for record in part.records {
            position.pass(&record);
            let record = record.record;
            assert_eq!(Record::parse(&record.line).unwrap(), record);
            verifier.line(&record.export_line());
            records.push(record);
        }
    }
    let report = verifier.finish();
    let empty = records.is_empty() && matches!(report.findings[..], [Finding::Empty]);
    assert!(report.is_sound() || empty, "{:?}", report.findings);
    assert_eq!(report.heads, store.trail_state().await.unwrap().heads);
    assert_eq!(store.count_records().await.unwrap(), records.len() as u64);
    (records, report)
}

/// The places of records in their lanes.
pub fn seqs(records: &[RecordId]) -> Vec<u64> {
    records.iter().map(|record| record.seq).collect()
}

#[track_caller]
pub fn assert_fenced<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Fenced(_))), "{result:?}");
}
