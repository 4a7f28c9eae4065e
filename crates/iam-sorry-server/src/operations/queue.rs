//! Who is next: requests for the same IAM user take turns, so that they wait for each other instead of failing (the store
//! decides in the end; this spares it the attempts), and so do one person's queries of the audit trail.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// How long somebody waits for a turn on a user.
const PATIENCE: Duration = Duration::from_secs(20);

/// From how many on names that nobody waits for are swept out.
const SWEEP_AT: usize = 1024;

#[derive(Default)]
pub(crate) struct Queues(Mutex<HashMap<String, Weak<AsyncMutex<()>>>>);

/// Held while the work on the user lasts.
pub(crate) struct Turn(#[expect(dead_code, reason = "held for its drop")] OwnedMutexGuard<()>);

impl Queues {
    /// `None` if it took too long.
    pub async fn turn(&self, resource: &str) -> Option<Turn> {
        self.turn_within(resource, PATIENCE).await
    }

    /// The same with another patience.
    pub async fn turn_within(&self, resource: &str, patience: Duration) -> Option<Turn> {
        let queue = {
            let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if queues.len() >= SWEEP_AT {
                queues.retain(|_, queue| queue.strong_count() > 0);
            }
            match queues.get(resource).and_then(Weak::upgrade) {
                Some(queue) => queue,
                None => {
                    let queue = Arc::new(AsyncMutex::new(()));
                    queues.insert(resource.to_owned(), Arc::downgrade(&queue));
                    queue
                }
            }
        };
        tokio::time::timeout(patience, queue.lock_owned()).await.ok().map(Turn)
    }
}
