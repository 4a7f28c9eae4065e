//! STS and IAM on the official AWS SDK: temporary credentials that really are the user's, the one life of an access key
//! ([`key`]), and the command line's journal, which leaves no key behind that a run has made.
//!
//! The command line and the department service use this crate, so it reads no environment and no HOME, prints nothing and
//! picks no exit code: settings, folders, credentials and the wish to stop come in by value, progress goes out through
//! a callback, and what went wrong is an [`errors::AwsError`] whose text is what a person reads. The caller starts the
//! tokio runtime; one thread is enough.

pub mod client;
mod clock;
pub mod errors;
pub mod issue;
mod issuer;
pub mod journal;
mod kept;
pub mod key;
mod key_quota;
pub mod lookup;
pub mod managed;
mod non_idempotent;
pub mod policy;
pub mod recover;
pub mod removal;
mod request_context;
mod retry;
pub mod rotate;
pub mod service_policy;
mod session;
#[cfg(feature = "simulation")]
pub mod simulation;
mod text;
mod transport;
pub mod users;
mod work;

pub use client::{Aws, Settings};
pub use errors::AwsError;
pub use non_idempotent::NotMade;
pub use retry::{Cancel, RetryPolicy};
pub use work::{Allowed, keeping_request_ids, last_unanswered, only_while, take_request_ids};
