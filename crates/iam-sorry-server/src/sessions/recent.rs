//! Sessions that were looked up just now: every request asks for one. A session that ends is gone from here at once, and from
//! another instance's within two seconds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iam_sorry_store::Session;
use tokio::time::Instant;

/// How long a session that was looked up may be used without looking again.
const KEPT: Duration = Duration::from_secs(2);
/// How many are kept; beyond that all are looked up anew.
pub(crate) const MOST_KEPT: usize = 10_000;
/// Sessions that were looked up just now.
#[derive(Default)]
pub(crate) struct Recent {
    kept: Mutex<HashMap<[u8; 32], (Session, Instant)>>,
    /// Goes up whenever a session ends: what was read before may be one of them.
    ended: AtomicU64,
}

impl Recent {
    pub(super) fn find(&self, token_hash: &[u8; 32]) -> Option<Session> {
        let kept = self.kept();
        kept.get(token_hash).filter(|(_, read)| read.elapsed() < KEPT).map(|(session, _)| session.clone())
    }

    pub(super) fn generation(&self) -> u64 {
        self.ended.load(Ordering::SeqCst)
    }

    /// Keeps what was read since the generation, if none has ended meanwhile.
    pub(super) fn keep(&self, session: &Session, read: Instant, generation: u64) {
        let mut kept = self.kept();
        if self.generation() != generation {
            return;
        }
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(session.token_hash, (session.clone(), read));
    }

    pub(crate) fn forget(&self) {
        let mut kept = self.kept();
        self.ended.fetch_add(1, Ordering::SeqCst);
        kept.clear();
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<[u8; 32], (Session, Instant)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
