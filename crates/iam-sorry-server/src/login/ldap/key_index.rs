//! The SSH keys of a directory's people, as they were when they were read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iam_sorry_core::ssh::KeyId;
use iam_sorry_core::timestamp::Timestamp;

use super::failure::Failure;
use crate::login::singleflight::Singleflight;

/// Whose key is whose, as it was when it was read.
#[derive(Default)]
pub(super) struct KeyIndex {
    read: Mutex<Read>,
    /// The reading that is under way, for all who wait for it.
    pub(super) reading: Singleflight<Result<(), Failure>>,
}

#[derive(Clone, Default)]
pub(super) struct Read {
    pub(super) at: Option<Timestamp>,
    pub(super) by_key: Arc<HashMap<KeyId, Vec<String>>>,
}

impl KeyIndex {
    pub(super) fn read(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
