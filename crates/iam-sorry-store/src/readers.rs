//! The threads that read: each with a connection of its own, all taking from one queue. A read that loses its
//! connection is asked again on a new one.

use std::fmt;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::engine::{self, Connection, DbError};
use crate::settings::Settings;
use crate::writer::Fault;
use crate::{StoreError, thread};

/// From when on an absent database is answered for at once.
const PATIENCE: Duration = Duration::from_millis(1500);
const PAUSE: Duration = Duration::from_millis(50);

trait Job: Send {
    /// Runs and answers, or says why it should be tried again.
    fn run(&mut self, connection: &mut dyn Connection) -> Result<(), DbError>;
    fn fail(&mut self, error: StoreError);
    fn is_too_late(&self) -> bool;
}

struct Task<T, F> {
    work: F,
    reply: Option<oneshot::Sender<Result<T, StoreError>>>,
    deadline: Instant,
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
        match (self.work)(connection) {
            Err(Fault::Db(error @ (DbError::Lost(_) | DbError::Busy(_)))) => return Err(error),
            Err(fault) => self.answer(Err(fault.into())),
            Ok(value) => self.answer(Ok(value)),
        }
        Ok(())
    }

    fn fail(&mut self, error: StoreError) {
        self.answer(Err(error));
    }

    fn is_too_late(&self) -> bool {
        self.reply.as_ref().is_none_or(oneshot::Sender::is_closed) || Instant::now() >= self.deadline
    }
}

/// The way to the reading threads.
pub(crate) struct Readers {
    jobs: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    timeout: Duration,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}

impl Readers {
    pub(crate) fn start(settings: &Settings) -> Result<Self, StoreError> {
        let (jobs, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..settings.readers.max(1) {
            let (settings, waiting) = (settings.clone(), Arc::clone(&waiting));
            thread::spawn("store-reader", move || work(&settings, &waiting))?;
        }
        Ok(Self { jobs: Some(jobs).into(), timeout: settings.timeout })
    }

    /// Runs `work` on one of the connections.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut dyn Connection) -> Result<T, Fault> + Send + 'static,
    {
        let closed = || StoreError::Unavailable("the store is closed".into());
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + self.timeout;
        let job = Box::new(Task { work, reply: Some(reply), deadline });
        thread::locked(&self.jobs).as_ref().ok_or_else(closed)?.send(job).map_err(|_| closed())?;
        tokio::time::timeout(self.timeout, answer)
            .await
            .map_err(|_| {
                StoreError::Unavailable(format!("no answer within {} s", self.timeout.as_secs_f32()))
            })?
            .map_err(|_| closed())?
    }

    pub(crate) fn close(&self) {
        thread::locked(&self.jobs).take();
    }
}

fn work(settings: &Settings, waiting: &Mutex<mpsc::Receiver<Box<dyn Job>>>) {
    let mut connection: Option<Box<dyn Connection>> = None;
    let mut down_since: Option<Instant> = None;
    loop {
        let next = thread::locked(waiting).recv();
        let Ok(mut job) = next else { return };
        while !job.is_too_late() {
            let tried = match connection.take().filter(|connection| !connection.is_broken()) {
                Some(connection) => Ok(connection),
                None => engine::connect(settings, false),
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
    }
}
