//! AWS and the directory, as this instance sees them: looked at in the background, so that `/readyz` and the metrics know how
//! they are without asking, and a flood of probes is none for them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use iam_sorry_aws::{AwsError, lookup};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::login::ldap::Directory;
use crate::runtime;
use crate::service::Service;

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

/// All of them; empty until [`Service::watch_neighbours`].
#[derive(Debug, Default)]
pub(crate) struct Neighbours(OnceLock<Vec<Arc<Watched>>>);

#[derive(Debug)]
struct Watched {
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
    fn new(name: &str) -> Arc<Self> {
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

    async fn watch<F: Future<Output = Result<(), String>>>(self: Arc<Self>, look: impl Fn() -> F) {
        loop {
            let result = timeout(PATIENCE, look()).await;
            let result = result.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
            sleep(self.note(result)).await;
        }
    }
}

/// The tasks that look; they end when this is dropped.
#[derive(Debug)]
pub struct Watching(Vec<JoinHandle<()>>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Service {
    /// Starts to look at AWS and the directory. Once for each service.
    pub fn watch_neighbours(&self) -> Watching {
        let mut all = vec![Watched::new("aws")];
        let service = self.clone();
        let mut tasks = vec![runtime::spawn(Arc::clone(&all[0]).watch(move || {
            let service = service.clone();
            async move { service.look_at_aws().await }
        }))];
        let directories = self.sign_in().methods().directories();
        for directory in directories {
            let watched = match directories.len() {
                1 => Watched::new("directory"),
                _ => Watched::new(&format!("directory {}", directory.issuer())),
            };
            all.push(Arc::clone(&watched));
            let directory = Arc::clone(directory);
            tasks.push(runtime::spawn(watched.watch(move || look_at(Arc::clone(&directory)))));
        }
        let _ = self.inner.neighbours.0.set(all);
        Watching(tasks)
    }

    /// How AWS and the directory are.
    pub fn neighbours(&self) -> Vec<Neighbour> {
        self.inner.neighbours.0.get().into_iter().flatten().map(|watched| watched.state()).collect()
    }

    /// sts:GetCallerIdentity, which everybody may call whose credentials are good (STS API reference).
    async fn look_at_aws(&self) -> Result<(), String> {
        let handle = self.handle().await.map_err(|_| "the service has no AWS credentials".to_owned())?;
        match lookup::caller(&handle.aws, &handle.credentials).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "AWS");
                Err(match error {
                    AwsError::Throttled { .. } => return Ok(()),
                    AwsError::Unreachable { .. } | AwsError::Interrupted => "AWS can't be reached",
                    AwsError::ClockSkew { .. } => "AWS refuses the service: its clock is wrong",
                    AwsError::InvalidKey { .. } | AwsError::Refused { .. } => {
                        "AWS refuses the service's credentials"
                    }
                    _ => "AWS answers with something unexpected",
                }
                .to_owned())
            }
        }
    }
}

async fn look_at(directory: Arc<Directory>) -> Result<(), String> {
    directory.try_out().await.map_err(|error| {
        tracing::warn!(%error, "the directory");
        "the directory does not answer as it should; the log says why".to_owned()
    })
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
