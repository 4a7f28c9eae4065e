//! A store with a trail, for checkpoints and sinks: no service around it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use iam_sorry_core::audit::{
    CheckpointSigner, Event, LaneId, Outcome, Person, Report, Verifier, new_key_pem,
};
use iam_sorry_server::audit::checkpoints::Checkpointer;
use iam_sorry_server::audit::settings::AuditSettings;
use iam_sorry_server::audit::sinks::{self, SinkSettings, Watch};
use iam_sorry_store::{Settings, SinkPosition, Store};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::whole_trail::whole_trail;

const PATIENCE: Duration = Duration::from_secs(60);

/// A store on disk that can be closed and opened again.
pub struct Trail {
    pub folder: Folder,
    pub store: Store,
}

/// Where it lies: a folder of its own, or one that belongs to somebody else.
pub struct Folder {
    path: PathBuf,
    _own: Option<TempDir>,
}

impl Folder {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A sink that runs.
pub struct Running {
    pub watch: Arc<Watch>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    watching: JoinHandle<()>,
}

impl Trail {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::sqlite(folder.path().join("store.db"));
        Store::migrate(&settings).unwrap();
        let store = Store::open(&settings, "first").unwrap();
        Self { folder: Folder { path: folder.path().to_owned(), _own: Some(folder) }, store }
    }

    /// The one that another process left here.
    pub fn at(folder: &Path, instance: &str) -> Self {
        let store = Store::open(&Settings::sqlite(folder.join("store.db")), instance).unwrap();
        Self { folder: Folder { path: folder.to_owned(), _own: None }, store }
    }

    /// Two instances on one PostgreSQL, with one folder.
    pub fn two_instances() -> (Self, Self) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::postgres(testkit::Postgres::shared().database().into(), None).unwrap();
        Store::migrate(&settings).unwrap();
        let open = |name| Store::open(&settings, name).unwrap();
        let two = Self { folder: Folder { path: folder.path().to_owned(), _own: None }, store: open("two") };
        (
            Self {
                folder: Folder { path: folder.path().to_owned(), _own: Some(folder) },
                store: open("one"),
            },
            two,
        )
    }

    /// Writes events; how many records there are then.
    pub async fn record(&self, count: u64) -> u64 {
        let events = (0..count).map(event).collect();
        self.store.record(events).await.unwrap();
        self.store.count_records().await.unwrap()
    }

    /// What the store says of a sink was true so many records ago, in a trail of one lane: before or behind the checkpoint that
    /// stands there.
    pub async fn set_back(&self, sink: &str, records: u64, before_checkpoint: bool) {
        let head = self.store.trail_state().await.unwrap().heads.iter().next().unwrap();
        let seq = head.seq.saturating_sub(records);
        let position = match self.store.record_at(head.lane.record(seq)).await.unwrap() {
            None => SinkPosition::default(),
            Some(record) => {
                let heads = [record.head()].into_iter().collect();
                let position = self.store.position_of(&heads).await.unwrap().unwrap();
                let checkpoint = self.store.last_checkpoint_before(&position).await.unwrap();
                let covered = self.store.checkpoints(checkpoint, 1).await.unwrap().pop();
                let stands_here =
                    covered.is_some_and(|it| it.checkpoint.heads.get(head.lane) == Some(record.head()));
                let checkpoint = checkpoint - u64::from(before_checkpoint && stands_here);
                SinkPosition { records: position, last: Some(record.id()), checkpoint }
            }
        };
        self.store.set_sink_position(sink, &position).await.unwrap();
    }

    pub fn start(&self, settings: &SinkSettings) -> Running {
        settings.check().unwrap();
        let watch = Watch::new(std::slice::from_ref(settings));
        let stop = watch::Sender::new(false);
        let watching = tokio::spawn(Arc::clone(&watch).run(self.store.clone(), stop.subscribe()));
        let task =
            sinks::start(settings, self.store.clone(), Arc::clone(&watch), stop.subscribe(), || NOW).unwrap();
        Running { watch, stop, task, watching }
    }

    /// The only lane.
    pub async fn lane(&self) -> LaneId {
        self.store.trail_state().await.unwrap().heads.iter().next().unwrap().lane
    }

    pub fn checkpointer(&self, signer: CheckpointSigner) -> Arc<Checkpointer> {
        Checkpointer::new(self.store.clone(), signer, &AuditSettings::default(), || NOW)
    }

    /// Waits until the sink has so many records.
    pub async fn delivered(&self, sink: &str, count: u64) {
        let there = async || {
            let position = self.store.sink_position(sink).await.unwrap().unwrap_or_default();
            let behind = self.store.count_behind(&position.records).await.unwrap();
            self.store.count_records().await.unwrap() - behind >= count
        };
        until(&format!("{sink} to have {count} records"), there).await;
    }

    /// How many records of such an action there are.
    pub async fn count(&self, action: &str) -> usize {
        let records = whole_trail(&self.store).await;
        records.iter().filter(|record| record.event().unwrap().action == action).count()
    }
}

impl Running {
    /// Ends it where it is, as a kill does: no position is saved, no lease given back.
    pub fn die(self) {
        self.task.abort();
        self.watching.abort();
    }

    /// Stops it as a service does.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.task).await.expect("an end in time").unwrap();
        self.watching.await.unwrap();
    }
}

/// 2026-11-22T20:00:00Z
pub const NOW: i64 = 1_795_377_600_000;

pub fn event(n: u64) -> Event {
    Event {
        time_ms: NOW + i64::try_from(n).unwrap(),
        instance: "first".into(),
        person: Person {
            id: "corp/7".into(),
            name: "älice".into(),
            groups: vec!["lab".into()],
            method: None,
        },
        address: "192.0.2.1".into(),
        request_id: format!("request-{n}"),
        action: "sign-in".into(),
        outcome: Some(Outcome::Success),
        ..Event::default()
    }
}

pub fn signer() -> CheckpointSigner {
    CheckpointSigner::from_pem(&new_key_pem(&zeroize::Zeroizing::new([7; 32]))).unwrap()
}

/// Verifies lines as `audit verify` does.
pub fn verify<'a>(lines: impl Iterator<Item = &'a str>) -> Report {
    let mut verifier = Verifier::new(vec![signer().public_key().clone()]);
    lines.for_each(|line| verifier.line(line));
    verifier.finish()
}

/// What is in a file; empty where there is none yet.
pub fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

pub fn file_sink(path: &Path) -> SinkSettings {
    toml::from_str(&format!("name = \"local\"\nrequired = true\nfile = {{ path = {path:?} }}")).unwrap()
}

pub async fn until(what: &str, check: impl AsyncFn() -> bool) {
    let waiting = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited for {what}"));
}
