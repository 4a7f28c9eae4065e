//! The one thread that writes. It takes all jobs that wait, runs them in one transaction, commits once, then answers.
//!
//! So a hundred requests cost one flush, and no answer leaves before its transaction is on disk. A job that fails costs
//! the others nothing: the batch is run again with a savepoint around each.
//!
//! On PostgreSQL the transactions of several instances run side by side, each with the row of its own lane locked
//! ([`crate::lanes`]). So what a job looks at before it writes, another instance may change at the same time, unless the job
//! holds it: by a lock on its row (`@LOCK`), by a condition of the UPDATE itself, or by a unique index. A job that runs into
//! a unique index is run again and then sees the row that was in its way.
//!
//! | what happens | what the callers get |
//! | --- | --- |
//! | a job refuses (fenced, bad data) | that caller its error, the others their answers |
//! | no room, or the disk fails | all of the batch `Full` or `Unwritable`, nothing written |
//! | the server takes no writes | the batch again on a new connection, while its time lasts; then `ReadOnly` |
//! | connection lost before COMMIT | the batch again on a new connection, while its time lasts |
//! | a unique index | that job again, up to three times; then `Corrupt` |
//! | connection lost in COMMIT, or no answer in time | `OutcomeUnknown`: it may be written; `operation(id)` tells |
//! | the database is another one | `Contradicted`, nothing written, from then on |
//! | database away for longer | `Unavailable` at once, nothing written, until it is back |

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::continuity::{Halt, contradicts};
use crate::engine::{Connection, Connector, DbError, InstanceLock, Param, Row};
use crate::lanes::{Closing, OwnTrail, check_ends, read_chain};
use crate::settings::Settings;
use crate::{StoreError, schema, thread};

/// How many jobs go into one transaction: it bounds what a failure repeats, and how long other instances wait.
const BATCH: usize = 128;
/// How often a job is run that runs into a unique index.
const TRIES: u32 = 3;
/// How many jobs may wait.
const QUEUE: usize = 1024;
/// From when on an absent database is answered for at once instead of waited for.
const PATIENCE: Duration = Duration::from_millis(1500);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Why a job could not: the database's doing, or the store's own refusal.
#[derive(Debug)]
pub(crate) enum Fault {
    Db(DbError),
    Refused(StoreError),
}

impl From<DbError> for Fault {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Db(error) => error.into(),
            Fault::Refused(error) => error,
        }
    }
}

/// What a write job works with: the open transaction.
pub(crate) struct Tx<'a> {
    pub(crate) connection: &'a mut dyn Connection,
    pub(crate) trail: &'a mut OwnTrail,
    pub(crate) instance: &'a str,
}

impl Tx<'_> {
    pub(crate) fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, DbError> {
        self.connection.execute(sql, params)
    }

    /// Runs a statement whose count nobody needs; see [`Connection::later`].
    pub(crate) fn deferred(&mut self, sql: &str, params: &[Param<'_>]) -> Result<(), DbError> {
        self.connection.deferred(sql, params)
    }

    /// The first row, where there is one.
    pub(crate) fn first(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Option<Row>, DbError> {
        Ok(self.connection.query(sql, params)?.into_iter().next())
    }
}

/// A job with its type taken away. It may run more than once; only the last run is committed.
trait Job: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault>;
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
    fn is_too_late(&self) -> bool;
    /// Right before its transaction is committed. False: its caller has given it up.
    fn commits(&self) -> bool;
}

struct Task<T, F> {
    work: F,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
    deadline: Instant,
    turn: Arc<JobTurn>,
}

/// Who was first, the writer that commits a job or the caller that gives it up: a caller that was knows that nothing was
/// written.
#[derive(Debug, Default)]
struct JobTurn(AtomicU8);

impl JobTurn {
    const UNDECIDED: u8 = 0;
    const COMMITTED: u8 = 1;
    const GIVEN_UP: u8 = 2;

    /// Whether it may be committed.
    fn commit(&self) -> bool {
        self.decide(Self::COMMITTED)
    }

    /// Whether it was given up in time.
    fn give_up(&self) -> bool {
        self.decide(Self::GIVEN_UP)
    }

    fn decide(&self, by: u8) -> bool {
        let decided = self.0.compare_exchange(Self::UNDECIDED, by, Ordering::SeqCst, Ordering::SeqCst);
        decided.is_ok() || decided == Err(by)
    }
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> Result<T, Fault> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        self.value = Some((self.work)(tx)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let answer = match (outcome, self.value) {
            (Ok(()), Some(value)) => Ok(value),
            (Ok(()), None) => Err(StoreError::Corrupt("a job was answered without having run".into())),
            (Err(error), _) => Err(error),
        };
        // The caller may have stopped waiting.
        let _ = self.reply.send(answer);
    }

    fn is_too_late(&self) -> bool {
        self.reply.is_closed() || Instant::now() >= self.deadline
    }

    fn commits(&self) -> bool {
        self.turn.commit()
    }
}

/// What a writer begins with.
pub(crate) struct Opened {
    pub(crate) connector: Connector,
    pub(crate) connection: Box<dyn Connection>,
    pub(crate) trail: OwnTrail,
    pub(crate) lock: Option<InstanceLock>,
}

impl Opened {
    /// Checks the schema, which a program of schema `program` must be able to work with, and the trail's end; a trail that was cut or changed halts the store.
    pub(crate) fn new(
        connector: Connector,
        mut connection: Box<dyn Connection>,
        lock: Option<InstanceLock>,
        closing: Closing,
        halt: &Halt,
        program: u32,
    ) -> Result<Self, StoreError> {
        schema::check(connection.as_mut(), program)?;
        let chain = match check_ends(connection.as_mut()) {
            Ok(chain) => chain,
            Err(StoreError::Corrupt(why)) => {
                halt.say(&why);
                read_chain(connection.as_mut())?
            }
            Err(error) => return Err(error),
        };
        Ok(Self { connector, connection, trail: OwnTrail::new(chain, closing), lock })
    }
}

/// The way to the writing thread.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: std::sync::Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
    timeout: Duration,
    /// When a write last found that it can't be written, and why.
    refused: std::sync::Mutex<Option<(Instant, StoreError)>>,
    /// The way to a database that a simulator has in memory.
    #[cfg(feature = "simulation")]
    wire: Option<Arc<dyn crate::simulation::Wire>>,
}

impl Writer {
    pub(crate) fn start(
        settings: &Settings,
        instance: String,
        opened: Opened,
        halt: Arc<Halt>,
    ) -> Result<Self, StoreError> {
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let line = Line::new(instance, opened, halt);
        let thread = thread::spawn("store-writer", move || line.work(waiting))?;
        Ok(Self {
            jobs: Some(jobs).into(),
            thread: Some(thread).into(),
            timeout: settings.timeout,
            refused: None.into(),
            #[cfg(feature = "simulation")]
            wire: None,
        })
    }

    /// The same without a thread: whoever opens it polls the future, which ends when the writer is closed.
    #[cfg(feature = "simulation")]
    pub(crate) fn inline(
        settings: &Settings,
        instance: String,
        opened: Opened,
        halt: Arc<Halt>,
        wire: Arc<dyn crate::simulation::Wire>,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let line = Line::new(instance, opened, halt);
        let work = line.work_inline(waiting, Arc::clone(&wire));
        let this = Self {
            jobs: Some(jobs).into(),
            thread: None.into(),
            timeout: settings.timeout,
            refused: None.into(),
            wire: Some(wire),
        };
        (this, work)
    }

    /// Runs `work` in a transaction; answers when that is on disk.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let closed = || StoreError::Unavailable("the store is closed".into());
        let jobs = thread::locked(&self.jobs).clone().ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + self.timeout;
        let turn = Arc::new(JobTurn::default());
        let job: Box<dyn Job> =
            Box::new(Task { work, value: None, reply, deadline, turn: Arc::clone(&turn) });
        let answer = tokio::time::timeout(self.timeout, async {
            jobs.send(job).await.map_err(|_| closed())?;
            drop(jobs);
            let answer = answer.await.map_err(|_| closed())?;
            #[cfg(feature = "simulation")]
            if let Some(wire) = &self.wire {
                wire.pass(crate::simulation::Point::WriteAnswer).await;
            }
            answer
        })
        .await
        .unwrap_or_else(|_| {
            let text = format!("no answer within {} s", self.timeout.as_secs_f32());
            Err(match turn.give_up() {
                true => StoreError::Unavailable(text),
                false => StoreError::OutcomeUnknown(text),
            })
        });
        if let Err(error @ (StoreError::Full(_) | StoreError::Unwritable(_))) = &answer {
            *thread::locked(&self.refused) = Some((Instant::now(), error.clone()));
        }
        answer
    }

    /// Why a write found no room, until [`Writer::has_room_since`].
    pub(crate) fn no_room(&self) -> Option<StoreError> {
        thread::locked(&self.refused).as_ref().map(|(_, error)| error.clone())
    }

    /// A large write that began then has succeeded: what found no room before it is past.
    pub(crate) fn has_room_since(&self, began: Instant) {
        thread::locked(&self.refused).take_if(|(at, _)| *at < began);
    }

    /// Takes no more jobs; gives the thread, which ends when those that wait are done.
    pub(crate) fn close(&self) -> Option<JoinHandle<()>> {
        thread::locked(&self.jobs).take();
        thread::locked(&self.thread).take()
    }
}

/// The thread's own state.
struct Line {
    connector: Connector,
    instance: String,
    connection: Option<Box<dyn Connection>>,
    /// This instance's lane, as it is known to have been committed.
    trail: OwnTrail,
    halt: Arc<Halt>,
    down_since: Option<Instant>,
    /// Let go only when everything is written.
    _lock: Option<InstanceLock>,
}

/// How a batch went.
enum Went {
    /// Committed; each job's own result.
    Committed(Vec<Result<(), StoreError>>),
    /// One job refused, and the transaction is rolled back: again, with savepoints.
    Again,
    /// One job was given up, and the transaction is rolled back: again, without it.
    GivenUp,
    /// Not committed, for all.
    Failed(DbError),
    /// Not committed: the database is another one than before.
    Contradicted(String),
}

/// Jobs that go into one transaction.
struct Batch {
    jobs: Vec<Box<dyn Job>>,
    /// Whether each job gets a savepoint of its own.
    savepoints: bool,
    /// How long to wait before the next attempt.
    pause: Duration,
}

impl Batch {
    /// The job and those that wait behind it.
    fn new(first: Box<dyn Job>, waiting: &mut mpsc::Receiver<Box<dyn Job>>) -> Self {
        let mut jobs = vec![first];
        while jobs.len() < BATCH
            && let Ok(job) = waiting.try_recv()
        {
            jobs.push(job);
        }
        Self { jobs, savepoints: false, pause: FIRST_PAUSE }
    }
}

impl Line {
    fn new(instance: String, opened: Opened, halt: Arc<Halt>) -> Self {
        let Opened { connector, connection, trail, lock } = opened;
        Self { connector, instance, connection: Some(connection), trail, halt, down_since: None, _lock: lock }
    }

    fn work(mut self, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut batch = Batch::new(first, &mut waiting);
            while let Some(pause) = self.advance(&mut batch) {
                std::thread::sleep(pause);
            }
        }
    }

    #[cfg(feature = "simulation")]
    async fn work_inline(
        mut self,
        mut waiting: mpsc::Receiver<Box<dyn Job>>,
        wire: Arc<dyn crate::simulation::Wire>,
    ) {
        while let Some(first) = waiting.recv().await {
            wire.pass(crate::simulation::Point::Write).await;
            let mut batch = Batch::new(first, &mut waiting);
            while let Some(pause) = self.advance(&mut batch) {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Tries to commit the batch and answers its jobs. `Some`: the database is away; call it again after so long.
    fn advance(&mut self, batch: &mut Batch) -> Option<Duration> {
        loop {
            let (late, mut jobs) =
                std::mem::take(&mut batch.jobs).into_iter().partition(|job| job.is_too_late());
            fail(late, || StoreError::Unavailable("it waited too long".into()));
            if jobs.is_empty() {
                return None;
            }
            if let Some(why) = self.halt.why() {
                fail(jobs, || StoreError::Contradicted(why.clone()));
                return None;
            }
            let failure = match self.attempt(&mut jobs, batch.savepoints) {
                Went::Committed(results) => {
                    jobs.into_iter().zip(results).for_each(|(job, result)| job.answer(result));
                    return None;
                }
                Went::Again => {
                    (batch.jobs, batch.savepoints) = (jobs, true);
                    continue;
                }
                Went::GivenUp => {
                    let (given_up, others) = jobs.into_iter().partition(|job| !job.commits());
                    fail(given_up, || StoreError::Unavailable("it waited too long".into()));
                    batch.jobs = others;
                    continue;
                }
                Went::Contradicted(why) => {
                    self.halt.say(&why);
                    batch.jobs = jobs;
                    continue;
                }
                Went::Failed(failure) => failure,
            };
            let away = self.down_since.is_some_and(|since| since.elapsed() >= PATIENCE);
            match failure {
                DbError::Lost(_) | DbError::Busy(_) | DbError::ReadOnly(_) if !away => {
                    let pause = batch.pause;
                    (batch.jobs, batch.pause) = (jobs, (pause * 2).min(LONGEST_PAUSE));
                    return Some(pause);
                }
                failure => {
                    let error = iam_sorry_core::planted!("unknown-commit-is-none": StoreError::Unavailable("away".into()), StoreError::from(failure));
                    fail(jobs, || error.clone());
                    return None;
                }
            }
        }
    }

    fn attempt(&mut self, jobs: &mut [Box<dyn Job>], savepoints: bool) -> Went {
        if let Some(why) = self.connector.misplaced() {
            return Went::Contradicted(why.to_owned());
        }
        let mut connection = match self.connection.take().filter(|connection| !connection.is_broken()) {
            Some(connection) => connection,
            None => match self.connector.connect(true) {
                Ok(connection) => connection,
                Err(error) => {
                    self.down_since.get_or_insert_with(Instant::now);
                    return Went::Failed(error);
                }
            },
        };
        let went = transaction(connection.as_mut(), &self.instance, &mut self.trail, jobs, savepoints);
        match &went {
            Went::Committed(_) => {
                self.connector.committed();
                self.down_since = None;
            }
            Went::Failed(DbError::Lost(_) | DbError::Unknown(_) | DbError::ReadOnly(_)) => {
                self.down_since.get_or_insert_with(Instant::now);
            }
            _ => self.down_since = None,
        }
        if !connection.is_broken() {
            self.connection = Some(connection);
        }
        went
    }
}

fn transaction(
    connection: &mut dyn Connection,
    instance: &str,
    trail: &mut OwnTrail,
    jobs: &mut [Box<dyn Job>],
    savepoints: bool,
) -> Went {
    let locked = connection.begin().and_then(|()| trail.lock(connection));
    match locked {
        Ok(locked) => {
            if let Some(why) = contradicts(trail, &locked) {
                connection.rollback();
                return Went::Contradicted(why);
            }
            trail.go_on_from(locked);
        }
        Err(error) => return failed(connection, error),
    }
    let begun = trail.mark();
    let went = run_all(connection, instance, trail, jobs, savepoints);
    if !matches!(went, Went::Committed(_)) {
        trail.back_to(&begun);
    }
    went
}

fn run_all(
    connection: &mut dyn Connection,
    instance: &str,
    trail: &mut OwnTrail,
    jobs: &mut [Box<dyn Job>],
    savepoints: bool,
) -> Went {
    let before = trail.lane();
    let alone = jobs.len() == 1;
    let mut results = Vec::with_capacity(jobs.len());
    for job in jobs.iter_mut() {
        let kept = trail.mark();
        let mut tries = 0;
        let result = loop {
            if savepoints && let Err(error) = connection.script("SAVEPOINT job") {
                return failed(connection, error);
            }
            let ran = job.run(&mut Tx { connection, trail, instance });
            // With savepoints an error must be its own job's.
            let ran = if savepoints { ran.and_then(|()| Ok(connection.flush()?)) } else { ran };
            let fault = match ran {
                Ok(()) => break Ok(()),
                Err(Fault::Db(error)) if concerns_all(&error) => return failed(connection, error),
                Err(fault) => fault,
            };
            tries += 1;
            let again = matches!(fault, Fault::Db(DbError::Duplicate(_))) && tries < TRIES;
            if !savepoints {
                connection.rollback();
                return match alone && !again {
                    true => {
                        trail.back_to(&kept);
                        Went::Committed(vec![Err(fault.into())])
                    }
                    false => Went::Again,
                };
            }
            trail.back_to(&kept);
            if let Err(error) = connection.script("ROLLBACK TO SAVEPOINT job") {
                return failed(connection, error);
            }
            if !again {
                break Err(fault.into());
            }
        };
        results.push(result);
    }
    if iam_sorry_core::planted!("written-after-giving-up": false, !jobs.iter().all(|job| job.commits())) {
        connection.rollback();
        return Went::GivenUp;
    }
    let written = if trail.lane() == before { Ok(()) } else { trail.write(connection, instance) };
    let written = written.map_err(|fault| match fault {
        Fault::Db(error) => error,
        Fault::Refused(error) => DbError::Other(error.to_string()),
    });
    let committed = written.and_then(|()| connection.commit());
    match iam_sorry_core::planted!("commit-not-checked": committed.or(Ok(())), committed) {
        Ok(()) => Went::Committed(results),
        // A statement that was put off: whose it was shows when they go one by one.
        Err(error)
            if !concerns_all(&error) && !savepoints && (!alone || matches!(error, DbError::Duplicate(_))) =>
        {
            connection.rollback();
            Went::Again
        }
        Err(error) => failed(connection, error),
    }
}

/// Nothing of the transaction is kept.
fn failed(connection: &mut dyn Connection, error: DbError) -> Went {
    connection.rollback();
    match error {
        DbError::Damaged(text) => Went::Contradicted(format!("the database is damaged: {text}")),
        error => Went::Failed(error),
    }
}

/// Whether the whole batch fails with it, rather than the job that ran into it.
fn concerns_all(error: &DbError) -> bool {
    match error {
        DbError::Lost(_)
        | DbError::Busy(_)
        | DbError::Full(_)
        | DbError::Unwritable(_)
        | DbError::ReadOnly(_)
        | DbError::Damaged(_)
        | DbError::Unknown(_) => true,
        DbError::Stopped | DbError::Denied(_) | DbError::Duplicate(_) | DbError::Other(_) => false,
    }
}

fn fail(jobs: Vec<Box<dyn Job>>, error: impl Fn() -> StoreError) {
    jobs.into_iter().for_each(|job| job.answer(Err(error())));
}
