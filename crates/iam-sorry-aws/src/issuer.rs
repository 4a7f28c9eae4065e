//! What making a key for a user takes, and what is heard of it meanwhile.

use std::fmt;
use std::time::Duration;

use iam_sorry_core::credentials::Credentials;

use crate::client::Aws;
use crate::journal::JournalFolder;
use crate::retry::{Cancel, RetryPolicy};

/// Who makes a key, for which profile, and how.
#[derive(Clone, Copy)]
pub struct Issuer<'a> {
    /// STS and IAM.
    pub aws: &'a Aws,
    /// Who makes and deletes the key.
    pub manager: &'a Credentials,
    /// Name of the manager's profile, for the journal.
    pub manager_profile: &'a str,
    /// Name of the profile that the credentials are for, for the journal.
    pub target_profile: &'a str,
    /// The journal that the intent is written to first.
    pub journal: &'a JournalFolder,
    /// Hears what is going on.
    pub progress: &'a (dyn Fn(&Progress) + Send + Sync),
    /// The user's wish to stop.
    pub cancel: &'a Cancel,
    /// For how long what is repeated.
    pub retry: &'a RetryPolicy,
}

impl fmt::Debug for Issuer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("manager_profile", &self.manager_profile).finish_non_exhaustive()
    }
}

/// What is going on; `Display` is a line for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The user is known to IAM; a key is about to be made.
    MakingKey {
        /// The user.
        user: String,
    },
    /// The user has two keys, one of which another run is about to delete.
    WaitingForRoom {
        /// The user.
        user: String,
    },
    /// The key exists.
    KeyMade {
        /// Its ID.
        key_id: String,
    },
    /// AWS does not know the new key yet.
    WaitingForKey {
        /// Its ID.
        key_id: String,
        /// Time waited so far.
        waited: Duration,
        /// How long it is waited for at most.
        limit: Duration,
    },
    /// The key is about to be deleted.
    DeletingKey {
        /// Its ID.
        key_id: String,
    },
    /// The delete failed and is tried again.
    DeleteAgain {
        /// Its ID.
        key_id: String,
        /// What AWS or the network said.
        cause: String,
    },
    /// The answer to CreateAccessKey was lost; looking whether a key was made.
    LookingForLostKey {
        /// The user.
        user: String,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakingKey { user } => write!(f, "Making a short-lived access key for '{user}'"),
            Self::WaitingForRoom { user } => {
                write!(f, "Waiting for another run of iam-sorry to delete its key of '{user}'")
            }
            Self::KeyMade { key_id } => write!(f, "Access key {key_id} made"),
            Self::WaitingForKey { key_id, waited, limit } => write!(
                f,
                "Waiting for AWS to accept the new access key {key_id} ({} s of at most {} s)",
                waited.as_secs(),
                limit.as_secs()
            ),
            Self::DeletingKey { key_id } => write!(f, "Deleting access key {key_id}"),
            Self::DeleteAgain { key_id, cause } => {
                write!(f, "Access key {key_id} is not deleted yet, trying again: {cause}")
            }
            Self::LookingForLostKey { user } => {
                write!(f, "The answer to CreateAccessKey was lost; looking whether '{user}' has a new key")
            }
        }
    }
}
