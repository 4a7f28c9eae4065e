//! What the service keeps: operations, audit trail, sessions, keys, grants; in SQLite inside or in PostgreSQL.
//!
//! [`Store`] is the only door. All writes of an instance go through one thread that puts what is waiting into one
//! transaction, so that a hundred requests cost one flush; none is answered before its transaction is on disk.
//! The lane of the audit trail is made inside that transaction. The store knows neither HTTP nor AWS, and no secret reaches it
//! but hashes.
//!
//! `engine/` is the small door to the two databases, `writer` and `readers` the threads, `lanes` the audit trail as it is
//! written and `trail` as it is read on; then
//! one file for each concern, with statements that run on both engines.

mod audit;
mod continuity;
mod cursor;
mod engine;
mod grants;
mod instances;
mod lanes;
mod login_flows;
mod operations;
mod postings;
mod query;
mod readers;
mod rotations;
mod schema;
mod sessions;
mod settings;
#[cfg(feature = "simulation")]
pub mod simulation;
mod sinks;
mod ssh_keys;
mod states;
mod thread;
mod trail;
mod types;
mod unaccounted;
mod writer;

use std::sync::Arc;

use iam_sorry_core::audit::ChainId;

use crate::continuity::Halt;
use crate::engine::{Connection, Connector};
use crate::lanes::Closing;
use crate::readers::{Queue, Readers};
use crate::writer::{Fault, Opened, Tx, Writer};

pub use audit::AuditEntry;
pub use iam_sorry_core::audit::{Checkpoint, Record, RecordId};
pub use login_flows::{FlowCaps, FlowKey, FlowKind, LoginFlow};
pub use schema::MigrateReport;
pub use settings::{Engine, InvalidSettings, Settings, StoreSection};
pub use sinks::SinkPosition;
pub use states::{LostInstance, RecordedState, Running};
pub use trail::{TrailCheckpoint, TrailPart, TrailPosition, TrailRecord, TrailState};
pub use types::*;

/// The store of one instance. Clones share its threads.
///
/// Every method gives an error after at most [`Settings::timeout`]: [`StoreError::Unavailable`], or
/// [`StoreError::OutcomeUnknown`] if a write may be there or not, which reading back shows.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: Writer,
    readers: Readers,
    instance: String,
    /// The schema of its program.
    program: u32,
    chain: ChainId,
    halt: Arc<Halt>,
}

impl Store {
    /// Brings the schema up to this program's. Safe to run again, and by several at once on PostgreSQL, where instances go
    /// on if they can work with the new schema. A newer schema that this program can work with is left as it is.
    ///
    /// # Errors
    /// [`StoreError::Taken`] while an instance runs on the same SQLite file, or on PostgreSQL one that can't work with the new
    /// schema; [`StoreError::Schema`] for a newer schema that this program can't work with.
    pub fn migrate(settings: &Settings) -> Result<MigrateReport, StoreError> {
        Self::migrate_to(settings, &schema::MIGRATIONS)
    }

    fn migrate_to(settings: &Settings, program: &[schema::Migration]) -> Result<MigrateReport, StoreError> {
        thread::apart(|| schema::migrate(settings, program))
    }

    /// Whether there is a database with a schema, of whatever version. Makes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] and others.
    pub fn exists(settings: &Settings) -> Result<bool, StoreError> {
        thread::apart(|| schema::exists(settings))
    }

    /// Opens it for an instance of the service, whose id must be new. On SQLite no second one may run. Where the audit
    /// trail's head and its last record disagree, it is halted ([`Store::contradiction`]): it can be read, not written.
    ///
    /// # Errors
    /// [`StoreError::Schema`] for a schema that this program can't work with, [`StoreError::Taken`].
    pub fn open(settings: &Settings, instance: &str) -> Result<Self, StoreError> {
        Self::start(settings, instance, true, Closing::AtTheEnd, schema::VERSION)
    }

    /// Opens it for a command that wants to be the only one at work: an instance in all but its lanes of the trail, each of which
    /// it closes with the transaction that began it.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_alone(settings: &Settings, name: &str) -> Result<Self, StoreError> {
        Self::start(settings, name, true, Closing::EachTransaction, schema::VERSION)
    }

    /// Opens it beside a running service, for a command such as `audit export`: no instance of its own, no operations.
    ///
    /// # Errors
    /// As [`Store::open`], without `Taken`.
    pub fn open_beside(settings: &Settings, name: &str) -> Result<Self, StoreError> {
        Self::start(settings, name, false, Closing::EachTransaction, schema::VERSION)
    }

    /// As a program of schema `program`: this one's, but in tests of two versions side by side.
    fn start(
        settings: &Settings,
        instance: &str,
        own: bool,
        closing: Closing,
        program: u32,
    ) -> Result<Self, StoreError> {
        if let Engine::Sqlite { path } = &settings.engine
            && !path.exists()
        {
            return Err(StoreError::Schema(format!(
                "There is no database at {}.\nRun: iam-sorryd migrate --config FILE",
                path.display()
            )));
        }
        let halt = Arc::new(Halt::default());
        let opened = thread::apart(|| {
            let connector = Connector::new(settings, false)?;
            let lock = if own { connector.lock()? } else { None };
            let connection = connector.connect(true)?;
            let mut opened = Opened::new(connector, connection, lock, closing, &halt, program)?;
            if own && halt.why().is_none() {
                // Who holds the lock of a SQLite file is the only instance there is.
                let alone = opened.lock.is_some();
                instances::announce(opened.connection.as_mut(), instance, program, alone)?;
            }
            Ok(opened)
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                readers: Readers::start(settings, &opened.connector)?,
                chain: opened.trail.chain,
                writer: Writer::start(settings, instance.to_owned(), opened, Arc::clone(&halt))?,
                instance: instance.to_owned(),
                program,
                halt,
            }),
        })
    }

    /// Finishes what waits and ends the writing thread. What is asked afterwards, of this clone or another, is refused.
    pub async fn close(&self) {
        self.inner.readers.close();
        if let Some(thread) = self.inner.writer.close() {
            // A writer that panicked has nothing left to finish.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// The id that it was opened with.
    pub fn instance(&self) -> &str {
        &self.inner.instance
    }

    /// Names the audit trail.
    pub fn chain_id(&self) -> ChainId {
        self.inner.chain
    }

    /// Why a write of this instance found no room, or a disk that fails; until [`Store::prove_room`]. A smaller one may have
    /// fitted since.
    pub fn no_room(&self) -> Option<StoreError> {
        self.inner.writer.no_room()
    }

    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.inner.writer.run(work).await
    }

    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut dyn Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.read_in(Queue::Work, work).await
    }

    async fn read_in<T, F>(&self, queue: Queue, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut dyn Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.inner.readers.run(queue, work).await
    }
}
