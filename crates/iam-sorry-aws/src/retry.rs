//! How long AWS is waited for and how a request is repeated, for both programs; and how a person says stop.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

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

    /// Says stop; from any thread, any number of times.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Whether somebody has said stop.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once somebody says stop.
    pub async fn cancelled(&self) {
        // The sender lives in self, so the channel can't close before the wait ends.
        let _ = self.0.subscribe().wait_for(|stop| *stop).await;
    }

    /// The work, unless somebody says stop before it is done: for requests that leave nothing behind.
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

    /// Sleeps; `false` if the wish to stop cut it short.
    pub(crate) async fn sleep(&self, time: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.cancelled() => false,
            () = tokio::time::sleep(time) => true,
        }
    }
}

/// For how long a request is repeated whose answer may still change. What comes before its end is waited for; what does not is
/// an error, and left to the journal.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Until a new access key, or a new user, is known everywhere in AWS (60 s).
    pub new_key: Duration,
    /// For DeleteAccessKey to succeed, over all tries (45 s).
    pub delete: Duration,
    /// After a lost answer, until the request can't have any effect any more and IAM lists what exists (10 s).
    pub settle: Duration,
    /// Between the first try and the second (250 ms); each later pause is twice as long as the one before.
    pub first_pause: Duration,
    /// The longest pause (4 s).
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            new_key: Duration::from_secs(60),
            delete: Duration::from_secs(45),
            settle: Duration::from_secs(10),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(4),
        }
    }
}

impl RetryPolicy {
    /// Tries that follow one another for at most `limit`.
    pub(crate) fn tries(&self, limit: Duration) -> Tries {
        Tries { began: Instant::now(), limit, next: self.first_pause, longest: self.longest_pause }
    }

    /// Repeats the request while `again` says that its answer may change, for at most `limit`; `waiting` hears of every
    /// pause, and why there is one. The wish to stop ends a pause, and never interrupts a request.
    ///
    /// # Errors
    /// The request's last error; [`AwsError::Interrupted`].
    pub(crate) async fn repeat<T, F>(
        &self,
        limit: Duration,
        cancel: Option<&Cancel>,
        again: impl Fn(&AwsError) -> bool,
        waiting: impl Fn(&AwsError, Duration),
        request: impl Fn() -> F,
    ) -> Result<T, AwsError>
    where
        F: Future<Output = Result<T, AwsError>>,
    {
        let mut tries = self.tries(limit);
        loop {
            let error = match request().await {
                Err(error) if again(&error) => error,
                answer => return answer,
            };
            let waited = tries.elapsed();
            let Some(pause) = tries.pause() else { return Err(error) };
            waiting(&error, waited);
            match cancel {
                Some(cancel) if !cancel.sleep(pause).await => return Err(AwsError::Interrupted),
                Some(_) => {}
                None => tokio::time::sleep(pause).await,
            }
        }
    }
}

/// The tries of one request, and the pauses between them.
pub(crate) struct Tries {
    began: Instant,
    limit: Duration,
    next: Duration,
    longest: Duration,
}

impl Tries {
    /// How long to wait before the next try; `None` once the time is over.
    pub fn pause(&mut self) -> Option<Duration> {
        let left = self.limit.checked_sub(self.began.elapsed()).filter(|left| !left.is_zero())?;
        let pause = self.next.min(left);
        self.next = (self.next * 2).min(self.longest);
        Some(pause)
    }

    /// Time since the first try.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    fn hasty() -> RetryPolicy {
        let ms = Duration::from_millis;
        RetryPolicy { delete: ms(30), first_pause: ms(1), longest_pause: ms(4), ..RetryPolicy::default() }
    }

    fn failing(tries: &Cell<u32>) -> impl Future<Output = Result<(), AwsError>> {
        tries.set(tries.get() + 1);
        std::future::ready(Err(AwsError::Settings("no".into())))
    }

    #[test]
    fn pauses_grow_up_to_the_longest_and_end_with_the_time() {
        let mut tries = hasty().tries(Duration::from_secs(3600));
        let pauses: Vec<u128> = (0..5).filter_map(|_| tries.pause()).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [1, 2, 4, 4, 4]);
        assert_eq!(hasty().tries(Duration::ZERO).pause(), None);
        let last = hasty().tries(Duration::from_micros(500)).pause();
        assert!(last.is_none_or(|pause| pause <= Duration::from_micros(500)), "{last:?}");
    }

    #[test]
    fn what_may_change_is_tried_until_the_time_is_over() {
        let (tries, heard) = (Cell::new(0), Cell::new(0));
        let (policy, began) = (hasty(), Instant::now());
        let waiting = |_: &AwsError, _| heard.set(heard.get() + 1);
        run(policy.repeat(policy.delete, None, |_| true, waiting, || failing(&tries))).unwrap_err();
        assert!(began.elapsed() >= policy.delete);
        assert!(tries.get() > 2 && heard.get() + 1 == tries.get(), "{} {}", tries.get(), heard.get());
    }

    #[test]
    fn what_will_not_change_is_tried_once() {
        let tries = Cell::new(0);
        let policy = hasty();
        run(policy.repeat(policy.delete, None, |_| false, |_, _| {}, || failing(&tries))).unwrap_err();
        assert_eq!(tries.get(), 1);
    }

    #[test]
    fn the_wish_to_stop_ends_a_pause() {
        let (tries, cancel) = (Cell::new(0), Cancel::new());
        let policy = RetryPolicy::default();
        let waiting = |_: &AwsError, _| cancel.cancel();
        let error = run(policy.repeat(policy.delete, Some(&cancel), |_| true, waiting, || failing(&tries)));
        assert!(matches!(error, Err(AwsError::Interrupted)), "{error:?}");
        assert_eq!(tries.get(), 1);
    }
}
