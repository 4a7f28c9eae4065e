//! Names that nobody can guess: of operations and sessions.

use iam_sorry_core::api::ProblemCode;

use crate::error::ServiceError;
use crate::runtime;

/// 128 random bits, in hexadecimal digits.
///
/// # Errors
/// internal if the system gives no random numbers.
pub(crate) fn random_name() -> Result<String, ServiceError> {
    let mut bytes = [0_u8; 16];
    runtime::fill_random(&mut bytes)
        .map_err(|_| ServiceError::new(ProblemCode::Internal, "The system gives no random numbers."))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
