//! One run of a piece of work for everybody who wants its result at the same time. It runs in a task of its own, so nobody
//! holds a lock while it waits for another machine, and who gives up waiting does not stop it for the others.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// The work under way, if any.
pub(crate) struct Singleflight<T>(Mutex<Option<watch::Receiver<Option<T>>>>);

impl<T> Default for Singleflight<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone + Send + Sync + 'static> Singleflight<T> {
    /// Joins the run that is under way, or starts one. None if it ended without a result, by a panic.
    pub async fn run<F>(&self, work: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut result = self.join(work);
        let done = result.wait_for(Option::is_some).await.ok()?;
        done.clone()
    }

    fn join<F>(&self, work: impl FnOnce() -> F) -> watch::Receiver<Option<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut flight = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = flight.as_ref()
            && running.has_changed().is_ok()
            && running.borrow().is_none()
        {
            return running.clone();
        }
        let (sender, receiver) = watch::channel(None);
        let work = work();
        tokio::spawn(async move {
            let result = work.await;
            let _ = sender.send(Some(result));
        });
        *flight = Some(receiver.clone());
        receiver
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn whoever_comes_meanwhile_gets_the_same_result() {
        let (flight, runs, go) =
            (Singleflight::default(), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let work = || {
            let (runs, go) = (runs.clone(), go.clone());
            async move {
                let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
                go.notified().await;
                run
            }
        };
        let all = futures_util::future::join_all((0..20).map(|_| flight.run(work)));
        let release = async {
            tokio::task::yield_now().await;
            go.notify_one();
        };
        assert_eq!(tokio::join!(all, release).0, vec![Some(1); 20]);
        go.notify_one();
        assert_eq!(flight.run(work).await, Some(2), "what has ended is not waited for");
    }

    #[tokio::test]
    async fn a_panic_leaves_nobody_waiting() {
        let flight: Singleflight<u8> = Singleflight::default();
        assert_eq!(flight.run(|| async { panic!("on purpose") }).await, None);
        assert_eq!(flight.run(|| async { 1 }).await, Some(1));
    }
}
