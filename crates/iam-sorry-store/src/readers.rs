//! The threads that read, each with a connection of its own. A read that loses its connection is tried again on a new
//! one; a read whose time is over, or whose caller has gone, is stopped in the engine.
//!
//! There are three groups of them ([`Lane`]), each with a queue of its own, so that no query of the audit trail, however
//! slow, can keep a session from being looked up or an operation from going on.

use std::fmt;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::engine::{Caller, Connection, Connector, DbError, Limit};
use crate::settings::{Engine, Settings};
use crate::writer::Fault;
use crate::{StoreError, thread};

/// From when on an absent database is answered for at once.
const PATIENCE: Duration = Duration::from_millis(1500);
const PAUSE: Duration = Duration::from_millis(50);
/// How long the engine may take to stop a read at its limit.
const STOPPING: Duration = Duration::from_secs(2);

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Whose session or key it is: before every request.
    Sessions,
    /// Operations, lists, sinks, checkpoints: statements that are cheap whatever the database's size.
    Work,
    /// Queries of the audit trail, whose cost depends on what a person asks for.
    Audit,
}

trait Job: Send {
    /// Runs and answers, or says why it should be tried again.
    fn run(&mut self, connection: &mut dyn Connection) -> Result<(), DbError>;
    fn fail(&mut self, error: StoreError);
    fn is_too_late(&self) -> bool;
    /// Answers a job that is too late.
    fn give_up(&mut self);
}

struct Task<T, F> {
    work: F,
    reply: Option<oneshot::Sender<Result<T, StoreError>>>,
    caller: Arc<Caller>,
    /// When it must have begun.
    begin_by: Instant,
    /// How long it may take from then on; none: it must have ended when it must have begun.
    limit: Option<Duration>,
    /// Known once it has begun.
    until: Option<Instant>,
}

impl<T, F> Task<T, F> {
    fn answer(&mut self, answer: Result<T, StoreError>) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(answer);
        }
    }
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnMut(&mut dyn Connection) -> Result<T, Fault> + Send,
{
    fn run(&mut self, connection: &mut dyn Connection) -> Result<(), DbError> {
        let until = match self.limit {
            Some(limit) => *self.until.get_or_insert_with(|| Instant::now() + limit),
            None => self.begin_by,
        };
        connection.limit(Some(Limit { until, caller: Arc::clone(&self.caller) }))?;
        let result = (self.work)(connection);
        connection.limit(None)?;
        match result {
            Err(Fault::Db(error @ (DbError::Lost(_) | DbError::Busy(_) | DbError::ReadOnly(_)))) => {
                return Err(error);
            }
            Err(fault) => self.answer(Err(fault.into())),
            Ok(value) => self.answer(Ok(value)),
        }
        Ok(())
    }

    fn fail(&mut self, error: StoreError) {
        self.answer(Err(error));
    }

    fn is_too_late(&self) -> bool {
        self.reply.is_none() || self.caller.is_gone() || Instant::now() >= self.until.unwrap_or(self.begin_by)
    }

    fn give_up(&mut self) {
        let error = match (self.limit, self.until) {
            (Some(_), Some(_)) => StoreError::TooSlow,
            (Some(_), None) => StoreError::Crowded,
            (None, _) => StoreError::Unavailable("it waited too long".into()),
        };
        self.answer(Err(error));
    }
}

/// The ways to the reading threads.
#[derive(Debug)]
pub(crate) struct Readers {
    sessions: Pool,
    work: Pool,
    audit: Pool,
}

impl Readers {
    pub(crate) fn start(settings: &Settings, connector: &Connector) -> Result<Self, StoreError> {
        // PostgreSQL answers over a network: two lookups at once hide its latency.
        let few = match settings.engine {
            Engine::Sqlite { .. } => 1,
            Engine::Postgres { .. } => 2,
        };
        Ok(Self {
            sessions: Pool::start(settings, connector, "store-sessions", few, None)?,
            work: Pool::start(settings, connector, "store-reader", settings.readers.max(1), None)?,
            audit: Pool::start(settings, connector, "store-audit", few, Some(settings.audit_limit))?,
        })
    }

    /// Runs `work` on one of the lane's connections. When the caller stops waiting, so does the work.
    pub(crate) async fn run<T, F>(&self, lane: Lane, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut dyn Connection) -> Result<T, Fault> + Send + 'static,
    {
        let pool = match lane {
            Lane::Sessions => &self.sessions,
            Lane::Work => &self.work,
            Lane::Audit => &self.audit,
        };
        pool.run(work).await
    }

    pub(crate) fn close(&self) {
        for pool in [&self.sessions, &self.work, &self.audit] {
            thread::locked(&pool.jobs).take();
        }
    }
}

/// Threads with one queue.
struct Pool {
    jobs: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    timeout: Duration,
    limit: Option<Duration>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Says so when the caller's future is dropped.
struct Leaving(Arc<Caller>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Pool {
    fn start(
        settings: &Settings,
        connector: &Connector,
        name: &str,
        threads: usize,
        limit: Option<Duration>,
    ) -> Result<Self, StoreError> {
        let (jobs, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..threads {
            let (connector, waiting) = (connector.clone(), Arc::clone(&waiting));
            thread::spawn(name, move || work(&connector, &waiting))?;
        }
        Ok(Self { jobs: Some(jobs).into(), timeout: settings.timeout, limit })
    }

    async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut dyn Connection) -> Result<T, Fault> + Send + 'static,
    {
        let closed = || StoreError::Unavailable("the store is closed".into());
        let (reply, answer) = oneshot::channel();
        let leaving = Leaving(Arc::default());
        let job = Box::new(Task {
            work,
            reply: Some(reply),
            caller: Arc::clone(&leaving.0),
            begin_by: Instant::now() + self.timeout,
            limit: self.limit,
            until: None,
        });
        thread::locked(&self.jobs).as_ref().ok_or_else(closed)?.send(job).map_err(|_| closed())?;
        let patience = self.timeout + self.limit.map_or(Duration::ZERO, |limit| limit + STOPPING);
        tokio::time::timeout(patience, answer)
            .await
            .map_err(|_| StoreError::Unavailable(format!("no answer within {} s", patience.as_secs_f32())))?
            .map_err(|_| closed())?
    }
}

fn work(connector: &Connector, waiting: &Mutex<mpsc::Receiver<Box<dyn Job>>>) {
    let mut connection: Option<Box<dyn Connection>> = None;
    let mut down_since: Option<Instant> = None;
    loop {
        let next = thread::locked(waiting).recv();
        let Ok(mut job) = next else { return };
        while !job.is_too_late() {
            let tried = match connection.take().filter(|connection| !connection.is_broken()) {
                Some(connection) => Ok(connection),
                None => connector.connect(false),
            };
            let error = match tried {
                Ok(mut open) => match job.run(open.as_mut()) {
                    Ok(()) => {
                        connection = Some(open);
                        down_since = None;
                        break;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let since = *down_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= PATIENCE {
                job.fail(error.into());
                break;
            }
            std::thread::sleep(PAUSE);
        }
        job.give_up();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// A deadline that nothing but a hang reaches.
    const LONG: Duration = Duration::from_secs(60);

    fn settings(folder: &tempfile::TempDir) -> Settings {
        let settings = Settings::sqlite(folder.path().join("store.db"));
        crate::Store::migrate(&settings).unwrap();
        Settings { timeout: LONG, ..settings }
    }

    fn start(settings: &Settings) -> Result<Readers, StoreError> {
        Readers::start(settings, &Connector::new(settings, true)?)
    }

    /// A statement that never ends by itself.
    const ENDLESS: &str =
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT 1 FROM c) SELECT count(*) FROM c";

    fn engines(folder: &tempfile::TempDir) -> [Settings; 2] {
        let url = testkit::Postgres::shared().database();
        let postgres = Settings { timeout: LONG, ..Settings::postgres(url.into(), None).unwrap() };
        [settings(folder), postgres]
    }

    async fn read(readers: &Readers, lane: Lane, sql: &'static str) -> Result<(), StoreError> {
        readers.run(lane, move |connection| Ok(connection.query(sql, &[]).map(drop)?)).await
    }

    const ONE: &str = "SELECT CAST(1 AS @INT)";

    #[tokio::test]
    async fn a_read_of_the_trail_is_stopped_in_the_engine_at_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        for settings in engines(&folder) {
            let readers = start(&Settings { audit_limit: Duration::from_millis(200), ..settings });
            let readers = readers.unwrap();
            // More than there are threads: each is stopped, or the later ones would never begin.
            for _ in 0..4 {
                assert_eq!(read(&readers, Lane::Audit, ENDLESS).await, Err(StoreError::TooSlow));
            }
            assert_eq!(read(&readers, Lane::Audit, ONE).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn a_read_that_nobody_waits_for_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        for settings in engines(&folder) {
            let readers = start(&Settings { audit_limit: LONG * 60, ..settings }).unwrap();
            for _ in 0..4 {
                let short = Duration::from_millis(100);
                assert!(timeout(short, read(&readers, Lane::Audit, ENDLESS)).await.is_err());
                assert!(timeout(short, read(&readers, Lane::Work, ENDLESS)).await.is_err());
            }
            for lane in [Lane::Audit, Lane::Work] {
                assert_eq!(timeout(LONG, read(&readers, lane, ONE)).await, Ok(Ok(())), "{lane:?} is free");
            }
        }
    }

    #[tokio::test]
    async fn reads_of_the_trail_keep_no_session_and_no_operation_waiting() {
        let folder = tempfile::tempdir().unwrap();
        for settings in engines(&folder) {
            let readers = start(&Settings { audit_limit: LONG * 60, ..settings }).unwrap();
            let busy = futures_util::future::join_all((0..8).map(|_| read(&readers, Lane::Audit, ENDLESS)));
            let others = async {
                for _ in 0..20 {
                    read(&readers, Lane::Sessions, ONE).await.unwrap();
                    read(&readers, Lane::Work, ONE).await.unwrap();
                }
            };
            tokio::select! {
                answers = busy => panic!("an endless read ended: {answers:?}"),
                () = others => {}
            }
        }
    }

    #[tokio::test]
    async fn one_that_can_not_begin_in_time_is_no_fault_of_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let short = Duration::from_millis(100);
        let settings = Settings { timeout: short, audit_limit: Duration::from_secs(2), ..settings(&folder) };
        let readers = start(&settings).unwrap();
        let both = [read(&readers, Lane::Audit, ENDLESS), read(&readers, Lane::Audit, ONE)];
        let answers = futures_util::future::join_all(both).await;
        assert_eq!(answers, [Err(StoreError::TooSlow), Err(StoreError::Crowded)]);
    }
}
