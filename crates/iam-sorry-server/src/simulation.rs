//! For the simulator (`tests/simulation`): which instance a task belongs to, and whether it may go on. Nothing here is in a
//! program that ships (the feature `simulation`).
//!
//! A simulation runs on one thread. All that it decides for its tasks is kept by thread, and set before each poll.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Whether a task may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Run,
    /// Not now; the host wakes it.
    Wait,
    /// Never again: its instance is dead.
    Dead,
}

/// The machine that an instance runs on.
pub trait Host: Send + Sync {
    /// Asked before each poll of one of its tasks. The host keeps the waker, for when it says [`Admission::Wait`] or dies.
    fn admit(&self, task: u64, context: &mut Context<'_>) -> Admission;
    /// The task has ended, or was dropped.
    fn ended(&self, task: u64);
    /// Its clock: milliseconds since 1970.
    fn now_ms(&self) -> i64;
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Host>>> = const { RefCell::new(None) };
    static TASKS: Cell<u64> = const { Cell::new(0) };
    static RANDOM: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The host whose task is running.
pub fn current() -> Option<Arc<dyn Host>> {
    CURRENT.with_borrow(Clone::clone)
}

/// The clock of the host whose task is running: for `iam_sorry_aws::simulation::set_clock`.
pub fn now_ms() -> i64 {
    CURRENT.with_borrow(|host| host.as_ref().map_or(0, |host| host.now_ms()))
}

/// From here on, randomness on this thread follows from the seed. None: it is the system's again.
pub fn seed(seed: Option<u64>) {
    RANDOM.set(seed);
}

pub(crate) fn fill_random(bytes: &mut [u8]) -> bool {
    let Some(mut state) = RANDOM.get() else { return false };
    for chunk in bytes.chunks_mut(8) {
        // SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^= word >> 31;
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    RANDOM.set(Some(state));
    true
}

/// Work on a host: it goes on only when the host lets it, and what it spawns is on the same host.
pub struct On<F> {
    host: Arc<dyn Host>,
    task: u64,
    work: Option<Pin<Box<F>>>,
}

impl<F> On<F> {
    /// Nothing runs yet.
    pub fn new(host: Arc<dyn Host>, work: F) -> Self {
        let task = TASKS.get();
        TASKS.set(task + 1);
        Self { host, task, work: Some(Box::pin(work)) }
    }
}

/// Sets the host for as long as it lives.
struct Entered(Option<Arc<dyn Host>>);

impl Entered {
    fn new(host: &Arc<dyn Host>) -> Self {
        Self(CURRENT.replace(Some(Arc::clone(host))))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

impl<F: Future> Future for On<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let (host, task) = (Arc::clone(&self.host), self.task);
        let Some(work) = &mut self.work else { return Poll::Pending };
        let admission = host.admit(task, context);
        let _entered = Entered::new(&host);
        match admission {
            Admission::Wait => Poll::Pending,
            Admission::Dead => {
                self.work = None;
                Poll::Pending
            }
            Admission::Run => work.as_mut().poll(context),
        }
    }
}

impl<F> Drop for On<F> {
    fn drop(&mut self) {
        let _entered = Entered::new(&self.host);
        self.work = None;
        self.host.ended(self.task);
    }
}
