//! Counters of failures that forget with time (GCRA, ITU-T I.371).

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether there is a place for one more attempt.
pub(super) enum Taken {
    /// Yes, and it is taken.
    Yes,
    /// Perhaps, once attempts that are under way have ended.
    Later,
    /// No, not for so long (in the unit of the counter's times).
    No(i64),
}

#[derive(Clone, Copy, Default)]
struct Counter {
    /// When all failures are forgotten.
    free_at: i64,
    /// Attempts whose outcome is open.
    open: u32,
}

/// A table of counters by a keyed hash of 128 bits, so that keys of any length take the same memory and no two are taken for
/// one.
pub(super) struct Counters {
    hashers: [RandomState; 2],
    most: usize,
    counters: Mutex<HashMap<u128, Counter>>,
}

impl Counters {
    /// For at most `most` counters.
    pub(super) fn new(most: usize) -> Self {
        Self { hashers: [RandomState::new(), RandomState::new()], most, counters: Mutex::default() }
    }

    pub(super) fn key(&self, place: &impl Hash) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(place)));
        high << 64 | low
    }

    /// Takes a place for an attempt, of `most` failures that each count for `worth`.
    pub(super) fn take(&self, key: u128, most: u32, worth: i64, now: i64) -> Taken {
        let mut counters = self.counters();
        if counters.len() >= self.most && !counters.contains_key(&key) {
            make_room(&mut counters, now);
        }
        let counter = counters.entry(key).or_default();
        let full = worth.saturating_mul(i64::from(most));
        // Later than a full count can be: the clock was set back. Nobody is locked out for that.
        if counter.free_at > now.saturating_add(full) {
            counter.free_at = now;
        }
        let failed = counter.free_at.max(now) - now;
        let then = failed.saturating_add(worth);
        if then > full {
            return Taken::No(then - full);
        }
        if then.saturating_add(worth.saturating_mul(i64::from(counter.open))) > full {
            return Taken::Later;
        }
        counter.open += 1;
        Taken::Yes
    }

    /// Ends an attempt that took a place.
    pub(super) fn end(&self, key: u128, worth: i64, now: i64, failed: bool) {
        if let Some(counter) = self.counters().get_mut(&key) {
            counter.open = counter.open.saturating_sub(1);
            if failed {
                counter.free_at = counter.free_at.max(now).saturating_add(worth);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.counters().len()
    }

    fn counters(&self) -> MutexGuard<'_, HashMap<u128, Counter>> {
        // A panic elsewhere leaves no number half written.
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops the counters whose failures are all forgotten; if these are few, also the quarter that is forgotten first.
fn make_room(counters: &mut HashMap<u128, Counter>, now: i64) {
    let before = counters.len();
    counters.retain(|_, counter| counter.open > 0 || counter.free_at > now);
    if counters.len() > before / 4 * 3 {
        let mut times: Vec<i64> = counters.values().map(|counter| counter.free_at).collect();
        let quarter = times.len() / 4;
        let (_, limit, _) = times.select_nth_unstable(quarter);
        let limit = *limit;
        counters.retain(|_, counter| counter.open > 0 || counter.free_at > limit);
    }
}
