//! The threads that read, each with a connection of its own. A read that loses its connection is tried again on a new
//! one; a read whose time is over, or whose caller has gone, is stopped in the engine.
//!
//! There are three groups of them ([`Queue`]), each with a queue of its own, so that no query of the audit trail, however
//! slow, can keep a session from being looked up or an operation from going on.

use std::fmt;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

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
pub(crate) enum Queue {
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

    /// Runs `work` on one of the queue's connections. When the caller stops waiting, so does the work.
    pub(crate) async fn run<T, F>(&self, queue: Queue, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut dyn Connection) -> Result<T, Fault> + Send + 'static,
    {
        let pool = match queue {
            Queue::Sessions => &self.sessions,
            Queue::Work => &self.work,
            Queue::Audit => &self.audit,
        };
        pool.run(work).await
    }

    /// Without threads: each read runs where it is asked for.
    #[cfg(feature = "simulation")]
    pub(crate) fn inline(
        settings: &Settings,
        connector: &Connector,
        wire: &Arc<dyn crate::simulation::Wire>,
    ) -> Self {
        let pool = |limit| {
            let reader = Mutex::new(Some(Reader::new(connector.clone())));
            let inline = Some(Inline { reader, wire: Arc::clone(wire) });
            Pool { jobs: None.into(), timeout: settings.timeout, limit, inline }
        };
        Self { sessions: pool(None), work: pool(None), audit: pool(Some(settings.audit_limit)) }
    }

    pub(crate) fn close(&self) {
        for pool in [&self.sessions, &self.work, &self.audit] {
            thread::locked(&pool.jobs).take();
            #[cfg(feature = "simulation")]
            if let Some(inline) = &pool.inline {
                thread::locked(&inline.reader).take();
            }
        }
    }
}

/// Threads with one queue.
struct Pool {
    jobs: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    timeout: Duration,
    limit: Option<Duration>,
    #[cfg(feature = "simulation")]
    inline: Option<Inline>,
}

/// What a simulator has in the place of the threads.
#[cfg(feature = "simulation")]
struct Inline {
    /// None after the store was closed.
    reader: Mutex<Option<Reader>>,
    wire: Arc<dyn crate::simulation::Wire>,
}

#[cfg(feature = "simulation")]
impl Inline {
    async fn run(&self, job: &mut dyn Job) {
        self.wire.pass(crate::simulation::Point::Read).await;
        while !job.is_too_late() {
            let attempt = thread::locked(&self.reader).as_mut().and_then(|reader| reader.attempt(job));
            match attempt {
                Some(pause) => tokio::time::sleep(pause).await,
                None => break,
            }
        }
        job.give_up();
        self.wire.pass(crate::simulation::Point::ReadAnswer).await;
    }
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
        Ok(Self {
            jobs: Some(jobs).into(),
            timeout: settings.timeout,
            limit,
            #[cfg(feature = "simulation")]
            inline: None,
        })
    }

    async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut dyn Connection) -> Result<T, Fault> + Send + 'static,
    {
        let closed = || StoreError::Unavailable("the store is closed".into());
        let (reply, answer) = oneshot::channel();
        let leaving = Leaving(Arc::default());
        let job = Task {
            work,
            reply: Some(reply),
            caller: Arc::clone(&leaving.0),
            begin_by: Instant::now() + self.timeout,
            limit: self.limit,
            until: None,
        };
        let patience = self.timeout + self.limit.map_or(Duration::ZERO, |limit| limit + STOPPING);
        #[cfg(feature = "simulation")]
        if let Some(inline) = &self.inline {
            let mut job = job;
            let ran = tokio::time::timeout(patience, inline.run(&mut job)).await;
            drop(job);
            return match ran {
                Ok(()) => answer.await.map_err(|_| closed())?,
                Err(_) => {
                    Err(StoreError::Unavailable(format!("no answer within {} s", patience.as_secs_f32())))
                }
            };
        }
        let job = Box::new(job);
        thread::locked(&self.jobs).as_ref().ok_or_else(closed)?.send(job).map_err(|_| closed())?;
        tokio::time::timeout(patience, answer)
            .await
            .map_err(|_| StoreError::Unavailable(format!("no answer within {} s", patience.as_secs_f32())))?
            .map_err(|_| closed())?
    }
}

fn work(connector: &Connector, waiting: &Mutex<mpsc::Receiver<Box<dyn Job>>>) {
    let mut reader = Reader::new(connector.clone());
    loop {
        let next = thread::locked(waiting).recv();
        let Ok(mut job) = next else { return };
        while !job.is_too_late() {
            match reader.attempt(job.as_mut()) {
                Some(pause) => std::thread::sleep(pause),
                None => break,
            }
        }
        job.give_up();
    }
}

/// One connection that reads, made anew when it is lost.
struct Reader {
    connector: Connector,
    connection: Option<Box<dyn Connection>>,
    down_since: Option<Instant>,
}

impl Reader {
    fn new(connector: Connector) -> Self {
        Self { connector, connection: None, down_since: None }
    }

    /// Runs the job, which answers. `Some`: the database is away; call it again after so long.
    fn attempt(&mut self, job: &mut dyn Job) -> Option<Duration> {
        let tried = match self.connection.take().filter(|connection| !connection.is_broken()) {
            Some(connection) => Ok(connection),
            None => self.connector.connect(false),
        };
        let error = match tried {
            Ok(mut open) => match job.run(open.as_mut()) {
                Ok(()) => {
                    self.connection = Some(open);
                    self.down_since = None;
                    return None;
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        let since = *self.down_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= PATIENCE {
            job.fail(error.into());
            return None;
        }
        Some(PAUSE)
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

    async fn read(readers: &Readers, queue: Queue, sql: &'static str) -> Result<(), StoreError> {
        readers.run(queue, move |connection| Ok(connection.query(sql, &[]).map(drop)?)).await
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
                assert_eq!(read(&readers, Queue::Audit, ENDLESS).await, Err(StoreError::TooSlow));
            }
            assert_eq!(read(&readers, Queue::Audit, ONE).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn a_read_that_nobody_waits_for_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        for settings in engines(&folder) {
            let readers = start(&Settings { audit_limit: LONG * 60, ..settings }).unwrap();
            for _ in 0..4 {
                let short = Duration::from_millis(100);
                assert!(timeout(short, read(&readers, Queue::Audit, ENDLESS)).await.is_err());
                assert!(timeout(short, read(&readers, Queue::Work, ENDLESS)).await.is_err());
            }
            for queue in [Queue::Audit, Queue::Work] {
                assert_eq!(timeout(LONG, read(&readers, queue, ONE)).await, Ok(Ok(())), "{queue:?} is free");
            }
        }
    }

    #[tokio::test]
    async fn reads_of_the_trail_keep_no_session_and_no_operation_waiting() {
        let folder = tempfile::tempdir().unwrap();
        for settings in engines(&folder) {
            let readers = start(&Settings { audit_limit: LONG * 60, ..settings }).unwrap();
            let busy = futures_util::future::join_all((0..8).map(|_| read(&readers, Queue::Audit, ENDLESS)));
            let others = async {
                for _ in 0..20 {
                    read(&readers, Queue::Sessions, ONE).await.unwrap();
                    read(&readers, Queue::Work, ONE).await.unwrap();
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
        let both = [read(&readers, Queue::Audit, ENDLESS), read(&readers, Queue::Audit, ONE)];
        let answers = futures_util::future::join_all(both).await;
        assert_eq!(answers, [Err(StoreError::TooSlow), Err(StoreError::Crowded)]);
    }
}
