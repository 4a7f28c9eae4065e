//! STS and IAM on the official AWS SDK: temporary credentials that really are the user's, the one life of an access key
//! ([`key`]), and the command line's journal, which leaves no key behind that a run has made.
//!
//! The command line and the department service use this crate, so it reads no environment and no HOME, prints nothing and
//! picks no exit code: settings, folders, credentials and the wish to stop come in by value, progress goes out through
//! a callback, and what went wrong is an [`errors::AwsError`] whose text is what a person reads. The caller starts the
//! tokio runtime; one thread is enough.

/// `planted!("name": bad, good)`, or `planted!("name": bad)` for a step too many: a fault that the simulator must find, in a build of its own. Elsewhere, only what is good is
/// compiled.
#[cfg(feature = "simulation")]
macro_rules! planted {
    ($name:literal: $bad:expr, $good:expr) => {
        if crate::simulation::is_planted($name) { $bad } else { $good }
    };
    ($name:literal: $bad:expr) => {
        if crate::simulation::is_planted($name) {
            $bad;
        }
    };
}
#[cfg(not(feature = "simulation"))]
macro_rules! planted {
    ($name:literal: $bad:expr, $good:expr) => {
        $good
    };
    ($name:literal: $bad:expr) => {};
}

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
