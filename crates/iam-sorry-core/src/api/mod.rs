//! The types of the service's HTTP interface (`/api/v1`), shared by the service and the command line.
//!
//! JSON in both directions, field names in snake_case, times as RFC 3339 in UTC, durations in whole seconds. Unknown
//! fields are refused in requests and ignored in answers. Errors are RFC 9457 problems with a fixed
//! [`ProblemCode`]. A request that changes something bears an `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header): the same key again gives the same outcome, without its secrets.

mod action_name;
mod actions;
mod login;
mod problem;
mod records;
mod shown_once;

pub use action_name::ActionName;
pub use actions::*;
pub use login::*;
pub use problem::{Problem, ProblemCode};
pub use records::*;

pub use crate::changes::{Change, DurationLimit, KeptReason, RotationKey, UserPart};

/// Where the interface lives under the service's origin.
pub const PREFIX: &str = "/api/v1";

/// The header that makes a request safe to send again; 8 to 64 letters, digits, `-` and `_`.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
