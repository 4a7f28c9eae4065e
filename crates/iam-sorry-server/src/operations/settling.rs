//! What this instance remembers of operations that are left open: when to try again, and the keys whose ids could not be
//! written down.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use iam_sorry_core::ids::UserRef;
use iam_sorry_store::Operation;
use tokio::time::Instant;

/// The longest pause between two attempts at the same operation.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What this instance has tried to settle, and what it knows of it besides.
#[derive(Default)]
pub(crate) struct Settling {
    attempts: Mutex<HashMap<String, Attempt>>,
    /// Keys that workers made and could not write down, by their operations.
    keys: Mutex<BTreeMap<String, MadeKey>>,
    /// How many keys nobody accounts for, as it was known last.
    pub unaccounted: AtomicUsize,
}

#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    pub first_seen: Instant,
    /// When the last change was sent to settle it whose answer never came.
    pub unanswered: Option<Instant>,
    not_before: Instant,
    pause: Duration,
}

#[derive(Clone)]
pub(crate) struct MadeKey {
    pub user: UserRef,
    pub id: String,
    /// The trail says that it is being taken back.
    pub recorded: bool,
}

impl Settling {
    /// The attempt that is due now, if one is.
    pub fn turn(&self, id: &str) -> Option<Attempt> {
        let mut all = self.all();
        let now = Instant::now();
        let first =
            Attempt { first_seen: now, unanswered: None, not_before: now, pause: Duration::from_secs(1) };
        let attempt = *all.entry(id.to_owned()).or_insert(first);
        (attempt.not_before <= now).then_some(attempt)
    }

    /// An attempt has sent a change then whose answer never came.
    pub fn sent_in_vain(&self, id: &str, at: Instant) {
        if let Some(attempt) = self.all().get_mut(id) {
            attempt.unanswered = attempt.unanswered.max(Some(at));
        }
    }

    pub fn again(&self, id: &str, after: Duration) {
        if let Some(attempt) = self.all().get_mut(id) {
            attempt.not_before = Instant::now() + after;
        }
    }

    pub fn later(&self, id: &str) {
        if let Some(attempt) = self.all().get_mut(id) {
            attempt.not_before = Instant::now() + attempt.pause;
            attempt.pause = (attempt.pause * 2).min(
                iam_sorry_core::planted!("pauses-without-bound": Duration::from_secs(600), LONGEST_PAUSE),
            );
        }
    }

    pub fn forget(&self, id: &str) {
        self.all().remove(id);
        self.keys().remove(id);
    }

    pub fn forget_all_but(&self, open: &[Operation]) {
        self.all().retain(|id, _| open.iter().any(|operation| operation.new.id == *id));
        iam_sorry_core::planted!("made-key-forgotten": self.keys().retain(|id, _| open.iter().any(|it| it.new.id == *id)));
    }

    /// A worker made a key and can't write its id down: for the next claim, should this process live so long.
    pub fn hand_over(&self, operation: &str, user: &UserRef, id: &str) {
        self.remember_key(operation, MadeKey { user: user.clone(), id: id.to_owned(), recorded: false });
    }

    pub fn remember_key(&self, operation: &str, key: MadeKey) {
        self.keys().insert(operation.to_owned(), key);
    }

    pub fn remembered_key(&self, operation: &str) -> Option<MadeKey> {
        self.keys().get(operation).cloned()
    }

    pub fn remembered_keys(&self) -> Vec<(String, MadeKey)> {
        self.keys().iter().map(|(operation, key)| (operation.clone(), key.clone())).collect()
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, MadeKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
