//! AWS and the directory, as this instance sees them: looked at in the background, so that `/readyz` and the metrics know how
//! they are without a request, and a flood of probes is none for them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How often a neighbour that answers is looked at.
const EVERY: Duration = Duration::from_secs(15);
/// How soon one that did not answer is looked at again.
const AGAIN: Duration = Duration::from_secs(3);
/// One that takes longer has not answered.
const PATIENCE: Duration = Duration::from_secs(10);
/// One failure may be a lost packet; so many in a row are an outage.
const FAILURES: u32 = 2;

/// How a neighbour is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// `aws` or `directory`; `directory NAME` if there are several.
    pub name: String,
    /// How it is, or what is wrong with it: no address, no secret.
    pub state: Result<String, String>,
}

/// All of them; empty until they are watched.
#[derive(Debug, Default)]
pub(crate) struct Neighbours(OnceLock<Vec<Arc<Watched>>>);

impl Neighbours {
    /// From now on these are watched; once.
    pub fn set(&self, watched: Vec<Arc<Watched>>) {
        let _ = self.0.set(watched);
    }

    /// How they are.
    pub fn states(&self) -> Vec<Neighbour> {
        self.0.get().into_iter().flatten().map(|watched| watched.state()).collect()
    }
}

/// One that is watched.
#[derive(Debug)]
pub(crate) struct Watched {
    name: String,
    seen: Mutex<Seen>,
}

/// What the last looks showed.
#[derive(Debug, Default)]
struct Seen {
    answered: bool,
    failures: u32,
    /// When the failures began, and what the last one was.
    trouble: Option<(Instant, String)>,
}

impl Watched {
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), seen: Mutex::default() })
    }

    /// Keeps what a look showed; says how long to wait for the next.
    fn note(&self, result: Result<(), String>) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                if seen.failures >= FAILURES {
                    tracing::info!(neighbour = self.name, "it answers again");
                }
                *seen = Seen { answered: true, ..Seen::default() };
                EVERY
            }
            Err(what) => {
                seen.failures += 1;
                if seen.failures == FAILURES {
                    tracing::error!(neighbour = self.name, what, "it does not answer as it should");
                }
                let since = seen.trouble.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                seen.trouble = Some((since, what));
                AGAIN
            }
        }
    }

    fn state(&self) -> Neighbour {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match &seen.trouble {
            Some((since, what)) if seen.failures >= FAILURES => {
                Err(format!("{what}, for {} s", since.elapsed().as_secs()))
            }
            _ if seen.answered => Ok("answers".to_owned()),
            _ => Ok("not looked at yet".to_owned()),
        };
        Neighbour { name: self.name.clone(), state }
    }

    /// Looks again and again.
    pub async fn watch<F: Future<Output = Result<(), String>>>(self: Arc<Self>, look: impl Fn() -> F) {
        loop {
            let result = timeout(PATIENCE, look()).await;
            let result = result.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
            sleep(self.note(result)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_no_outage_two_are_and_one_answer_ends_it() {
        let watched = Watched::new("aws");
        let state = || watched.state().state;
        assert_eq!(state(), Ok("not looked at yet".into()));
        assert_eq!(watched.note(Ok(())), EVERY);
        assert_eq!(watched.note(Err("AWS can't be reached".into())), AGAIN);
        assert_eq!(state(), Ok("answers".into()));
        assert_eq!(watched.note(Err("AWS can't be reached".into())), AGAIN);
        assert!(state().unwrap_err().starts_with("AWS can't be reached, for "));
        watched.note(Ok(()));
        assert_eq!(state(), Ok("answers".into()));
    }
}
