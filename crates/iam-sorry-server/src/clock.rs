//! The time, which tests may set.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use iam_sorry_core::timestamp::Timestamp;

/// Tells the time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// This machine's.
    pub fn system() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }

    /// One that tells milliseconds since 1970 as the function does.
    pub fn new(now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        (self.0)()
    }

    /// Whole seconds.
    pub fn now(&self) -> Timestamp {
        timestamp(self.now_ms())
    }
}

/// Milliseconds since 1970 as a time of whole seconds; 1970 where it is outside the calendar.
pub(crate) fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_unix(ms.div_euclid(1000)).unwrap_or(Timestamp::EPOCH)
}

/// As answers show it: RFC 3339.
pub(crate) fn rfc3339(ms: i64) -> String {
    timestamp(ms).to_string()
}
