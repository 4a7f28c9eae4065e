//! The client's name for a request, so that it has one effect however often it is sent.

use crate::error::ServiceError;

/// What makes a request safe to send again (`Idempotency-Key`): 8 to 64 letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// # Errors
    /// A [`ServiceError`] (bad-request) that says what the form is.
    pub fn parse(text: &str) -> Result<Self, ServiceError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if (8..=64).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(ServiceError::new(
            iam_sorry_core::api::ProblemCode::BadRequest,
            "The Idempotency-Key can't be used: 8 to 64 letters, digits, - and _ are allowed.",
        ))
    }

    /// As it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
