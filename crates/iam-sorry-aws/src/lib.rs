//! STS and IAM on the official AWS SDK: temporary credentials that really are the user's, and the journal that makes
//! every access key created on the way go away again.
//!
//! A command line uses this crate today and a server will, so it reads no environment and no HOME, prints nothing and
//! picks no exit code: settings, folders, credentials and the wish to stop come in by value, progress goes out through
//! a callback, and what went wrong is an [`errors::AwsError`] whose text is what a person reads. The caller starts the
//! tokio runtime; one thread is enough.

pub mod client;
mod clock;
pub mod errors;
pub mod issue;
pub mod journal;
mod key;
mod key_quota;
pub mod lookup;
pub mod managed;
mod non_idempotent;
pub mod policy;
pub mod primitives;
mod record;
pub mod recover;
pub mod removal;
mod request_context;
pub mod rotate;
pub mod service_policy;
#[cfg(feature = "simulation")]
pub mod simulation;
mod text;
mod transport;
pub mod users;
mod wait;

pub use client::{Aws, Settings};
pub use clock::{Allowed, keeping_request_ids, only_while, take_request_ids};
pub use errors::AwsError;
pub use wait::{Cancel, Timeouts};
