//! `/healthz` (the process answers) and `/readyz` (it can do its work, and if not, what is missing). Both are open to
//! everybody who reaches the service: names of parts and one short sentence each, nothing else.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::{BoxFuture, join_all};
use http::StatusCode;
use serde::Serialize;
use tokio::sync::Mutex;

/// A part that does not answer for so long is not ready.
const PATIENCE: Duration = Duration::from_secs(3);
/// Asking more often gets the same answer: a flood of probes must not become one of queries.
const KEPT: Duration = Duration::from_secs(1);

/// Asks one part: how it is, or what is wrong with it. Never a path, an address or a secret.
pub type Check = Box<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// The parts that must be there for the service to do its work.
#[derive(Default)]
pub struct Health {
    checks: Vec<(String, Check)>,
    last: Mutex<Option<(Instant, Readiness)>>,
}

/// What `/readyz` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether everything is.
    pub ready: bool,
    /// Part by part.
    pub checks: Vec<CheckResult>,
}

/// How a part is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// Such as `database`.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// In words.
    pub detail: String,
}

impl Health {
    /// One more part.
    #[must_use]
    pub fn with<F>(mut self, name: impl Into<String>, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, String>> + Send + 'static,
    {
        self.checks.push((name.into(), Box::new(move || Box::pin(check()))));
        self
    }

    /// Asks all parts at once.
    pub async fn readiness(&self) -> Readiness {
        let mut last = self.last.lock().await;
        if let Some((asked, readiness)) = last.as_ref().filter(|(asked, _)| asked.elapsed() < KEPT) {
            let _ = asked;
            return readiness.clone();
        }
        let checks = join_all(self.checks.iter().map(|(name, check)| async {
            let result = tokio::time::timeout(PATIENCE, check()).await;
            let (ready, detail) = match result {
                Ok(Ok(detail)) => (true, detail),
                Ok(Err(detail)) => (false, detail),
                Err(_) => (false, format!("no answer within {} s", PATIENCE.as_secs())),
            };
            CheckResult { name: name.clone(), ready, detail }
        }))
        .await;
        let readiness = Readiness { ready: checks.iter().all(|check| check.ready), checks };
        *last = Some((Instant::now(), readiness.clone()));
        readiness
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.checks.iter().map(|(name, _)| name)).finish()
    }
}

/// `/healthz` and `/readyz`.
pub fn router(health: Arc<Health>) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health)
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    let readiness = health.readiness().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_part_that_hangs_or_fails_is_named_and_the_others_answer() {
        let health = Health::default()
            .with("database", || async { Ok("reachable".to_owned()) })
            .with("rules", || async { Err("the last change was refused".to_owned()) });
        let readiness = health.readiness().await;
        assert!(!readiness.ready);
        let of = |name| readiness.checks.iter().find(|check| check.name == name).unwrap();
        assert!(of("database").ready && !of("rules").ready);
        assert_eq!(health.readiness().await, readiness, "the same for a second");
    }
}
