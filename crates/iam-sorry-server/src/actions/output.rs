//! What an action that gives something secret answers.

use iam_sorry_core::api::Done;

/// The answer to a request for something secret.
#[derive(Clone, Debug)]
pub enum Output<T> {
    /// Made, and shown this once.
    New(T),
    /// A dry run: nothing was made.
    DryRun(Done),
}
