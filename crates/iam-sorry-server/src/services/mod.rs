//! What the service does, for any face: nothing here knows HTTP, and nobody else decides and acts.
//!
//! Every action goes the same way ([`operation`]): decide by the rules, write the intent, act, write the outcome.
//! [`lifecycle`] keeps an instance allowed to act, [`reconcile`] finishes or takes back what a dead one left.

mod refusal;
pub mod rules;
mod seam;
mod sessions;
mod sign_in;

use std::net::IpAddr;
use std::sync::Arc;

use iam_sorry_core::api::Done;
use iam_sorry_core::identity::Identity;

pub use refusal::Refusal;
pub use sessions::form_secret;
pub use sign_in::NewSession;

/// Where a request came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's address (behind a trusted proxy: what the proxy says).
    pub address: IpAddr,
    /// The request's id.
    pub request_id: String,
}

/// A signed-in person with a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub identity: Identity,
    /// Their session.
    pub session: iam_sorry_store::Session,
    /// Where from.
    pub origin: Origin,
}

/// The service: cheap to clone, shared by all faces.
#[derive(Clone)]
pub struct Service {
    #[expect(dead_code, reason = "being built")]
    inner: Arc<()>,
}

/// What makes a request safe to send again (`Idempotency-Key`): 8 to 64 letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// # Errors
    /// A [`Refusal`] (bad-request) that says what the form is.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if (8..=64).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(Refusal::new(
            iam_sorry_core::api::ProblemCode::BadRequest,
            "The Idempotency-Key can't be used: 8 to 64 letters, digits, - and _ are allowed.",
        ))
    }

    /// As it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The answer to a request for something secret.
#[derive(Clone, Debug)]
pub enum Given<T> {
    /// Made, and shown this once.
    New(T),
    /// A dry run: nothing was made.
    DryRun(Done),
}
