//! Waiting: how long to be patient, and how a person says stop.

use std::time::Duration;

use tokio::sync::watch;

use crate::errors::AwsError;

/// The wish to stop (Ctrl-C), shared by clones. Work that has made a key still deletes it.
#[derive(Clone, Debug)]
pub struct Cancel(watch::Sender<bool>);

impl Default for Cancel {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Cancel {
    /// Nobody wants to stop yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop; from any thread, any number of times.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once somebody asks to stop.
    pub async fn cancelled(&self) {
        // The sender lives in self, so the channel can't close before the wait ends.
        let _ = self.0.subscribe().wait_for(|stop| *stop).await;
    }

    /// The work, unless somebody asks to stop before it is done: for requests that leave nothing to be taken back.
    ///
    /// # Errors
    /// [`AwsError::Interrupted`], or the work's own.
    pub async fn unless<T>(&self, work: impl Future<Output = Result<T, AwsError>>) -> Result<T, AwsError> {
        tokio::select! {
            biased;
            () = self.cancelled() => Err(AwsError::Interrupted),
            result = work => result,
        }
    }

    /// Sleeps; `false` where the wish to stop cut it short.
    pub(crate) async fn sleep(&self, time: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.cancelled() => false,
            () = tokio::time::sleep(time) => true,
        }
    }
}

/// How long to wait for what AWS needs time for.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// For a new access key to become valid (60 s).
    pub new_key: Duration,
    /// For DeleteAccessKey to succeed, over all tries (45 s).
    pub delete: Duration,
    /// After a lost answer, until a request that is still under way can't create its key any more and IAM lists what
    /// exists (10 s).
    pub settle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            new_key: Duration::from_secs(60),
            delete: Duration::from_secs(45),
            settle: Duration::from_secs(10),
        }
    }
}

/// Delays that double from `first` up to `most`.
pub(crate) struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    pub fn delay(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.most);
        now
    }
}
