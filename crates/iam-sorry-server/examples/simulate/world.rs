//! What one schedule's simulated parts share: the time, the choices, what happened, and what was found to be wrong.
//!
//! Everything runs on one thread, and never holds the state across a wait; the lock is there because the service's futures
//! must be `Send`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iam_sorry_store::simulation::Database;
use testkit::IamAccount;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::invariants::Model;
use crate::machine::MachineState;
use crate::rng::Rng;
use crate::weather::Weather;

/// When every schedule begins: milliseconds since 1970.
pub const BEGIN_MS: i64 = 1_800_000_000_000;

thread_local! {
    /// What the service has logged since.
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Takes the service's log into the history, line by line.
pub struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let lines = text.lines().map(|line| format!("          log     {}", line.trim()));
        LOGGED.with_borrow_mut(|logged| logged.extend(lines));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Shared by all parts of a schedule.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    begin: Instant,
    database: Database,
    state: Mutex<State>,
}

/// See [`World::state`].
pub struct State {
    pub weather: Weather,
    /// Delays, and what goes wrong.
    pub rng: Rng,
    /// Whether tasks go on at once.
    pub shuffling: Rng,
    pub machines: Vec<MachineState>,
    pub aws: IamAccount,
    pub model: Model,
    /// Until when something is certainly wrong.
    pub trouble_until: Instant,
    /// What happened, where it is written down.
    pub history: Option<Vec<String>>,
    /// Of when things happened, so that two runs can be compared without their histories.
    pub digest: u64,
    pub events: u64,
    /// The first thing that was found to be wrong.
    pub violation: Option<Violation>,
    pub counters: BTreeMap<&'static str, u64>,
}

/// Something that must hold, and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which of the invariants.
    pub invariant: u8,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}: {}", self.invariant, self.text)
    }
}

impl World {
    pub fn new(seed: u64, weather: Weather, database: Database, recording: bool) -> Self {
        let begin = Instant::now();
        let state = State {
            weather,
            rng: Rng::new(seed, 1),
            shuffling: Rng::new(seed, 2),
            machines: Vec::new(),
            aws: IamAccount::default(),
            model: Model::default(),
            trouble_until: begin,
            history: recording.then(Vec::new),
            digest: 0xCBF2_9CE4_8422_2325,
            events: 0,
            violation: None,
            counters: BTreeMap::new(),
        };
        Self(Arc::new(Inner { begin, database, state: Mutex::new(state) }))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// How long the schedule runs.
    pub fn elapsed(&self) -> Duration {
        self.0.begin.elapsed()
    }

    /// The true time, which the database and AWS have: milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        BEGIN_MS + i64::try_from(self.elapsed().as_millis()).unwrap_or(0)
    }

    /// The same as AWS counts it.
    pub fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.now_ms()) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Before the database is asked for anything.
    pub fn tell_database_the_time(&self) {
        self.0.database.set_time(self.now_ms());
    }

    /// Writes down what happened. `who` is a machine, a person, AWS.
    pub fn happened(&self, state: &mut State, who: fmt::Arguments<'_>, what: fmt::Arguments<'_>) {
        state.events += 1;
        let ms = self.elapsed().as_millis() as u64;
        state.digest = (state.digest ^ ms).wrapping_mul(0x0100_0000_01B3); // FNV-1a, by words
        if let Some(history) = &mut state.history {
            history.extend(LOGGED.with_borrow_mut(std::mem::take));
            history.push(format!("{:>5}.{:03} {who:<7} {what}", ms / 1000, ms % 1000, who = who.to_string()));
        }
    }

    /// Writes down that something does not hold; the first one counts.
    pub fn violated(&self, state: &mut State, invariant: u8, text: String) {
        self.happened(state, format_args!("!!"), format_args!("invariant {invariant} violated: {text}"));
        if state.violation.is_none() {
            state.violation = Some(Violation { invariant, text });
        }
    }

    /// For so long from now on, nobody can be asked to be quick.
    pub fn trouble(&self, state: &mut State, lasts: Duration) {
        state.trouble_until = state.trouble_until.max(Instant::now() + lasts);
    }
}

impl State {
    pub fn count(&mut self, what: &'static str) {
        *self.counters.entry(what).or_default() += 1;
    }
}

/// Writes down what happened.
#[macro_export]
macro_rules! happened {
    ($world:expr, $state:expr, $who:expr, $($what:tt)*) => {
        $world.happened(&mut *$state, format_args!("{}", $who), format_args!($($what)*))
    };
}
