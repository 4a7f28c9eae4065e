//! A circuit breaker (Nygard, "Release It!"): after some requests in a row without an answer nothing is sent to the directory
//! for a while, and everybody is answered at once. Then one request probes; the others are still answered at once. A
//! directory that refuses connections says so at once, and is asked every time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::failure::Failure;

/// Requests in a row without an answer after which it opens.
const OPENS_AFTER: u32 = 3;
/// How long it stays open at first; twice as long after each probe that fails, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    failures: u32,
    /// Until when nothing is sent.
    open_until: Option<Instant>,
    stays_open: Duration,
    probing: bool,
    /// What was wrong with the last request.
    problem: Option<String>,
}

/// The permission to send one request; what came of it goes back by [`Pass::settle`].
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    /// # Errors
    /// [`Failure::Connection`] at once while it is open.
    pub fn admit(&self, now: Instant) -> Result<Pass<'_>, Failure> {
        let mut state = self.state();
        let Some(until) = state.open_until else { return Ok(Pass { breaker: self, probe: false }) };
        if state.probing || now < until {
            let last = state.problem.as_deref().unwrap_or_default();
            return Err(Failure::Connection(format!("it does not answer; the last attempt: {last}")));
        }
        state.probing = true;
        Ok(Pass { breaker: self, probe: true })
    }

    /// Why the last request was not answered, if so.
    pub fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Says what came of the request. An answer of any kind is a sign of life.
    pub fn settle<T>(self, result: &Result<T, Failure>, now: Instant) {
        let mut state = self.breaker.state();
        let what = match result {
            Err(Failure::Hangs(what)) => what,
            // Nobody waited for it.
            Err(Failure::Connection(what)) => {
                *state = State { problem: Some(what.clone()), ..State::default() };
                return;
            }
            _ => {
                if state.problem.is_some() {
                    tracing::info!("the directory answers again");
                }
                *state = State::default();
                return;
            }
        };
        state.failures = state.failures.saturating_add(1);
        state.problem = Some(what.clone());
        if self.probe || state.failures == OPENS_AFTER {
            state.stays_open = match state.stays_open {
                Duration::ZERO => SHORTEST,
                before => (before * 2).min(LONGEST),
            };
            state.open_until = Some(now + state.stays_open);
            tracing::warn!(
                failures = state.failures,
                seconds = state.stays_open.as_secs(),
                last = what,
                "the directory does not answer; it is left alone for a while"
            );
        }
    }
}

impl Drop for Pass<'_> {
    /// Also if nobody waited for what comes of it: the next one probes.
    fn drop(&mut self) {
        if self.probe {
            self.breaker.state().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Result<(), Failure> {
        Err(Failure::Hangs("no answer".into()))
    }

    fn open(breaker: &Breaker, now: Instant) {
        for _ in 0..OPENS_AFTER {
            breaker.admit(now).unwrap().settle(&failed(), now);
        }
    }

    #[test]
    fn it_opens_probes_by_one_and_closes() {
        let (breaker, begin) = (Breaker::default(), Instant::now());
        breaker.admit(begin).unwrap().settle(&failed(), begin);
        breaker.admit(begin).unwrap().settle(&failed(), begin);
        breaker.admit(begin).unwrap().settle(&Ok(()), begin);
        open(&breaker, begin);
        assert!(breaker.admit(begin).is_err() && breaker.problem().is_some());
        let now = begin + SHORTEST;
        let probe = breaker.admit(now).unwrap();
        assert!(breaker.admit(now).is_err(), "one probes");
        probe.settle(&failed(), now);
        assert!(breaker.admit(now + SHORTEST).is_err(), "twice as long");
        let now = now + SHORTEST * 2;
        breaker.admit(now).unwrap().settle(&Ok(()), now);
        assert!(breaker.admit(now).is_ok() && breaker.problem().is_none());
    }

    #[test]
    fn a_probe_that_nobody_waits_for_leaves_room_for_the_next() {
        let (breaker, begin) = (Breaker::default(), Instant::now());
        open(&breaker, begin);
        drop(breaker.admit(begin + SHORTEST).unwrap());
        assert!(breaker.admit(begin + SHORTEST).is_ok());
    }

    #[test]
    fn a_refusal_is_a_sign_of_life() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..100 {
            breaker.admit(now).unwrap().settle::<()>(&Err(Failure::Answer("no".into())), now);
            breaker.admit(now).unwrap().settle::<()>(&Err(Failure::TooMany), now);
        }
        assert!(breaker.problem().is_none());
    }

    #[test]
    fn a_refused_connection_is_known_at_once() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..100 {
            breaker.admit(now).unwrap().settle::<()>(&Err(Failure::Connection("refused".into())), now);
        }
        assert_eq!(breaker.problem().as_deref(), Some("refused"));
    }
}
