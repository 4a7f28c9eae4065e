//! Which old keys are left alone for a while, because they could not be retired when their time was over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Old keys that are not tried again before a moment.
#[derive(Default)]
pub(crate) struct Retiring(Mutex<HashMap<String, Instant>>);

impl Retiring {
    pub fn is_due(&self, old: &str) -> bool {
        let mut all = self.all();
        all.retain(|_, at| *at > Instant::now());
        !all.contains_key(old)
    }

    pub fn pause(&self, old: String, time: Duration) {
        self.all().insert(old, Instant::now() + time);
    }

    pub fn forget(&self, old: &str) {
        self.all().remove(old);
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
