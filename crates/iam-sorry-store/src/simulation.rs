//! For the simulator: the store's own code on a database in memory, without a thread, with a wire in between that can be
//! slow, cut, or lose an answer. Nothing here is in a program that ships (the feature `simulation`).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::engine::simulated::{Shared, Simulated};
use crate::engine::{Cell, Connection, Connector, DbError, Param};
use crate::lanes::Closing;
use crate::writer::{Opened, Writer};
use crate::{Halt, Inner, Readers, Settings, Store, StoreError, instances, schema};

/// Where a message between an instance and the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// A write is on its way to the database.
    Write,
    /// Its answer is on the way back; the transaction is committed, or was refused.
    WriteAnswer,
    /// A read is on its way to the database.
    Read,
    /// Its answer is on the way back.
    ReadAnswer,
}

/// What an instance does with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// It opens one.
    Connect,
    /// It begins a transaction.
    Begin,
    /// It runs a statement, inside a transaction or not.
    Statement,
}

/// What goes wrong at a [`Step`] or a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The connection goes away; an open transaction is rolled back.
    Lost,
    /// The transaction is chosen as a deadlock's victim.
    Busy,
    /// The disk is full.
    Full,
    /// The server takes no writes.
    ReadOnly,
}

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Commit {
    /// It is on disk, and the instance hears of it.
    Done,
    /// It failed for certain.
    Failed(Fault),
    /// The connection goes away while it commits.
    Unknown {
        /// Whether it is on disk.
        committed: bool,
    },
}

/// The way between one instance and the database. Each function decides anew.
pub trait Wire: Send + Sync + fmt::Debug {
    /// A message is at this point, and goes on when the future ends. Dropped before, it does not go on.
    fn pass(&self, point: Point) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    /// What goes wrong now, if anything.
    fn fault(&self, step: Step) -> Option<Fault>;
    /// What becomes of the commit that is about to happen.
    fn commit(&self) -> Commit;
    /// A transaction of this instance is on disk.
    fn committed(&self);
}

/// The database of one simulation. Clones are the same one.
#[derive(Clone)]
pub struct Database(Arc<Shared>);

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").finish()
    }
}

/// An instance's way to it.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    pub(crate) wire: Arc<dyn Wire>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.wire).finish()
    }
}

impl Link {
    pub(crate) fn connect(&self) -> Result<Box<dyn Connection>, DbError> {
        let mut connection = Simulated::new(self.clone());
        match self.wire.fault(Step::Connect) {
            None => Ok(Box::new(connection)),
            Some(_) => {
                connection.rollback();
                Err(DbError::Lost("the database does not answer".into()))
            }
        }
    }
}

impl Database {
    /// With the schema, and nothing in it. It takes a while: make one and [`Database::reset`] it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn new() -> Result<Self, StoreError> {
        Ok(Self(Arc::new(Shared::new()?)))
    }

    /// What is written from here on is forgotten by [`Database::reset`].
    ///
    /// # Errors
    /// [`StoreError`]: it was called before.
    pub fn mark(&self) -> Result<(), StoreError> {
        Ok(self.0.mark()?)
    }

    /// As it was at [`Database::mark`]. No store may be open on it.
    pub fn reset(&self) {
        self.0.reset();
    }

    /// Sets its clock: milliseconds since 1970.
    pub fn set_time(&self, ms: i64) {
        self.0.set_time(ms);
    }

    /// The rows of a statement, each value as text; for who looks at what the service does, beside it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rows(&self, sql: &str, params: &[&str]) -> Result<Vec<Vec<String>>, StoreError> {
        let params: Vec<Param<'_>> = params.iter().map(|text| Param::from(*text)).collect();
        let rows = self.0.lock().query(sql, &params)?;
        let text = |cell: Cell| match cell {
            Cell::Null => String::new(),
            Cell::Int(number) => number.to_string(),
            Cell::Text(text) => text,
            Cell::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        Ok(rows.into_iter().map(|row| row.0.into_iter().map(text).collect()).collect())
    }
}

impl Store {
    /// Opens a simulator's database for an instance. The future is the writer's work: whoever opens the store polls it, as
    /// part of the instance; it ends after [`Store::close`].
    ///
    /// # Errors
    /// As [`Store::open`], without `Taken`.
    pub fn open_simulated(
        database: &Database,
        instance: &str,
        wire: Arc<dyn Wire>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), StoreError> {
        let settings = Settings::sqlite("simulated");
        let link = Link { shared: Arc::clone(&database.0), wire: Arc::clone(&wire) };
        let connector = Connector::simulated(&settings, link);
        let halt = Arc::new(Halt::default());
        let connection = connector.connect(true)?;
        let mut opened =
            Opened::new(connector.clone(), connection, None, Closing::AtTheEnd, &halt, schema::VERSION)?;
        if halt.why().is_none() {
            instances::announce(opened.connection.as_mut(), instance, schema::VERSION, false)?;
        }
        let chain = opened.trail.chain;
        let readers = Readers::inline(&settings, &connector, &wire);
        let (writer, work) = Writer::inline(&settings, instance.to_owned(), opened, Arc::clone(&halt), wire);
        let inner =
            Inner { writer, readers, instance: instance.to_owned(), program: schema::VERSION, chain, halt };
        Ok((Self { inner: Arc::new(inner) }, work))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Clear;

    impl Wire for Clear {
        fn pass(&self, _: Point) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(std::future::ready(()))
        }

        fn fault(&self, _: Step) -> Option<Fault> {
            None
        }

        fn commit(&self) -> Commit {
            Commit::Done
        }

        fn committed(&self) {}
    }

    #[tokio::test]
    async fn two_instances_see_each_other_at_the_simulated_time_until_the_database_is_reset() {
        let database = Database::new().unwrap();
        for _ in 0..2 {
            database.mark().unwrap();
            database.set_time(1_000_123);
            let (one, work) = Store::open_simulated(&database, "one", Arc::new(Clear)).unwrap();
            let one_works = tokio::spawn(work);
            let (two, work) = Store::open_simulated(&database, "two", Arc::new(Clear)).unwrap();
            let two_works = tokio::spawn(work);
            database.set_time(1_005_000);
            assert_eq!(one.beat().await.unwrap().as_millis(), 4_877);
            let alive = two.instances_alive(std::time::Duration::from_secs(4)).await.unwrap();
            assert_eq!(alive, ["one"]);
            one.close().await;
            two.close().await;
            one_works.await.unwrap();
            two_works.await.unwrap();
            drop((one, two));
            database.reset();
            let left = database.rows("SELECT count(*) FROM instances", &[]).unwrap();
            assert_eq!(left, [["0"]]);
        }
    }
}
