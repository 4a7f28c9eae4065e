//! What an unknown name costs: the same requests as a known one with a wrong password, and the same time.
//!
//! A directory answers a bind as nobody sooner than it refuses a password, which it has to hash first; under load the
//! difference is larger than the time that every refusal takes at least. An entry of the operator's (`decoy_dn`) costs the
//! same hash. Without one, the bind goes to a name that does not exist, and its refusal is kept back until as much time has
//! passed as one of the last refusals of a real password took.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The login name of nobody.
pub(super) const NAME: &str = "iam-sorry-nobody";

/// How many refusals of real passwords are remembered.
const REMEMBERED: usize = 64;

/// How long the directory took to refuse real passwords lately.
#[derive(Default)]
pub(super) struct BindTimes(Mutex<Times>);

#[derive(Default)]
struct Times {
    last: VecDeque<Duration>,
    turn: usize,
}

impl BindTimes {
    pub fn refused_after(&self, took: Duration) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if times.last.len() == REMEMBERED {
            times.last.pop_front();
        }
        times.last.push_back(took);
    }

    /// One of them, each in its turn, so that refusals of unknown names spread over time as the others do.
    pub fn one(&self) -> Duration {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.turn = times.turn.wrapping_add(1);
        let place = times.turn % times.last.len().max(1);
        times.last.get(place).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_last_refusals_has_its_turn() {
        let times = BindTimes::default();
        assert_eq!(times.one(), Duration::ZERO);
        (0..100).for_each(|n| times.refused_after(Duration::from_millis(n)));
        let mut seen: Vec<_> = (0..REMEMBERED).map(|_| times.one()).collect();
        seen.sort();
        assert_eq!(seen, (36..100).map(Duration::from_millis).collect::<Vec<_>>());
    }
}
