//! The one error that leaves the services: a fixed code, a text for the person, and the rules that decided.

use iam_sorry_core::api::ProblemCode;
use iam_sorry_core::names::InvalidName;

/// Why something was not done. `detail` is what the person reads: what happened and what to do next, never a secret and
/// never the text of an internal error (that goes to the log under the request's id).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ServiceError {
    /// The fixed public code.
    pub code: ProblemCode,
    /// For the person.
    pub detail: String,
    /// The rules or guardrails that decided.
    pub reasons: Vec<String>,
    /// Seconds after which it may work.
    pub retry_after: Option<u32>,
}

impl ServiceError {
    /// Without reasons.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), reasons: Vec::new(), retry_after: None }
    }

    /// A name that is not of its form.
    pub(crate) fn invalid_name(error: InvalidName) -> Self {
        Self::new(ProblemCode::InvalidName, error.0)
    }

    /// The database is not the one that was signed.
    pub(crate) fn contradicted() -> Self {
        Self::new(
            ProblemCode::AuditUnavailable,
            "Nothing is done: the service's database is not the one that it was, as after an old copy was restored.\nReport this to its \
             operator: /readyz and the log say what is wrong. Reading still works, except for the audit trail.",
        )
    }

    /// As [`From`], without a line in the log.
    pub(crate) fn of_store(error: iam_sorry_store::StoreError) -> Self {
        use iam_sorry_store::StoreError;
        let again = |code, detail: &str| Self { retry_after: Some(10), ..Self::new(code, detail) };
        let unwritten = |why: &str| {
            again(
                ProblemCode::AuditUnavailable,
                &format!(
                    "The service can't write down what it does, because {why}; so nothing was done.\nReport this to its \
                     operator."
                ),
            )
        };
        match error {
            StoreError::Full(_) => unwritten("its disk is full"),
            StoreError::Unwritable(_) => unwritten("its disk can't be written"),
            StoreError::ReadOnly(_) => unwritten("its database is read-only"),
            StoreError::Denied(_) => again(
                ProblemCode::StoreUnavailable,
                "The service's database refuses it, so nothing was done.\nReport this to its operator; the log says why.",
            ),
            StoreError::Contradicted(_) => Self::contradicted(),
            StoreError::Unavailable(_) | StoreError::Taken(_) | StoreError::Fenced(_) => again(
                ProblemCode::StoreUnavailable,
                "The service's database can't be reached, so nothing was done.\nTry again in a few seconds.",
            ),
            StoreError::OutcomeUnknown(_) => again(
                ProblemCode::StoreUnavailable,
                "The service's database did not say whether it has written this, so it may be done or not.\nLook, or try again in a few \
                 seconds.",
            ),
            StoreError::TooSlow => Self::new(
                ProblemCode::QueryTooBroad,
                "The query took too long and was stopped: too many records had to be looked at.\nNarrow it: give a time range \
                 (from, to), or another filter.",
            ),
            StoreError::Crowded => Self {
                retry_after: Some(5),
                ..Self::new(
                    ProblemCode::TooManyRequests,
                    "Many people are reading the audit trail at the moment.\nTry again in a few seconds.",
                )
            },
            StoreError::BadCursor => Self::new(ProblemCode::BadRequest, StoreError::BadCursor.to_string()),
            StoreError::TooMany(text) => Self::new(ProblemCode::TooManyRequests, text),
            _ => Self::new(
                ProblemCode::Internal,
                "The service's database holds something unexpected.\nTell its operator; the log says what.",
            ),
        }
    }
}

impl From<iam_sorry_store::StoreError> for ServiceError {
    /// The store's own words go to the log.
    fn from(error: iam_sorry_store::StoreError) -> Self {
        use iam_sorry_store::StoreError as E;
        // A contradiction is logged once, by who finds it.
        if !matches!(error, E::BadCursor | E::TooMany(_) | E::TooSlow | E::Crowded | E::Contradicted(_)) {
            tracing::error!(%error, "store");
        }
        Self::of_store(error)
    }
}
