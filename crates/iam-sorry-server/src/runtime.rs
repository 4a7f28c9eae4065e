//! What the service has from the world besides its database, AWS and a clock: tasks, threads for work that blocks, and
//! randomness. One place, so that a simulator can decide when each task goes on, and make every run repeatable.

use aws_lc_rs::error::Unspecified;
use tokio::task::JoinHandle;

/// Starts a task.
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[cfg(feature = "simulation")]
    if let Some(host) = crate::simulation::current() {
        return tokio::spawn(crate::simulation::On::new(host, work));
    }
    tokio::spawn(work)
}

/// Runs work that blocks, such as on a disk, on a thread of its own. An error: it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<T> {
    #[cfg(feature = "simulation")]
    if crate::simulation::current().is_some() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
}

/// Fills the bytes with random ones.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), Unspecified> {
    #[cfg(feature = "simulation")]
    if crate::simulation::fill_random(bytes) {
        return Ok(());
    }
    aws_lc_rs::rand::fill(bytes)
}
